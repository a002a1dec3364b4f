"""The example of a strategy: planned, offered as a remedy, launched and proved, without a profile and without any
change in nexus_orch."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nexus_orch.cli import main
from nexus_orch.plan.make import make_plan
from nexus_orch.plugin_manager import load_plugins
from nexus_orch.record.events import AttemptEnded, Finished, Planned, Proved
from nexus_orch.testing import FakeEngine, check_loader
from nexus_orch.types import GIB, Failed, Stopped
from tests.plan.cases import make_facts, make_gpu, make_spec
from tests.session.conftest import Desk
from tests.session.test_proof import CARD, SHARED

Behave = Callable[[FakeEngine], None]
PROJECT = Path(__file__).parents[2] / "examples" / "plugin_pageable_weights"
RUN = ["--project", str(PROJECT), "hardware=rtx4090", "model=qwen14b", "--format", "json"]
STOP = "probe.then=stop"


def plan(capsys: pytest.CaptureFixture[str], *overrides: str, version: str = "0.33.0") -> tuple[int, dict[str, Any]]:
    code = main(["plan", *RUN, f"engine.version={version}", "hardware.host.ram_gib=64", *overrides])
    return code, json.loads(capsys.readouterr().out)


def test_it_keeps_its_promises() -> None:
    check_loader(load_plugins(PROJECT).loaders()["pageable"], releases=["0.25.1", "0.28.0", "0.33.0"])


def test_it_is_planned_with_its_own_speed(capsys: pytest.CaptureFixture[str]) -> None:
    code, mine = plan(capsys, "memory.strategy=pageable")
    _, ours = plan(capsys, "memory=hybrid")
    assert (code, mine["loader"]) == (0, "pageable")
    assert mine["host"]["pinned_bytes"] == 0
    assert 0 < mine["prediction"]["decode_tokens_per_second"] < ours["prediction"]["decode_tokens_per_second"]
    assert mine["env"]["VLLM_WEIGHT_OFFLOADING_DISABLE_UVA"] == "1"
    assert "--cpu-offload-gb" in mine["argv"] and "--enforce-eager" in mine["argv"]


def test_a_faster_bus_makes_it_faster(capsys: pytest.CaptureFixture[str]) -> None:
    slow, fast = (
        plan(capsys, "memory.strategy=pageable", f"hardware.gpu.pcie_gbps={rate}")[1]["prediction"] for rate in (8, 50)
    )
    assert fast["decode_tokens_per_second"] > 3 * slow["decode_tokens_per_second"]


def test_a_remedy_names_it_as_it_can_be_written(capsys: pytest.CaptureFixture[str]) -> None:
    """The RAM holds the weights as they are, not the pinned and rounded copies of this release."""
    tight = ("hardware.host.ram_gib=16",)
    code, document = plan(capsys, "memory=vram_only", *tight, version="0.30.0")
    assert code == 3
    (problem,) = document["problems"]
    override = problem["remedy"].split(", or ")[-1].partition(":")[0]
    assert override == "memory.strategy=pageable"
    assert plan(capsys, override, *tight, version="0.30.0")[0] == 0


def test_it_is_the_remedy_where_too_little_ram_can_be_pinned(capsys: pytest.CaptureFixture[str]) -> None:
    code, document = plan(capsys, "memory=hybrid", "hardware.host.ram_gib=16", version="0.30.0")
    assert code == 3
    assert "memory.strategy=pageable: " in document["problems"][0]["remedy"]


def test_the_planner_takes_it_where_nothing_else_can_serve() -> None:
    facts = make_facts("Qwen/Qwen2.5-14B-Instruct", make_gpu(), version="0.33.0", ram_gib=64)
    loaders = load_plugins(PROJECT).loaders()
    assert make_plan(make_spec(), facts, loaders).loader == "hybrid"
    host = replace(facts.machine.host, pinned_limit_bytes=4 * GIB)
    little = replace(facts, machine=replace(facts.machine, host=host))
    chosen = make_plan(make_spec(), little, loaders)
    assert chosen.fits and chosen.loader == "pageable"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["memory.offload_backend=uva"], "the strategy has one way of its own"),
        (["memory.cpu_offload_gib=0"], "the strategy keeps weights in host RAM"),
        (["memory.enforce_eager=false"], "cannot be part of a CUDA graph"),
        (["+engine.env.VLLM_WEIGHT_OFFLOADING_DISABLE_UVA=0"], "layers get copies instead of reading over the bus"),
        (["memory.cpu_offload_gib=500"], "there is no more to offload"),
    ],
)
def test_what_contradicts_it_is_told(capsys: pytest.CaptureFixture[str], overrides: list[str], message: str) -> None:
    assert main(["plan", *RUN, "memory.strategy=pageable", "engine.version=0.33.0", *overrides]) == 2
    captured = capsys.readouterr()
    assert message in captured.err + captured.out


def test_a_release_without_it_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    _, document = plan(capsys, "memory.strategy=pageable", version="0.25.1")
    assert "0.28.0 and later do" in document["problems"][0]["message"]


# Launched


@pytest.fixture
def card(desk: Desk) -> Desk:
    """A desk with the plugin, and a card that is too small for the model."""
    root = str(Path(__file__).parents[2])
    (desk.folder / "plugins" / "card.py").write_text(CARD.format(root=root), encoding="utf-8")
    shutil.copy(PROJECT / "plugins" / "loader_pageable.py", desk.folder / "plugins")
    desk.base = (*SHARED, "memory.strategy=pageable")
    return desk


def test_a_launch_proves_it(card: Desk, behave: Behave) -> None:
    behave(FakeEngine(version="0.32.0"))
    done = card.run(STOP)
    assert done.returncode == 0, done.stdout + done.stderr
    (planned,) = card.journal(Planned)
    assert planned.plan["proof"]["mechanism"] == "copy_on_use"
    (ended,) = card.journal(AttemptEnded)
    assert ended.verdict == Stopped("done")
    (offloaded,) = [line for line in card.journal(Proved)[-1].comparisons if line.name == "weights in host RAM"]
    assert offloaded.planned and abs(offloaded.difference or 1.0) < 0.1


def test_an_engine_that_does_not_do_it_is_found_out(card: Desk, behave: Behave) -> None:
    behave(FakeEngine(version="0.32.0", offload_ignored=True))
    done = card.run(STOP)
    assert done.returncode == 4
    assert card.journal(Finished)[0].cause == "offload_ignored"
    assert len(card.journal(AttemptEnded)) == 1  # its strategy is pinned, and it knows no other way


def test_half_of_it_is_told_with_the_mechanisms_own_remedy(card: Desk, behave: Behave) -> None:
    behave(FakeEngine(version="0.32.0", offload_share=0.5))
    done = card.run(STOP)
    assert done.returncode == 4
    (ended,) = card.journal(AttemptEnded)
    assert isinstance(ended.verdict, Failed)
    assert ended.verdict.remedy.startswith("memory.strategy=hybrid, or tell the planner")
