"""The real installer with real venv and pip, on tiny wheels."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nexus_orch import paths
from nexus_orch.errors import ConfigError, ExitCode
from nexus_orch.install.engines.install import install_engine
from nexus_orch.install.engines.installed import read_engine_folder, read_engines
from nexus_orch.install.engines.python import venv_python
from nexus_orch.install.work.failures import InstallError
from nexus_orch.install.work.journal import Journal
from tests.install.shelf import Shelf, add_engine, make_tiny_recipe
from tests.install.told import Told

INSTALLER = """
from nexus_orch.install.engines.install import install_engine
from tests.install.shelf import make_tiny_recipe
install_engine(make_tiny_recipe())
"""


def test_an_engine_is_made_once_and_touches_nothing_of_the_caller(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    for name in ("PIP_TARGET", "PIP_PREFIX", "PYTHONPATH", "PIP_CONSTRAINT"):
        monkeypatch.setenv(name, str(elsewhere))
    recipe, told = make_tiny_recipe(), Told()
    engine = install_engine(recipe, reporter=told)

    folder = paths.engines_dir() / "tiny-1.0"
    assert len(told.done) == 7
    assert engine.state == "ready"
    assert engine.python == venv_python(folder / "venv")
    assert _versions(engine.python) == {"torch": "2.13.0+cpu", "tiny_dep": "1.4", "tiny_vllm": "1.0+cpu"}
    assert not elsewhere.exists()
    assert sorted(found.name for found in folder.iterdir()) == [
        "engine.json",
        "install.jsonl",
        "install.log",
        "requirements.txt",
        "venv",
    ]
    content = json.loads((folder / "engine.json").read_text())
    assert content["requirements"] == ["torch==2.13.0+cpu", "tiny-vllm-cpu==1.0", "tiny-dep>=1.0"]
    assert content.keys() == {"name", "version", "device", "python", "created", "requirements", "size_bytes"}

    again = Told()
    assert install_engine(recipe, reporter=again) == engine
    assert again.titles == []


def test_a_failed_step_is_told_and_the_next_call_goes_on_from_it(shelf: Shelf) -> None:
    for wheel in [*shelf.path.glob("torch-*"), *shelf.path.glob("tiny_dep-*")]:
        wheel.unlink()
    shelf.add("torch", "2.13.0")
    recipe, told = make_tiny_recipe(), Told()
    with pytest.raises(InstallError, match=r"could not install the requirements: no index offers it(.|\n)*tiny-dep"):
        install_engine(recipe, reporter=told)
    assert [note for note in told.notes if "default build" in note]
    engine = read_engine_folder(paths.engines_dir() / recipe.name)
    assert engine is not None
    assert engine.state_text == "unfinished at step 4 of 7 (requirements)"

    shelf.add("tiny-dep", "1.4")
    again = Told()
    engine = install_engine(recipe, reporter=again)
    assert (len(again.skipped), len(again.done)) == (3, 4)
    assert _versions(engine.python)["torch"] == "2.13.0"


def test_a_killed_installer_is_taken_over(no_process_left: None, shelf: Shelf) -> None:
    journal = Journal(paths.engines_dir() / "tiny-1.0" / "install.jsonl")
    with subprocess.Popen([sys.executable, "-c", INSTALLER]) as installer:
        while "wheel" not in _finished(journal):
            assert installer.poll() is None
            time.sleep(0.01)
        installer.kill()
    engine = read_engine_folder(journal.path.parent)
    assert engine is not None
    assert engine.state == "unfinished"

    told = Told()
    engine = install_engine(make_tiny_recipe(), reporter=told)
    assert len(told.skipped) >= 2
    assert len(told.skipped) + len(told.done) == 7
    assert _versions(engine.python) == {"torch": "2.13.0+cpu", "tiny_dep": "1.4", "tiny_vllm": "1.0+cpu"}


def test_an_engine_may_bring_its_own_dependencies(shelf: Shelf) -> None:
    shelf.add("tiny-vllm", "1.0", ["tiny-dep"], {"tiny_vllm.py": "import tiny_dep\n"})
    recipe = dataclasses.replace(make_tiny_recipe(), name="cuda-1.0", distribution="tiny-vllm", own_dependencies=True)
    told = Told()
    engine = install_engine(recipe, reporter=told)
    assert len(told.done) == 3
    assert engine.requirements == ("tiny-vllm==1.0",)
    assert _versions(engine.python) == {"tiny_dep": "1.4", "tiny_vllm": "1.0"}


def test_a_release_that_nobody_offers_is_a_mistake_and_leaves_nothing_behind(shelf: Shelf) -> None:
    add_engine(shelf, "1.1")
    with pytest.raises(ConfigError, match=r"no index offers tiny-vllm-cpu==9\.9(.|\n)*offered are 1\.0, 1\.1"):
        install_engine(make_tiny_recipe("9.9"))
    assert read_engines() == ()
    assert [found.name for found in paths.engines_dir().iterdir()] == [".tiny-9.9.lock"]


def test_force_starts_from_nothing(shelf: Shelf) -> None:
    folder = _write_ready_engine("tiny-1.0", python=Path(sys.executable))
    recipe = make_tiny_recipe()
    assert install_engine(recipe).python == Path(sys.executable)
    with pytest.raises(ConfigError, match="needs Python <3"):
        install_engine(dataclasses.replace(recipe, requires_python="<3"), force=True)
    assert folder.is_dir()
    with pytest.raises(InstallError, match="too little room"):
        install_engine(dataclasses.replace(recipe, disk_bytes=1 << 60), force=True)
    assert not folder.exists()


def test_an_engine_without_its_python_is_made_again(shelf: Shelf) -> None:
    folder = _write_ready_engine("tiny-1.0", python=paths.engines_dir() / "gone" / "python")
    with pytest.raises(InstallError, match="too little room"):
        install_engine(dataclasses.replace(make_tiny_recipe(), disk_bytes=1 << 60))
    assert not (folder / "engine.json").exists()


def test_too_little_room_is_told_before_anything_is_done() -> None:
    with pytest.raises(InstallError, match=r"1073741824\.0 GiB are needed(.|\n)*NEXUS_HOME=DIR") as caught:
        install_engine(dataclasses.replace(make_tiny_recipe(), disk_bytes=1 << 60))
    assert caught.value.exit_code == ExitCode.ENVIRONMENT
    assert read_engines() == ()


def test_a_folder_of_somebody_else_is_left_alone() -> None:
    folder = paths.engines_dir() / "tiny-1.0"
    folder.mkdir(parents=True)
    (folder / "thesis.tex").write_text("mine")
    for force in (False, True):
        with pytest.raises(ConfigError, match="was not made by nexus_orch"):
            install_engine(make_tiny_recipe(), force=force)
    assert (folder / "thesis.tex").read_text() == "mine"


def _versions(python: Path | None) -> dict[str, str]:
    """What an environment has, besides pip and its like."""
    code = (
        "import importlib.metadata as m, json;"
        "print(json.dumps({d.name.replace('-', '_'): d.version for d in m.distributions()}))"
    )
    answer = subprocess.run([str(python), "-I", "-c", code], capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(answer.stdout)
    return {name: version for name, version in found.items() if name in ("torch", "tiny_dep", "tiny_vllm")}


def _finished(journal: Journal) -> set[str]:
    return {event["step"] for event in journal.read() if event["event"] == "finished"}


def _write_ready_engine(name: str, python: Path) -> Path:
    folder = paths.engines_dir() / name
    folder.mkdir(parents=True)
    (folder / "engine.json").write_text(json.dumps({"name": name, "version": "1.0", "python": str(python)}))
    return folder
