"""What a calibration makes of the plan and the numbers of a real launch, and how it is shown."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nexus_orch.choose import choose_adapter
from nexus_orch.errors import ExitCode, Problem
from nexus_orch.plugin_manager import load_plugins
from nexus_orch.session.prepare import Preparation
from nexus_orch.session.run import RunOutcome
from nexus_orch.sweep.calibration import GPU_VARIATIONS, Launch, choose_variations, make_document, make_launch
from nexus_orch.types import GIB
from nexus_orch.view.calibration import render_calibration
from tests.judge.logs import lines_of, read
from tests.plan.cases import launch_facts, launches, make_spec, plan_launch

OVERRIDES = ("model=qwen7b", "hardware=h100")


@pytest.fixture
def before() -> Preparation:
    """Qwen2.5-7B with CUDA graphs on an H100, planned."""
    case = next(case for case in launches() if case["name"] == "q7_default")
    facts, plan = launch_facts(case), plan_launch(case)
    plugins = load_plugins(None)
    adapter = choose_adapter(plugins.adapters(), facts.engine.version)
    provider = plugins.engines()["local"]
    return Preparation(plan.spec, facts, provider, plan, adapter.render(plan, facts.engine), adapter.name)


@pytest.fixture
def launch(before: Preparation) -> Launch:
    """The same launched, as its log tells."""
    numbers = {**read(*lines_of("0.25.1-h100-q7_default")).measured.numbers(), "tokens_per_second": 161.68}
    outcome = RunOutcome("20261123-q7", ExitCode.GOOD, measured=numbers)
    return make_launch(before.spec, OVERRIDES, before, outcome, 90.0)


def _document(*launches: Launch) -> dict[str, Any]:
    return {**make_document(launches), "date": "2026-11-23"}


def test_a_launch_compares_the_plan_with_the_log(launch: Launch) -> None:
    assert launch.outcome == "measured"
    assert launch.machine == "H100 SXM 81078 MiB, linux, driver unknown"
    assert launch.engine == "vLLM 0.25.1 (cuda)"
    assert launch.measured["kv_cache_tokens"] == 1_071_136
    assert launch.measured["kv_cache_bytes"] == pytest.approx(57.21 * GIB, abs=1)
    # the balance: 0.92 x 79.1787 GiB less 14.29 GiB of weights and 57.21 GiB of cache
    assert launch.measured["overhead_bytes"] == pytest.approx(1.344 * GIB, abs=0.01 * GIB)
    assert "activation_bytes" not in launch.measured
    for quantity in ("weights_bytes", "kv_cache_bytes", "kv_cache_tokens"):
        assert launch.predicted[quantity] == pytest.approx(launch.measured[quantity], rel=0.03)


def test_the_document_tells_the_errors(launch: Launch) -> None:
    (told,) = _document(launch)["launches"]
    error = launch.predicted["kv_cache_tokens"] - 1_071_136
    assert told["errors"]["kv_cache_tokens"] == {"absolute": error, "fraction": round(error / 1_071_136, 5)}
    assert set(told["errors"]) == set(launch.measured) & set(launch.predicted)


def test_the_table_of_one_launch(launch: Launch) -> None:
    learned = replace(launch, learned={"kv_cache_tokens": 1_071_136})
    text = render_calibration(_document(learned))
    first, _, header, *rows = text.splitlines()
    assert first == (
        "vLLM 0.25.1 (cuda) on H100 SXM 81078 MiB, linux, driver unknown, 2026-11-23; sizes in GiB of one rank"
    )
    assert header.split() == ["launch", "quantity", "predicted", "measured", "error", "%", "after", "learning", "%"]
    assert rows[0].split()[:4] == ["m", "model=qwen7b", "hardware=h100", "weights"]
    tokens = next(row for row in rows if "KV tokens" in row).split()
    assert tokens[3] == "1,071,136" and tokens[-2:] == ["1,071,136", "+0.0%"]
    assert next(row for row in rows if "weights" in row).split()[-2:] == ["-", "-"]


def test_what_all_launches_share_is_said_once(launch: Launch) -> None:
    eager = replace(launch, overrides=(*OVERRIDES, "memory.enforce_eager=true"))
    text = render_calibration(_document(launch, eager), markdown=True)
    assert "all with model=qwen7b hardware=h100\n" in text
    assert text.count("hardware=h100") == 1
    assert text.count("| m memory.enforce_eager=true ") == 1


def test_a_launch_without_measurements_is_told_below(launch: Launch) -> None:
    failed = replace(launch, outcome="failed", cause="weights_oom", measured={}, exit_code=4)
    text = render_calibration(_document(failed))
    assert text.endswith("m model=qwen7b hardware=h100: failed: weights_oom\n")
    assert "predicted" not in text


@pytest.mark.parametrize(
    ("exit_code", "cause", "outcome"),
    [(ExitCode.LAUNCH_FAILED, "weights_oom", "failed"), (ExitCode.INTERRUPTED, None, "interrupted")],
)
def test_how_a_launch_ended(before: Preparation, exit_code: ExitCode, cause: str | None, outcome: str) -> None:
    ended = RunOutcome("id", exit_code, cause, (Problem("first line\nsecond line"),))
    made = make_launch(before.spec, (), before, ended, 1.0)
    assert (made.outcome, made.exit_code, made.cause, made.message) == (outcome, int(exit_code), cause, "first line")


def test_what_the_user_pinned_is_not_varied() -> None:
    assert choose_variations(make_spec(), is_cpu=False) == GPU_VARIATIONS
    pinned = make_spec({"memory.enforce_eager": True})
    assert choose_variations(pinned, is_cpu=False) == (GPU_VARIATIONS[0], GPU_VARIATIONS[2])
    assert choose_variations(make_spec({"memory.kv_cache.size_gib": 1}), is_cpu=True) == ((),)
