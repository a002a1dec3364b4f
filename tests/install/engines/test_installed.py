from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from nexus_orch import paths
from nexus_orch.errors import ConfigError
from nexus_orch.install.engines.installed import (
    choose_engine,
    choose_newest,
    engine_lock,
    find_users,
    read_engines,
    remove_engine,
    sweep_discarded,
)
from nexus_orch.install.work.journal import Journal
from nexus_orch.install.work.lock import hold_lock


def _add(name: str, python: str = sys.executable) -> Path:
    folder = paths.engines_dir() / name
    folder.mkdir(parents=True)
    device, _, version = name.partition("-")
    content = {"name": name, "version": version, "device": device, "python": python, "size_bytes": 7}
    (folder / "engine.json").write_text(json.dumps(content))
    return folder


def _add_unfinished(name: str) -> Path:
    folder = paths.engines_dir() / name
    journal = Journal(folder / "install.jsonl")
    journal.append({"event": "begin", "steps": ["venv", "torch", "check"]})
    journal.append({"event": "finished", "step": "venv", "key": "1", "result": {}})
    return folder


def test_no_engines() -> None:
    assert read_engines() == ()
    with pytest.raises(ConfigError, match=r"unknown engine 'cpu'\n.*nexus engine install cpu"):
        choose_engine("cpu", ())
    with pytest.raises(ConfigError, match="unknown engine"):
        remove_engine("cpu")


def test_every_state_is_told() -> None:
    _add("cpu-0.32.0")
    _add("cpu-0.31.0", python="/gone/python")
    _add_unfinished("cuda-0.32.0")
    (paths.engines_dir() / "cpu-foreign").mkdir()
    (paths.engines_dir() / ".cpu-0.32.0.lock").write_text("")
    assert {engine.name: engine.state_text for engine in read_engines()} == {
        "cpu-0.31.0": "broken: its python is missing",
        "cpu-0.32.0": "ready",
        "cuda-0.32.0": "unfinished at step 2 of 3 (torch)",
    }


def test_a_damaged_engine_file_is_no_engine() -> None:
    (_add("cpu-0.32.0") / "engine.json").write_text("{")
    assert read_engines() == ()


def test_an_engine_is_meant_by_name_version_or_device() -> None:
    for name in ("cpu-0.9.0", "cpu-0.32.0", "cpu-0.31.0", "cuda-0.32.0"):
        _add(name)
    _add("cpu-0.99.0", python="/gone/python")
    engines = read_engines()
    assert choose_engine("cpu-0.9.0", engines).name == "cpu-0.9.0"
    assert choose_engine("cpu", engines).name == "cpu-0.32.0"
    assert choose_engine("0.31.0", engines).name == "cpu-0.31.0"
    assert choose_engine("cpu-0.99.0", engines).state == "broken"
    newest = choose_newest(engines)
    assert newest is not None
    assert newest.version == "0.32.0"
    with pytest.raises(ConfigError, match=r"did you mean cpu-0\.32\.0\?"):
        choose_engine("cpu-0.32", engines)
    with pytest.raises(ConfigError, match=r"one of: cpu-0\.31\.0, "):
        choose_engine("xyz", engines)


def test_removal_takes_the_folder_only() -> None:
    _add("cpu-0.32.0")
    kept = _add("cpu-0.31.0")
    _add_unfinished("cuda-0.32.0")
    assert remove_engine("cpu-0.32.0") == 7
    assert remove_engine("cuda-0.32.0") == 0
    assert {found for found in paths.engines_dir().iterdir() if found.is_dir()} == {kept}


@pytest.mark.parametrize("name", ["cpu-0.3", "..", "../engines/cpu-0.32.0", ".", ""])
def test_only_an_exact_name_is_removed(name: str) -> None:
    folder = _add("cpu-0.32.0")
    with pytest.raises(ConfigError, match="unknown engine"):
        remove_engine(name)
    assert folder.is_dir()


def test_a_device_or_version_is_no_name_to_remove() -> None:
    folder = _add("cpu-0.32.0")
    for name in ("cpu", "0.32.0"):
        with pytest.raises(ConfigError, match="unknown engine"):
            remove_engine(name)
    assert folder.is_dir()


def test_a_folder_of_somebody_else_is_not_removed() -> None:
    folder = paths.engines_dir() / "cpu-mine"
    folder.mkdir(parents=True)
    with pytest.raises(ConfigError, match="was not made by nexus_orch"):
        remove_engine("cpu-mine")
    assert folder.is_dir()


def test_an_engine_in_use_is_not_removed(no_process_left: None) -> None:
    folder = _add("cpu-0.32.0")
    script = folder / "serve.py"
    script.write_text("print('up', flush=True); import time; time.sleep(60)")
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        server.stdout.readline()
        assert find_users(folder) == (server.pid,)
        with pytest.raises(ConfigError, match=rf"in use(.|\n)*stop process {server.pid} "):
            remove_engine("cpu-0.32.0")
        server.kill()
    assert remove_engine("cpu-0.32.0") == 7


def test_an_engine_that_is_being_installed_is_not_removed() -> None:
    folder = _add_unfinished("cpu-0.32.0")
    with (
        hold_lock(engine_lock("cpu-0.32.0"), pytest.fail),
        pytest.raises(ConfigError, match=r"being installed(.|\n)*wait for process \d+"),
    ):
        remove_engine("cpu-0.32.0")
    assert folder.is_dir()


def test_what_a_killed_removal_left_is_swept_away() -> None:
    folder = _add("cpu-0.32.0")
    left = folder.with_name(".cpu-0.32.0.removed.123")
    (left / "venv").mkdir(parents=True)
    sweep_discarded(folder)
    assert not left.exists()
    assert folder.is_dir()
