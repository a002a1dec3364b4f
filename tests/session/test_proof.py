"""A launch is proved: plan and measurement side by side, and an offload that is not there is tried the other way.

The card is a stand-in for NVML inside `nexus-run`; the engine is the fake one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from nexus_orch.record.events import AttemptEnded, Finished, Planned, Proved
from nexus_orch.testing import FakeEngine
from nexus_orch.types import Failed, Stopped
from tests.session.conftest import Desk

Behave = Callable[[FakeEngine], None]
STOP = "probe.then=stop"
CARD = '''"""A graphics card of 6 GiB, as its driver would tell."""

import sys

sys.path.insert(0, {root!r})
from tests.nvml_driver import Card, Driver

sys.modules["pynvml"] = Driver(Card(total_mib=6144, used_mib=0))
'''
SHARED = ("hardware=auto", "model=qwen3b", "engine.kind=fake", "limits.stop_seconds=2", "memory.reserve_host=false")


@pytest.fixture
def card(desk: Desk) -> Desk:
    """A desk with a card that is too small for the model."""
    root = str(Path(__file__).parents[2])
    (desk.folder / "plugins" / "card.py").write_text(CARD.format(root=root), encoding="utf-8")
    desk.base = SHARED
    return desk


def _backends(desk: Desk) -> list[str]:
    """The way of offloading that each attempt was planned with."""
    return [
        next(choice["value"] for choice in planned.plan["choices"] if choice["key"] == "memory.offload_backend")
        for planned in desk.journal(Planned)
    ]


def test_the_proof_is_shown_journalled_and_reported(desk: Desk, behave: Behave) -> None:
    behave(FakeEngine(kv_cache_gib=1.0, kv_cache_tokens=85_248))
    done = desk.run(STOP, "--format", "json")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    (told,) = [line for line in lines if line["kind"] == "proof"]
    tokens = next(line for line in told["comparisons"] if line["unit"] == "tokens")
    assert tokens["measured"] == 85_248
    assert tokens["error"] == pytest.approx(85_248 / tokens["planned"] - 1)
    (proved,) = desk.journal(Proved)
    assert {line.name for line in proved.comparisons} >= {"KV cache", "concurrency", "host RAM"}
    report = desk.nexus("report", desk.run_folders[-1].name)
    assert "85,248 tokens" in report.stdout and " error |" in report.stdout


def test_plain_lines_have_the_table(desk: Desk, behave: Behave) -> None:
    behave(FakeEngine(kv_cache_gib=1.0, kv_cache_tokens=85_248))
    done = desk.run(STOP, "--format", "plain")
    table = done.stdout.partition("plan and measurement:")[2]
    assert "planned" in table and "measured" in table and "85,248 tokens" in table


def test_an_ignored_offload_is_tried_the_other_way(card: Desk, behave: Behave) -> None:
    behave(FakeEngine(version="0.32.0", offloads_only="uva"))
    done = card.run(STOP, "--format", "plain")
    assert done.returncode == 0, done.stdout + done.stderr
    assert _backends(card) == ["prefetch", "uva"]
    first, second = card.journal(AttemptEnded)
    assert isinstance(first.verdict, Failed) and first.verdict.cause == "offload_ignored"
    assert "GiB of each card were planned" in first.verdict.evidence[0]
    assert [(lesson.key, lesson.value) for lesson in first.lessons] == [("memory.offload_backend", "uva")]
    assert second.verdict == Stopped("done")
    offloaded = next(line for line in card.journal(Proved)[-1].comparisons if line.name == "weights in host RAM")
    assert offloaded.difference is not None and abs(offloaded.difference) < 0.1
    assert "attempt 2: the engine did not offload what was planned with prefetch" in done.stdout


def test_an_engine_that_never_offloads_is_given_up_after_both_ways(card: Desk, behave: Behave) -> None:
    behave(FakeEngine(version="0.32.0", offload_ignored=True))
    done = card.run(STOP, "limits.attempts=5")
    assert done.returncode == 4
    assert _backends(card) == ["prefetch", "uva"]
    assert card.journal(Finished)[0].cause == "offload_ignored"


def test_a_pinned_way_of_offloading_ends_with_the_remedy(card: Desk, behave: Behave) -> None:
    behave(FakeEngine(version="0.32.0", offloads_only="prefetch"))
    done = card.run(STOP, "memory.offload_backend=uva")
    assert done.returncode == 4
    assert len(card.journal(AttemptEnded)) == 1
    assert "offload_ignored" in done.stderr and "remedy:" in done.stderr


def test_half_of_the_offload_is_not_the_offload(card: Desk, behave: Behave) -> None:
    behave(FakeEngine(version="0.32.0", offload_share=0.5))
    done = card.run(STOP, "memory.offload_backend=uva")
    assert done.returncode == 4
    (ended,) = card.journal(AttemptEnded)
    assert isinstance(ended.verdict, Failed) and "GiB were planned (-5" in ended.verdict.evidence[0]
