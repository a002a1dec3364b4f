"""The main job on a real vLLM: it serves and answers, says why a context cannot fit, and comes back after a death."""

from __future__ import annotations

import json
import os
import signal

import psutil
import pytest

from nexus_orch.record.events import AttemptEnded, Family, Finished, Judged, Launched
from nexus_orch.types import Failed, Ready, Vanished
from tests.session.conftest import Desk, wait_for

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]


def _is_ready(desk: Desk) -> bool:
    return any(isinstance(entry.verdict, Ready) for entry in desk.journal(Judged))


def test_it_serves_and_answers(engine_desk: Desk) -> None:
    done = engine_desk.run(
        'probe.question="What is the capital of France?"', "probe.then=stop", "--format", "json", patience_seconds=600
    )
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines() if '"answer"' in line]
    assert "Paris" in json.dumps(answers)
    (finished,) = engine_desk.journal(Finished)
    assert finished.measured["tokens_per_second"] > 0
    plan = json.loads((engine_desk.run_folders[0] / "plan.json").read_text(encoding="utf-8"))
    assert finished.measured["kv_cache_tokens"] == pytest.approx(plan["kv_cache_tokens"], rel=0.01)


def test_a_context_that_cannot_fit_is_refused_and_the_longest_that_can_is_true(engine_desk: Desk) -> None:
    small = "memory.kv_cache.size_gib=0.1"
    refused = engine_desk.run(small, "model.max_model_len=8192")
    assert refused.returncode == 3
    assert engine_desk.run_folders == []
    longest = int(_number_after("max_model_len <=", refused.stderr))
    served = engine_desk.run(small, f"model.max_model_len={longest}", "probe.then=stop", patience_seconds=600)
    assert served.returncode == 0, served.stderr
    (finished,) = engine_desk.journal(Finished)
    assert longest <= finished.measured["kv_cache_tokens"] < longest + 256


def test_an_engine_whose_worker_is_killed_while_it_serves_is_started_again(engine_desk: Desk) -> None:
    running = engine_desk.start()
    wait_for(lambda: _is_ready(engine_desk), "ready", 600)
    family = engine_desk.journal(Family)[-1].processes
    workers = [process.pid for process in family if "Worker" in " ".join(_command_line(process.pid))]
    assert workers
    os.kill(workers[0], signal.SIGKILL)
    wait_for(lambda: engine_desk.journal(Vanished), "the end of the worker", 600)
    wait_for(lambda: len(engine_desk.journal(Launched)) == 2, "the second launch", 600)
    wait_for(lambda: isinstance(engine_desk.journal(Judged)[-1].verdict, Ready), "ready again", 600)
    running.send_signal(signal.SIGINT)
    _, told = running.communicate(timeout=600)
    assert running.returncode == 130, told
    first, _ = engine_desk.journal(AttemptEnded)
    assert isinstance(first.verdict, Failed) and first.verdict.cause in ("worker_died", "engine_dead", "host_oom")


def _number_after(words: str, text: str) -> str:
    return text.partition(words)[2].split()[0].rstrip(",;").replace(",", "")


def _command_line(pid: int) -> list[str]:
    try:
        return psutil.Process(pid).cmdline()
    except psutil.Error:
        return []
