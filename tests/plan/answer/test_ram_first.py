"""Whether the weights are read ahead and RAM is tried out, with a reason, and what a pin without use is told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nexus_orch.plan.answer.ram_first import CHANNELS, ENABLED, RESERVE, choose_channels, reads_ahead
from nexus_orch.plan.make import make_plan
from nexus_orch.types import GIB, CheckpointFacts, Facts, Plan, PreloadSpec, Storage
from tests.plan.cases import LOADERS, make_facts, make_gpu, make_spec
from tests.plugins.plans import render

MODEL = "Qwen/Qwen2.5-7B-Instruct"


def _with_checkpoint(facts: Facts, storage: Storage = "solid", cached_gib: float = 0.0) -> Facts:
    sizes = (4 * GIB, 4 * GIB, 4 * GIB, 2 * GIB)
    files = tuple(f"/models/m/{number}.safetensors" for number, _ in enumerate(sizes))
    checkpoint = CheckpointFacts(
        "safetensors", files, sum(sizes), file_bytes=sizes, cached_bytes=int(cached_gib * GIB), storage=storage
    )
    model = replace(facts.model, path="/models/m", is_local=True, checkpoint=checkpoint)
    return replace(facts, model=model)


def _plan(facts: Facts, preload: PreloadSpec | None = None, settings: dict[str, Any] | None = None) -> Plan:
    spec = make_spec(settings)
    return make_plan(replace(spec, memory=replace(spec.memory, preload=preload or PreloadSpec())), facts, LOADERS)


def _value(plan: Plan, key: str) -> Any:
    choice = plan.choice(key)
    return None if choice is None else choice.value


@pytest.mark.parametrize("gpus", [(), (make_gpu(),)])
def test_weights_that_lie_here_and_fit_are_read_ahead(gpus: tuple[Any, ...]) -> None:
    plan = _plan(_with_checkpoint(make_facts(MODEL, *gpus), cached_gib=3))
    choice = plan.choice(ENABLED)
    assert choice is not None
    assert (choice.value, choice.origin) == (True, "derived")
    assert choice.reason.startswith("14.0 GiB of weights fit into RAM beside the run (3.0 are there already)")
    assert _value(plan, CHANNELS) == 8


def test_weights_that_do_not_fit_beside_the_run_are_not() -> None:
    plan = _plan(_with_checkpoint(make_facts(MODEL, make_gpu(), ram_gib=16)))
    choice = plan.choice(ENABLED)
    assert choice is not None
    assert choice.value is False
    assert choice.reason == "14.0 GiB of weights do not fit into the 13.6 GiB of RAM that the run leaves"
    assert plan.choice(CHANNELS) is None


def test_weights_that_are_elsewhere_or_in_memory_are_not() -> None:
    away = _plan(make_facts(MODEL, make_gpu()))
    assert _value(away, ENABLED) is False
    in_memory = _plan(_with_checkpoint(make_facts(MODEL, make_gpu()), storage="memory"))
    assert _value(in_memory, ENABLED) is False


def test_a_pin_is_kept_and_told_when_it_has_no_use() -> None:
    plan = _plan(make_facts(MODEL, make_gpu()), PreloadSpec(enabled=True, channels=3))
    assert plan.fits
    assert (_value(plan, ENABLED), _value(plan, CHANNELS)) == (True, None)
    assert any(note.startswith(f"{ENABLED}=true and {CHANNELS}=3, but nothing is read ahead") for note in plan.notes)
    without = _plan(_with_checkpoint(make_facts(MODEL, make_gpu())), PreloadSpec(enabled=False, channels=3))
    assert f"{CHANNELS}=3 has no use: {ENABLED}=false" in without.notes


def test_nothing_says_that_weights_which_are_not_here_were_read_ahead() -> None:
    away = _plan(make_facts(MODEL, make_gpu(), version="0.33.0"), PreloadSpec(enabled=True))
    assert any(note.startswith(f"{ENABLED}=true, but nothing is read ahead") for note in away.notes)
    assert away.choice(CHANNELS) is None
    assert not reads_ahead(away)
    assert "--safetensors-load-strategy" not in render(away, "0.33.0").argv
    here = _plan(_with_checkpoint(make_facts(MODEL, make_gpu(), version="0.33.0")), PreloadSpec(enabled=True))
    assert reads_ahead(here)
    assert "--safetensors-load-strategy" in render(here, "0.33.0").argv


def test_ram_is_tried_out_when_some_of_it_must_be_locked() -> None:
    hybrid = make_facts("Qwen/Qwen2.5-32B-Instruct", make_gpu(), ram_gib=256)
    assert _value(_plan(hybrid, settings={"memory.strategy": "hybrid"}), RESERVE) is True
    assert _value(_plan(make_facts(MODEL, make_gpu())), RESERVE) is False
    pinned = _plan(make_facts(MODEL, make_gpu()), settings={"memory.reserve_host": True})
    choice = pinned.choice(RESERVE)
    assert choice is not None
    assert (choice.value, choice.origin) == (True, "pinned")


@pytest.mark.parametrize(
    ("storage", "cpu_count", "channels"),
    [("network", 64, 8), ("rotating", 64, 2), ("solid", 64, 8), ("solid", 2, 4), ("unknown", 1, 2)],
)
def test_readers_suit_the_storage(storage: Storage, cpu_count: int, channels: int) -> None:
    assert choose_channels(storage, cpu_count)[0] == channels
