"""`nexus-run` on a real process that behaves like vLLM: from the command line to the record."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress

import psutil
import pytest

from nexus_orch.record.events import AttemptEnded, Created, Family, Finished, Judged, Launched
from nexus_orch.testing import FakeEngine
from nexus_orch.types import Failed, Ready, Stopped, Vanished
from tests.session.conftest import Desk, wait_for

Behave = Callable[[FakeEngine], None]
ASK = ("probe.question='What is it?'", "probe.then=stop")


def _is_ready(desk: Desk) -> bool:
    return any(isinstance(entry.verdict, Ready) for entry in desk.journal(Judged))


def _family(desk: Desk) -> list[int]:
    return [key.pid for told in desk.journal(Family) for key in told.processes]


def _has_name(pid: int, name: str) -> bool:
    with suppress(psutil.Error):
        return psutil.Process(pid).name() == name
    return False


def test_a_run_serves_answers_and_leaves_a_record(desk: Desk) -> None:
    done = desk.run(*ASK)
    assert done.returncode == 0, done.stderr
    assert "What is it?" not in done.stderr
    (folder,) = desk.run_folders
    assert {path.name for path in folder.iterdir()} >= {
        "spec.yaml",
        "plan.json",
        "command.json",
        "engine.log",
        "journal.jsonl",
    }
    (finished,) = desk.journal(Finished)
    assert (finished.exit_code, finished.cause) == (0, None)
    assert finished.measured["output_tokens"] > 0
    assert "Application startup complete" in (folder / "engine.log").read_text(encoding="utf-8")
    assert sorted(path.name for path in desk.folder.iterdir()) == ["conf", "plugins"]


def test_the_answer_is_shown(desk: Desk) -> None:
    done = desk.run(*ASK, "--format", "plain")
    (finished,) = desk.journal(Finished)
    assert "tokens/s" in done.stdout
    assert finished.measured["tokens_per_second"] > 0


def test_json_lines_can_be_read_by_a_machine(desk: Desk) -> None:
    done = desk.run(*ASK, "--format", "json")
    kinds = [json.loads(line)["kind"] for line in done.stdout.splitlines()]
    assert {"plan", "verdict", "answer"} <= set(kinds)


def test_an_interrupt_stops_everything(desk: Desk) -> None:
    running = desk.start()
    wait_for(lambda: _is_ready(desk), "ready")
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)
    assert running.returncode == 130
    assert desk.journal(Finished)[0].exit_code == 130


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_closed_terminal_stops_everything(desk: Desk, number: signal.Signals) -> None:
    running = desk.start()
    wait_for(lambda: desk.journal(Launched), "the launch")
    running.send_signal(number)
    running.communicate(timeout=60)
    assert running.returncode == 5


def test_an_engine_that_ignores_signals_is_killed(desk: Desk, behave: Behave) -> None:
    behave(FakeEngine(ignores=("SIGINT", "SIGTERM"), core_ignores=("SIGINT", "SIGTERM"), core_escapes=True))
    running = desk.start("limits.stop_seconds=0.5")
    wait_for(lambda: _is_ready(desk), "ready")
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)
    assert running.returncode == 130


def test_a_context_that_does_not_fit_is_learned_when_it_was_left_open(desk: Desk, behave: Behave) -> None:
    behave(FakeEngine(max_context=3000))
    done = desk.run(*ASK)
    assert done.returncode == 0, done.stderr
    first, second = desk.journal(AttemptEnded)
    assert isinstance(first.verdict, Failed) and first.verdict.cause == "context_too_long"
    assert [(lesson.key, lesson.value) for lesson in first.lessons] == [("model.max_model_len", 2992)]
    assert second.verdict == Stopped("done")
    argv = json.loads((desk.run_folders[-1] / "command.json").read_text(encoding="utf-8"))["argv"]
    assert argv[argv.index("--max-model-len") + 1] == "2992"


def test_a_pinned_context_is_never_changed(desk: Desk, behave: Behave) -> None:
    behave(FakeEngine(max_context=3000))
    done = desk.run(*ASK, "model.max_model_len=4096")
    assert done.returncode == 4
    assert len(desk.journal(AttemptEnded)) == 1
    assert "context_too_long" in done.stderr and "remedy:" in done.stderr
    assert desk.journal(Finished)[0].cause == "context_too_long"


def test_a_start_without_progress_is_given_up(desk: Desk, behave: Behave) -> None:
    behave(FakeEngine(stall_at="loading"))
    done = desk.run("limits.startup_stall_seconds=1.5")
    assert done.returncode == 4
    assert desk.journal(Finished)[0].cause == "startup_stalled"


def test_health_alone_is_not_ready(desk: Desk, behave: Behave) -> None:
    behave(FakeEngine(health="always", completions="error"))
    done = desk.run("limits.startup_stall_seconds=3")
    assert done.returncode == 4
    assert not _is_ready(desk)


def test_an_engine_that_dies_while_serving_is_told(desk: Desk, behave: Behave) -> None:
    behave(FakeEngine(dies_after_requests=1))
    done = desk.run("limits.deaths=2")
    assert done.returncode == 4
    assert desk.journal(Finished)[0].cause in ("engine_dead", "worker_died", "host_oom")
    assert len(desk.journal(AttemptEnded)) == 2
    assert "it is started again" in done.stdout
    assert "it is given up: 2 deaths without 10 minutes or 1,000 output tokens between them" in done.stderr


def test_an_engine_that_is_killed_while_it_serves_is_started_again(desk: Desk) -> None:
    running = desk.start()
    wait_for(lambda: _is_ready(desk), "ready")
    os.kill(desk.journal(Launched)[0].engine.pid, signal.SIGKILL)
    wait_for(lambda: sum(isinstance(entry.verdict, Ready) for entry in desk.journal(Judged)) == 2, "ready again")
    assert desk.nexus("stop", "--all").returncode == 0
    running.communicate(timeout=60)
    assert running.returncode == 0
    first, second = desk.journal(AttemptEnded)
    assert isinstance(first.verdict, Failed) and isinstance(second.verdict, Stopped)


@pytest.mark.skipif(sys.platform != "linux", reason="names of processes are Linux's")
def test_a_core_that_is_gone_is_seen_although_the_server_lives_on(desk: Desk, behave: Behave) -> None:
    """vLLM issue 55510: the API server outlived its engine, and answered /health."""
    behave(FakeEngine(core_unwatched=True, workers=1))
    running = desk.start()
    wait_for(lambda: _is_ready(desk), "ready")
    (core,) = wait_for(lambda: [pid for pid in _family(desk) if _has_name(pid, "VLLM::EngineCor")], "the core")
    time.sleep(2)  # a process is watched once its name was read, which is looked for four times a second
    os.kill(core, signal.SIGKILL)
    wait_for(lambda: desk.journal(Vanished), "the end of the core")
    wait_for(lambda: sum(isinstance(entry.verdict, Ready) for entry in desk.journal(Judged)) == 2, "ready again")
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)
    (first, _) = desk.journal(AttemptEnded)
    assert isinstance(first.verdict, Failed) and first.verdict.cause == "worker_died"
    assert "and the main process lived on for" in first.verdict.evidence[0]


def test_a_detached_run_goes_on_without_its_terminal(desk: Desk) -> None:
    done = desk.run("--detach")
    assert done.returncode == 0, done.stderr
    (folder,) = desk.run_folders
    assert f"nexus stop {folder.name}" in done.stdout
    supervisor = psutil.Process(desk.journal(Created)[0].supervisor.pid)
    assert os.getsid(supervisor.pid) == supervisor.pid  # of no terminal
    wait_for(lambda: _is_ready(desk), "ready")
    assert desk.nexus("stop", folder.name).returncode == 0
    assert desk.journal(Finished)[0].exit_code == 0


def test_a_detached_run_that_is_refused_says_so_here(desk: Desk) -> None:
    done = desk.run("--detach", "memory.gpu_memory_utilisation=0.9")
    assert done.returncode == 2
    assert "gpu_memory_utilization" in done.stderr and desk.run_folders == []


def test_a_wish_to_stop_ends_the_pause_between_two_starts(desk: Desk, behave: Behave) -> None:
    behave(FakeEngine(dies_after_requests=1))
    running = desk.start()
    wait_for(lambda: len(desk.journal(AttemptEnded)) == 2, "the second death")  # 5 s are waited after it
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)
    assert running.returncode == 130
    assert len(desk.journal(Launched)) == 2


def test_a_taken_port_is_told_when_pinned(desk: Desk) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", desk.port))
        other.listen()
        done = desk.run(f"serve.port={desk.port}")
    assert done.returncode == 2
    assert f"port {desk.port} is taken" in done.stderr and "serve.port" in done.stderr
    assert desk.run_folders == []


def test_mistakes_are_told_together_and_nothing_is_launched(desk: Desk) -> None:
    done = desk.run("memory.gpu_memory_utilisation=0.9", "serve.port=99999", "hardwar=cpu")
    assert done.returncode == 2
    assert "gpu_memory_utilization" in done.stderr and "99999" in done.stderr and "hardware" in done.stderr
    assert "Traceback" not in done.stderr
    assert desk.run_folders == []


def test_what_does_not_fit_is_not_launched(desk: Desk) -> None:
    done = desk.run("model=qwen72b")
    assert done.returncode == 3
    assert desk.run_folders == []
    assert "remedy:" in done.stderr


def test_hardware_of_another_machine_is_refused(desk: Desk) -> None:
    done = desk.run("hardware=rtx4090x2", "model=qwen32b", "memory=hybrid")
    assert done.returncode == 3
    assert "rtx4090x2" in done.stderr
    assert desk.run_folders == []


def test_a_secret_is_in_no_record(desk: Desk) -> None:
    desk.environ["MY_KEY"] = "sesame-opens-4711"
    done = desk.run(*ASK, "serve.api_key_env=MY_KEY")
    assert done.returncode == 0, done.stderr
    told = done.stdout + done.stderr
    stored = "".join(path.read_text(encoding="utf-8") for path in desk.run_folders[-1].iterdir() if path.is_file())
    assert "sesame-opens-4711" not in told + stored


def test_another_server_on_the_port_does_not_count_as_ready(desk: Desk, behave: Behave) -> None:
    behave(FakeEngine(boot_seconds=1.5))
    stranger = FakeEngine().command(desk.port, "stranger")
    running = desk.start(*ASK, f"serve.port={desk.port}", "limits.attempts=1")
    wait_for(lambda: desk.journal(Launched), "the launch")
    other = subprocess.Popen(stranger.argv, env={**desk.environ, **stranger.env}, stdout=subprocess.DEVNULL)
    try:
        running.communicate(timeout=60)
    finally:
        other.terminate()
        other.wait(timeout=60)
    assert running.returncode == 4
    assert not _is_ready(desk)


def test_two_runs_that_start_together_take_different_ports(desk: Desk, behave: Behave) -> None:
    behave(FakeEngine(boot_seconds=3))  # so that the runs overlap on a busy machine, too
    first, second = desk.start(*ASK), desk.start(*ASK)
    told = [running.communicate(timeout=60) for running in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], told
    ports = {json.loads((folder / "command.json").read_text())["argv"][-1] for folder in desk.run_folders}
    assert len(desk.run_folders) == 2
    assert len(ports) == 2


def test_a_run_whose_engine_cannot_be_started_says_how_it_ended(desk: Desk) -> None:
    plugin = desk.folder / "plugins" / "engine_fake.py"
    started = 'argv=(sys.executable, "-m", "nexus_orch.testing"'
    text = plugin.read_text(encoding="utf-8")
    assert started in text
    plugin.write_text(text.replace(started, 'argv=("/no/such/python"'), encoding="utf-8")
    done = desk.run(*ASK)
    assert done.returncode == 4
    assert "no such program" in done.stderr
    assert desk.journal(Finished)[0].exit_code == 4
