"""A server that is short of memory: advice, a drained restart with a better plan, and never more than that."""

from __future__ import annotations

import json
import subprocess
import threading
import urllib.request
from collections.abc import Callable

from nexus_orch.judge.serving.advice import Advice
from nexus_orch.record.events import Adjusting, Advised, AttemptEnded, Blinded, Finished, Judged, Launched, Planned
from nexus_orch.testing import FakeEngine
from nexus_orch.types import Failed, Metric, Ready, Stopped
from tests.session.conftest import Desk, wait_for

Behave = Callable[[FakeEngine], None]
SHORT = FakeEngine(preemptions_per_second=5, waiting=12, busy=12, kv_cache_usage=1.0, enough_gib=2)
QUICK = ("limits.pressure_seconds=1", "limits.drain_seconds=1")


def _ready_attempts(desk: Desk) -> set[int]:
    return {entry.attempt for entry in desk.journal(Judged) if isinstance(entry.verdict, Ready)}


def _end(desk: Desk, running: subprocess.Popen[str]) -> int:
    """Stop the run; its exit code."""
    assert desk.nexus("stop", desk.run_folders[-1].name).returncode == 0
    running.communicate(timeout=60)
    return running.returncode


def _wait_for_samples(desk: Desk, count: int) -> None:
    """Until the server's metrics have been read so many times more (once a second)."""
    before = len(desk.journal(Metric))
    wait_for(lambda: len(desk.journal(Metric)) >= before + count, f"{count} readings")


def _advice(desk: Desk) -> list[Advice]:
    return [entry.advice for entry in desk.journal(Advised)]


def _kv_gib(desk: Desk) -> list[float]:
    """The size of the KV cache that each attempt was planned with."""
    return [
        next(choice["value"] for choice in planned.plan["choices"] if choice["key"] == "memory.kv_cache.size_gib")
        for planned in desk.journal(Planned)
    ]


def test_a_pinned_value_is_advised_once_shown_and_journalled(desk: Desk, behave: Behave) -> None:
    behave(SHORT)
    running = desk.start(*QUICK, "memory.dynamic=act", "memory.kv_cache.size_gib=1", "--format", "plain")
    wait_for(lambda: desk.journal(Advised), "the advice")
    _wait_for_samples(desk, 2)
    desk.nexus("stop", desk.run_folders[-1].name)
    shown, _ = running.communicate(timeout=60)
    (advice,) = _advice(desk)
    assert advice.kind in ("preemptions", "kv_cache_full") and advice.lesson is None
    assert advice.change == "memory.kv_cache.size_gib=2"
    assert "would hold 24 requests instead of 12" in advice.effect
    assert shown.count("advice: ") == 1 and "preemptions a minute" in shown
    assert len(desk.journal(Launched)) == 1 and not desk.journal(Adjusting)


def test_act_restarts_with_the_better_plan_and_no_more_often_than_allowed(desk: Desk, behave: Behave) -> None:
    """More is never enough for this engine: from 1 to 2 GiB, and no further."""
    behave(FakeEngine(preemptions_per_second=5, waiting=12, busy=12, kv_cache_usage=1.0))
    running = desk.start(*QUICK, "memory.dynamic=act", "limits.adjustments=1")
    wait_for(lambda: len(_advice(desk)) == 2, "the second advice")
    _wait_for_samples(desk, 2)
    assert _end(desk, running) == 0
    assert _kv_gib(desk) == [1.0, 2.0]
    (adjusting,) = desk.journal(Adjusting)
    assert (adjusting.lesson.key, adjusting.lesson.value) == ("memory.kv_cache.size_gib", 2.0)
    assert [advice.lesson is not None for advice in _advice(desk)] == [True, False]
    first, second = desk.journal(AttemptEnded)
    assert first.verdict == Stopped("adjustment: memory.kv_cache.size_gib=2") and first.lessons == (adjusting.lesson,)
    assert isinstance(second.verdict, Stopped)
    argv = json.loads((desk.run_folders[-1] / "command.json").read_text(encoding="utf-8"))["argv"]
    assert argv[argv.index("--kv-cache-memory-bytes") + 1] == str(2 * 2**30)


def test_clients_get_their_answers_before_the_restart(desk: Desk, behave: Behave) -> None:
    """Its metrics tell of trouble for 8 seconds; a request of 2 seconds that comes meanwhile is answered."""
    behave(
        FakeEngine(
            preemptions_per_second=5,
            waiting=12,
            busy=12,
            kv_cache_usage=1.0,
            short_seconds=8,
            tokens_per_second=6,
        )
    )
    running = desk.start("limits.pressure_seconds=1", "limits.drain_seconds=40", "memory.dynamic=act")
    wait_for(lambda: desk.journal(Adjusting), "the adjustment")
    answers: list[str] = []
    url = desk.journal(Launched)[0].url
    client = threading.Thread(target=lambda: answers.append(_complete(url)))
    client.start()
    client.join(timeout=60)
    wait_for(lambda: 2 in _ready_attempts(desk), "the second attempt to be ready")
    _end(desk, running)
    assert answers and "Paris" in answers[0]


def _complete(url: str) -> str:
    body = json.dumps({"prompt": "The capital of France is", "max_tokens": 12}).encode()
    request = urllib.request.Request(f"{url}/v1/completions", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        return str(response.read())


def test_an_adjusted_plan_that_fails_is_taken_back_once(desk: Desk, behave: Behave) -> None:
    behave(FakeEngine(preemptions_per_second=5, waiting=12, busy=12, kv_cache_usage=1.0, most_gib=1))
    running = desk.start(*QUICK, "memory.dynamic=act")
    wait_for(lambda: 3 in _ready_attempts(desk), "the third attempt to be ready")
    wait_for(lambda: len(_advice(desk)) == 2, "advice that is not acted on")
    _wait_for_samples(desk, 2)
    assert _end(desk, running) == 0
    assert _kv_gib(desk) == [1.0, 2.0, 1.0]
    assert isinstance(desk.journal(AttemptEnded)[1].verdict, Failed)
    assert desk.journal(Finished)[0].exit_code == 0


def test_a_server_without_log_stats_is_said_to_be_unwatched(desk: Desk) -> None:
    running = desk.start(*QUICK, "serve.extra_args=['--disable-log-stats']", "--format", "plain")
    wait_for(lambda: desk.journal(Blinded), "the warning")
    assert desk.nexus("stop", desk.run_folders[-1].name).returncode == 0
    shown, _ = running.communicate(timeout=60)
    assert "would not be noticed: /metrics holds no sample that is known" in shown
    assert len(desk.journal(Blinded)) == 1
