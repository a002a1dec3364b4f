from __future__ import annotations

import os
import sys
from pathlib import Path

import psutil
import pytest

from nexus_orch.install.work.child import ChildResult, make_child_env, run_child, stop_tree


def _run(folder: Path, code: str, lines: list[str] | None = None) -> ChildResult:
    seen: list[str] = [] if lines is None else lines
    return run_child([sys.executable, "-c", code], os.environ, folder / "log", seen.append, lambda pid: None)


def test_nothing_of_the_callers_environment_reaches_the_child(tmp_path: Path) -> None:
    base = {
        "HOME": "/home/me",
        "https_proxy": "proxy",
        "VIRTUAL_ENV": "/mine",
        "CONDA_PREFIX": "/mine",
        "PYTHONPATH": "/mine",
        "PYTHONHOME": "/mine",
        "PIP_TARGET": "/mine",
        "PIP_PREFIX": "/mine",
        "PIP_USER": "1",
        "PIP_NO_DEPS": "1",
        "PIP_CONSTRAINT": "/mine",
        "PIP_INDEX_URL": "index",
        "PIP_EXTRA_INDEX_URL": "more",
        "PIP_FIND_LINKS": "links",
        "PIP_CACHE_DIR": "cache",
    }
    kept = {"HOME", "https_proxy", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_CACHE_DIR"}
    env = make_child_env(base, tmp_path)
    assert {name: value for name, value in env.items() if name in base} == {
        **{name: base[name] for name in kept},
        "PIP_USER": "0",
    }
    assert env["TMPDIR"] == env["TEMP"] == env["TMP"] == str(tmp_path)


def test_output_goes_to_the_log_and_to_the_listener(tmp_path: Path) -> None:
    lines: list[str] = []
    code = r"import sys; sys.stdout.write('one\n\n10%\r20%\r\ntwo \xff'); sys.exit(3)"
    result = _run(tmp_path, code, lines)
    assert result.returncode == 3
    assert lines == list(result.lines) == ["one", "10%", "20%", "two ÿ"]
    assert b"10%\r20%" in (tmp_path / "log").read_bytes()


def test_a_line_that_is_no_text_is_shown_all_the_same(tmp_path: Path) -> None:
    result = _run(tmp_path, r"import sys; sys.stdout.buffer.write(b'\xc3\x28 broken\n')")
    assert result.lines == ("\ufffd( broken",)


def test_only_the_end_of_much_output_is_kept(tmp_path: Path) -> None:
    result = _run(tmp_path, "for number in range(5000): print(number)")
    assert result.lines[-1] == "4999"
    assert len(result.lines) == 200
    assert (tmp_path / "log").read_text().startswith("0\n1\n")


def test_an_interruption_stops_the_child_and_its_children(no_process_left: None, tmp_path: Path) -> None:
    pids: list[int] = []

    def interrupt(line: str) -> None:
        pids.append(int(line))
        raise KeyboardInterrupt

    code = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    argv = [sys.executable, "-c", code]
    with pytest.raises(KeyboardInterrupt):
        run_child(argv, os.environ, tmp_path / "log", interrupt, pids.append)
    assert len(pids) == 2
    assert not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids)


def test_a_process_that_is_gone_needs_no_stopping(tmp_path: Path) -> None:
    pids: list[int] = []
    run_child([sys.executable, "-c", ""], os.environ, tmp_path / "log", pytest.fail, pids.append)
    assert stop_tree(pids[0]) is False
