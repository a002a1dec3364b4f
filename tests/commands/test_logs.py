from __future__ import annotations

import io
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from nexus_orch.commands import logs
from nexus_orch.errors import ConfigError
from nexus_orch.launch.log.file import LogFile
from tests.commands.conftest import Supervised
from tests.record.examples import START, write_stopped_run

Call = Callable[..., str]


def test_the_last_run_is_shown_by_default(call: Call, runs: Path) -> None:
    write_stopped_run(runs)
    last = write_stopped_run(runs, START + 60)
    last.log.write_bytes(b"of the last run\n")
    assert call(logs) == "of the last run\n"


def test_a_run_is_named_by_the_beginning_of_its_id(call: Call, runs: Path) -> None:
    write_stopped_run(runs)
    assert call(logs, "20261123-14", "-n", "2") == "line 98\nline 99\n"


def test_an_incomplete_last_line_is_ended(call: Call, runs: Path) -> None:
    write_stopped_run(runs).log.write_bytes(b"one\ntw")
    assert call(logs) == "one\ntw\n"


def test_the_journal_is_shown_as_it_is(call: Call, runs: Path) -> None:
    folder = write_stopped_run(runs)
    assert call(logs, "--journal", "-n", "1000") == folder.journal.read_text()


def test_a_mistake_tells_the_nearest_run(call: Call, runs: Path) -> None:
    folder = write_stopped_run(runs)
    with pytest.raises(ConfigError, match=folder.id):
        call(logs, "20261123-140000-qwen32b-hybird")


def test_a_run_without_a_log_is_told(call: Call, runs: Path) -> None:
    write_stopped_run(runs).log.unlink()
    with pytest.raises(ConfigError, match=r"the run has no engine\.log"):
        call(logs)


@pytest.mark.parametrize("count", ["-1", "many", "1.5"])
def test_a_number_of_lines_must_be_one(call: Call, count: str, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    with pytest.raises(SystemExit):
        call(logs, f"--lines={count}")
    assert f"'{count}' is not a number of lines" in capsysbinary.readouterr().err.decode()


def test_following_an_ended_run_ends(call: Call, runs: Path) -> None:
    write_stopped_run(runs)
    assert call(logs, "-f", "-n", "1") == "line 99\n"


class Feeder(io.BytesIO):
    """What the follower writes to. Each time it has caught up, the log grows."""

    def __init__(self, log: LogFile, lines: list[bytes]) -> None:
        super().__init__()
        self._log = log
        self._lines = lines
        self.is_over = False

    def write(self, data: object) -> int:
        assert isinstance(data, bytes)
        if not data and self._lines:
            self._log.write(self._lines.pop(0))
        elif not data:
            self.is_over = True
        return super().write(data)


def test_a_growing_log_is_followed_across_its_cut_overs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "POLL_SECONDS", 0.001)
    monkeypatch.setattr(logs, "END_CHECK_SECONDS", 0.001)
    path = tmp_path / "engine.log"
    log = LogFile(path, limit_bytes=100, on_failure=pytest.fail)
    lines = [b"line %02d of the engine's output\n" % number for number in range(40)]
    log.write(b"old\n")
    out = Feeder(log, list(lines))
    logs.follow(path, 10, out, lambda: out.is_over)
    log.close()
    assert path.with_name("engine.log.1").exists()
    assert out.getvalue() == b"old\n" + b"".join(lines)


def test_a_log_that_comes_later_is_waited_for(tmp_path: Path) -> None:
    path, ended, out = tmp_path / "engine.log", threading.Event(), io.BytesIO()

    def write_and_end() -> None:
        path.write_bytes(b"first line\n")
        ended.set()

    writer = threading.Timer(0.3, write_and_end)
    writer.start()
    logs.follow(path, 10, out, ended.is_set)
    writer.join()
    assert out.getvalue() == b"first line\n"


def test_a_run_is_followed_to_its_end(call: Call, supervise: Callable[..., Supervised]) -> None:
    from nexus_orch.commands import stop

    run = supervise()
    seen: list[str] = []
    follower = threading.Thread(target=lambda: seen.append(_follow(run)))
    follower.start()
    call(stop, run.id)
    follower.join()
    assert seen == [(run.folder / "engine.log").read_text()]


def _follow(run: Supervised) -> str:
    out = io.BytesIO()
    logs.follow(run.folder / "engine.log", 10, out, lambda: run.process.poll() is not None)
    return out.getvalue().decode()
