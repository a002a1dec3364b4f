"""Starting a command: what it inherits, what is told of it, and why it could not be started."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from queue import Queue

import psutil
import pytest

from nexus_orch.contracts import EngineRecord
from nexus_orch.errors import LaunchError
from nexus_orch.launch.processes.family import MARK_VARIABLE, read_record
from nexus_orch.launch.processes.process import make_child_env, start_child
from nexus_orch.testing import FakeEngine
from nexus_orch.types import Command, Exited, LogLine, Observation, Started
from tests.launch.engines import PATIENCE_SECONDS, Watched, make_start, python

Start = Callable[..., Watched]


def test_tells_start_lines_and_end_in_this_order(start: Start) -> None:
    watched = start(python("import sys; print('one'); sys.stderr.write('two'); sys.exit(3)"))
    assert watched.wait_for_exit().returncode == 3
    assert isinstance(watched.seen[0], Started)
    assert watched.seen[0].pid == watched.engine.pid
    assert [line.text for line in watched.lines] == ["one", "two"]
    assert isinstance(watched.seen[-1], Exited)
    assert watched.engine.returncode == 3
    assert watched.log_path.read_text() == "one\ntwo"


def test_return_code_of_a_killed_process_is_negative(start: Start) -> None:
    watched = start(python("import os; os.kill(os.getpid(), 9)"))
    assert watched.wait_for_exit().returncode == -9


def test_child_has_a_session_of_its_own_and_an_empty_input(start: Start) -> None:
    watched = start(python("import os, sys; print(os.getsid(0), os.getpgid(0), repr(sys.stdin.read()))"))
    pid = watched.engine.pid
    watched.wait_for_line(f"{pid} {pid} ''")
    assert watched.engine.record.pgid == pid


def test_child_gets_the_commands_environment_and_a_mark(start: Start) -> None:
    code = f"import os; print(os.environ['WANTED'], os.environ['{MARK_VARIABLE}'], os.environ['PATH'])"
    watched = start(Command(argv=(sys.executable, "-c", code), env={"WANTED": "this"}))
    watched.wait_for_line(f"this {watched.engine.record.mark} {os.environ['PATH']}")


def test_marks_differ_between_starts(start: Start) -> None:
    first, second = start(python("pass")), start(python("pass"))
    assert first.engine.record.mark != second.engine.record.mark


def test_a_command_may_overrule_what_is_set_for_setproctitle() -> None:
    env = make_child_env(Command(argv=("x",), env={"SPT_NOENV": "0"}), {"A": "1"}, "mark")
    assert env == {"A": "1", "SPT_NOENV": "0", MARK_VARIABLE: "mark"}


def test_its_identity_is_plain_json_and_names_its_processes(start: Start) -> None:
    engine = start(FakeEngine(workers=1).command(port=1)).engine
    record = engine.record
    assert record.pgid == record.pid == engine.pid
    identity = json.loads(json.dumps(engine.identity))
    assert read_record(EngineRecord("run-1", "local", identity, record.family)) == record
    assert record.create_time == pytest.approx(psutil.Process(record.pid).create_time(), abs=1)


def test_family_is_who_lives_and_stays_when_the_parent_is_gone(start: Start, free_port: int) -> None:
    watched = start(FakeEngine(workers=1, core_outlives=True).command(free_port))
    watched.wait_until_ready()
    main, core, worker = watched.wait_for_family(3)
    assert main == watched.engine.record.key
    psutil.Process(main.pid).kill()
    watched.wait_for_exit()
    psutil.Process(core.pid).kill()
    psutil.Process(core.pid).wait(PATIENCE_SECONDS)
    watched.engine.look()
    assert watched.engine.record.family == (worker,)
    assert watched.engine.family() == (main, worker)


def test_exit_is_told_although_a_child_holds_the_pipe(start: Start) -> None:
    code = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(100)'])"
    watched = start(python(code))
    assert watched.wait_for_exit().returncode == 0
    assert not watched.engine.output.wait(0)
    watched.stop()
    assert watched.engine.output.wait(10)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: Command(argv=(str(folder / "absent"),)), "there is no such program"),
        (lambda folder: Command(argv=("true",), cwd=str(folder / "absent")), "absent does not exist"),
        (lambda folder: Command(argv=(_write(folder / "plain", "text", 0o644),)), "not an executable file"),
        (lambda folder: Command(argv=(_write(folder / "odd", "text", 0o755),)), "not a program for this machine"),
        (lambda folder: Command(argv=(_write(folder / "moved", "#!/absent/python\n", 0o755),)), "first line names"),
        (lambda folder: Command(argv=("true", "nul\0byte")), "null byte"),
    ],
)
def test_a_command_that_cannot_be_started(
    make: Callable[[Path], Command], message: str, tmp_path: Path, no_process_left: None
) -> None:
    queue: Queue[Observation] = Queue()
    with pytest.raises(LaunchError) as caught:
        start_child(make_start(make(tmp_path), tmp_path / "engine.log", queue.put))
    (problem,) = caught.value.problems
    assert message in problem.message
    assert problem.remedy
    assert problem.cause == "unknown"
    assert queue.empty()


def test_progress_bars_and_noise_of_a_real_start(start: Start, free_port: int) -> None:
    watched = start(FakeEngine(noise=True).command(free_port))
    watched.wait_until_ready()
    texts = [line.text for line in watched.lines if isinstance(line, LogLine)]
    assert "Loading safetensors checkpoint shards: 100% Completed | 4/4 [00:00<00:00, 2.00it/s]" in texts
    noisy = next(text for text in texts if text.startswith("red"))
    assert noisy.startswith("red \ufffd\ufffd not utf-8  xxx")
    assert noisy.endswith("bytes cut]")
    assert not any("\x1b" in text or "\r" in text for text in texts)


def _write(path: Path, text: str, mode: int) -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)
