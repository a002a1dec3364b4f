"""`nexus engine` and `nexus model`, as they are typed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from nexus_orch import paths
from nexus_orch.cli import main
from nexus_orch.install.work.journal import Journal


@pytest.fixture
def engine() -> Path:
    """A ready engine, cpu-0.32.0, whose environment is the one that runs this; it has no vLLM."""
    folder = paths.engines_dir() / "cpu-0.32.0"
    folder.mkdir(parents=True)
    content = {"version": "0.32.0", "device": "cpu", "python": sys.executable, "size_bytes": 3 << 30}
    (folder / "engine.json").write_text(json.dumps(content))
    return folder


def test_no_engine_says_how_to_get_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["engine", "list"]) == 0
    assert "nexus engine install cpu" in capsys.readouterr().out


def test_list_tells_the_state_of_each(engine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal = Journal(paths.engines_dir() / "cuda-0.31.0" / "install.jsonl")
    journal.append({"event": "begin", "steps": ["venv", "engine", "check"]})
    assert main(["engine", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["cpu-0.32.0", "0.32.0", "cpu", "3.0", "GiB", "ready"]
    assert lines[2].split() == ["cuda-0.31.0", "unfinished", "at", "step", "1", "of", "3", "(venv)"]


def test_list_for_machines(engine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["engine", "list", "--format", "json"]) == 0
    [row] = json.loads(capsys.readouterr().out)
    assert (row["name"], row["state"], row["python"]) == ("cpu-0.32.0", "ready", sys.executable)
    assert row["path"] == str(engine)


def test_install_of_a_ready_engine_says_so(engine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["engine", "install", "cpu"]) == 0
    assert capsys.readouterr().out == f"cpu-0.32.0 is ready: vLLM 0.32.0, {sys.executable}\n"


def test_remove(engine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["engine", "remove", "cpu-0.32.0"]) == 0
    assert capsys.readouterr().out == "removed cpu-0.32.0 (3.0 GiB)\n"
    assert not engine.exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["install", "gpu"], "one of: cpu, cuda"),
        (["install", "cpu", "--version", "latest"], "not a version"),
        (["install", "cpu", "--version", "0.31.0", "--python", "/no/python"], "does not run"),
        (["remove", "cpu"], "unknown engine"),
        (["flags", "cpu-0.32.O"], "did you mean cpu-0.32.0?"),
        (["flags", "cpu-0.32.0"], "no vLLM"),
    ],
)
def test_mistakes(engine: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str) -> None:
    assert main(["engine", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert told in captured.err
    assert "Traceback" not in captured.err


def test_flags_of_a_release_that_is_not_installed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["engine", "flags", "0.31.0", "--grep", "max-model", "--format", "json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert (content["version"], content["source"]) == ("0.31.0", "catalogue")
    assert list(content["flags"]) == ["--max-model-len"]


def test_flags_as_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["engine", "flags", "0.32.0", "--grep", "fp8_e4m3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("vLLM 0.32.0, from the catalogue: ")
    assert any(line.startswith("--kv-cache-dtype") and '"auto"' in line for line in lines)


def test_flags_without_any_engine_are_those_of_the_newest_release(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["engine", "flags", "--format", "json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["flags"]) > 200


def test_flags_of_an_unfinished_engine(capsys: pytest.CaptureFixture[str]) -> None:
    Journal(paths.engines_dir() / "cpu-0.32.0" / "install.jsonl").append({"event": "begin", "steps": ["venv"]})
    assert main(["engine", "flags", "cpu-0.32.0"]) == 2
    assert "unfinished at step 1 of 1 (venv)" in capsys.readouterr().err


def test_model_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "list"]) == 0
    assert "smollm2_135m" in capsys.readouterr().out
    assert main(["model", "list", "--format", "json"]) == 0
    [row] = json.loads(capsys.readouterr().out)
    assert (row["name"], row["fetched"], row["path"]) == (
        "smollm2_135m",
        False,
        str(paths.models_dir() / "smollm2_135m"),
    )


def test_model_fetch_without_an_engine(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "fetch", "smollm2_135m"]) == 2
    assert "nexus engine install cpu" in capsys.readouterr().err


def test_model_fetch_of_a_model_that_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    folder = paths.models_dir() / "smollm2_135m"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "nexus_model.json").write_text(json.dumps({"files": {"config.json": 2}}))
    assert main(["model", "fetch", "smollm2_135m"]) == 0
    assert capsys.readouterr().out == f"smollm2_135m is ready: SmolLM2-135M-Instruct in {folder}\n"


@pytest.mark.parametrize("arguments", [["engine", "install", "cpu"], ["model", "fetch", "smollm2_135m"]])
def test_a_home_that_is_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NEXUS_HOME", str(tmp_path / "file"))
    assert main(arguments) == 5
    assert "NEXUS_HOME=DIR" in capsys.readouterr().err
