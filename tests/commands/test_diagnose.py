"""`nexus diagnose` as a user calls it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from nexus_orch.cli import main

LOGS = Path(__file__).parent.parent / "data" / "logs"


def log(name: str) -> str:
    return str(LOGS / f"vllm-{name}.log")


def test_json_has_the_promised_keys_and_no_others(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", log("0.32.0-cpu-context-too-long"), "--format", "json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert list(shown) == ["cause", "evidence", "remedy", "engine_version", "measured"]
    assert shown["cause"] == "context_too_long"
    assert "estimated maximum model length is 256" in shown["evidence"][0]
    assert shown["engine_version"] == "0.32.0"
    assert shown["measured"]["max_model_len_possible"] == 256


def test_a_good_run_has_no_cause_and_no_evidence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", "--format", "json", log("0.32.0-cpu-ok")]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["cause"], shown["evidence"]) == (None, [])
    assert "was shut down as it was told to" in shown["remedy"]


def test_the_table_shows_cause_remedy_evidence_and_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", log("0.25.1-h100-q14_nooff")]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith("cause     no_kv_cache_memory: ")
    assert shown[1].startswith("remedy    ")
    assert shown[2].startswith("evidence  (EngineCore pid=1591) ERROR")
    assert "engine    vLLM 0.25.1" in shown
    assert "    weights                      27.57 GiB" in shown
    assert "    kv cache missing             7.41 GiB" in shown


def test_each_rank_is_shown(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = "".join(
        f"(Worker_TP{rank} pid={rank}) INFO 10-23 08:04:01 [w.py:2] Model loading took {rank + 7}.5 GiB and 1 seconds\n"
        for rank in (0, 1)
    )
    (tmp_path / "log").write_text(text)
    assert main(["diagnose", str(tmp_path / "log")]) == 0
    shown = capsys.readouterr().out.splitlines()
    at = shown.index("Worker_TP1 pid=1")
    assert shown[at + 1].split() == ["weights", "8.50", "GiB"]


def test_a_log_on_standard_input() -> None:
    with Path(log("0.32.0-cpu-port-in-use")).open("rb") as stream:
        command = [
            sys.executable,
            "-c",
            "import sys; from nexus_orch.cli import main; sys.exit(main())",
            "diagnose",
            "-",
        ]
        done = subprocess.run(command, stdin=stream, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("cause     port_in_use")


def test_a_text_that_is_no_log(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "poem").write_text("Habe nun, ach! Philosophie,\nJuristerei und Medizin\n")
    assert main(["diagnose", str(tmp_path / "poem"), "--format", "json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["cause"] == "unknown"
    assert "is it the right file?" in shown["remedy"]


@pytest.mark.parametrize("content", [b"\x7fELF\0\0", None])
def test_what_cannot_be_read_is_a_mistake(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
    assert main(["diagnose", str(path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert "remedy: " in captured.err
    assert "Traceback" not in captured.err
