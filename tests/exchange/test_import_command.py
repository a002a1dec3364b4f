"""`nexus import` as it is used: what it writes works, and a mistake is one message and exit code 2."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from nexus_orch.compose.run import compose_run
from nexus_orch.exchange.profiles.report import render_report
from nexus_orch.exchange.start import Note
from tests.exchange.conftest import Told
from tests.releases.ends import NEWEST

pytestmark = pytest.mark.slow

Nexus = Callable[..., Told]
COMMAND = ("vllm", "serve", "Qwen/Qwen2.5-7B-Instruct", "--max-model-len", "8k", "--gpu-memory-utilization", "0.9")


def test_a_command_becomes_a_profile_of_a_new_project(nexus: Nexus, tmp_path: Path) -> None:
    lab = tmp_path / "lab"
    told = nexus("import", "--project", str(lab), "--name", "mine", "hardware=rtx4090", "--", *COMMAND)
    assert told.rc == 0
    assert "try it: nexus plan --project" in told.err
    spec = compose_run(["profile=mine"], project=lab)
    assert spec.model.max_model_len == 8000
    assert spec.memory.gpu_memory_utilization == 0.9
    assert spec.model.served_name == "Qwen/Qwen2.5-7B-Instruct"
    assert spec.origin("model.max_model_len") is not None
    plan = nexus("plan", "--project", str(lab), "profile=mine", "--format", "yaml")
    assert plan.rc == 0
    assert yaml.safe_load(plan.out)["max_model_len"] == 8000


def test_standard_output_holds_the_profile_only(nexus: Nexus) -> None:
    told = nexus("import", "hardware=rtx4090", "--", *COMMAND)
    assert told.rc == 0
    assert told.out.startswith("# @package _global_\n")
    content = yaml.safe_load(told.out)
    assert content["defaults"] == [
        {"override /model": "qwen7b"},
        {"override /memory": "vram_only"},
        {"override /hardware": "rtx4090"},
    ]
    assert "it fits" in told.err
    assert "memory.gpu_memory_utilization = 0.9 as written; the planner alone:" in told.err


def test_two_dashes_may_be_forgotten(nexus: Nexus) -> None:
    assert nexus("import", *COMMAND).out == nexus("import", "--", *COMMAND).out


def test_a_whole_command_in_quotes(nexus: Nexus) -> None:
    told = nexus("import", "--", "CUDA_VISIBLE_DEVICES=1 vllm serve org/m --port 9000")
    assert yaml.safe_load(told.out)["serve"]["port"] == 9000


def test_a_script_from_standard_input(nexus: Nexus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"exec vllm serve org/m --port 9000\n")))
    assert yaml.safe_load(nexus("import", "-").out)["serve"]["port"] == 9000


def test_the_release_is_that_of_the_image(nexus: Nexus, tmp_path: Path) -> None:
    script = tmp_path / "run.sh"
    script.write_text("docker run --gpus all -p 8001:8000 vllm/vllm-openai:v0.9.2 --model org/m --swap-space 4\n")
    told = nexus("import", str(script))
    content = yaml.safe_load(told.out)
    assert content["engine"]["version"] == "0.9.2"
    assert content["serve"]["port"] == 8001
    assert "--swap-space 4: the swap space does nothing since the V1 engine" in told.err


@pytest.mark.parametrize("words", [("--release", "0.6.6.post1"), ("engine.version=0.6.6.post1",)])
def test_the_release_may_be_told(nexus: Nexus, words: tuple[str, ...]) -> None:
    told = nexus("import", *words, "--", "vllm", "serve", "org/m", "--swap-space", "4")
    content = yaml.safe_load(told.out)
    assert content["memory"]["swap_gib"] == 4
    assert content["engine"]["version"] == "0.6.6.post1"


def test_an_option_that_only_old_releases_have_names_the_release(nexus: Nexus) -> None:
    told = nexus("import", "--", "vllm", "serve", "org/m", "--guided-decoding-backend", "outlines")
    assert yaml.safe_load(told.out)["engine"]["version"] == "0.11.2"
    assert f"read as vLLM 0.11.2, and pinned: vLLM {NEWEST} has no option --guided-decoding-backend" in told.err


def test_a_secret_is_in_no_output(nexus: Nexus, tmp_path: Path) -> None:
    out = tmp_path / "p.yaml"
    told = nexus("import", "--out", str(out), "--", "vllm", "serve", "org/m", "--api-key", "sk-secret-123")
    assert told.rc == 0
    assert "sk-secret" not in told.out + told.err + out.read_text()
    assert "export NEXUS_API_KEY=..." in told.err


def test_text_that_looks_like_an_interpolation(nexus: Nexus, tmp_path: Path) -> None:
    lab = tmp_path / "lab"
    words = ("--chat-template", "a ${b} \\${c} 'd' #e: {{f}}")
    told = nexus("import", "--project", str(lab), "--name", "x", "--", "vllm", "serve", "org/m", *words)
    assert told.rc == 0
    assert compose_run(["profile=x"], project=lab).serve.extra_args == words


def test_the_server_file_is_read_too(nexus: Nexus, tmp_path: Path) -> None:
    (tmp_path / "serve.yaml").write_text("model: org/m\nmax-model-len: 4096\nport: 9000\n")
    script = tmp_path / "run.sh"
    script.write_text("vllm serve --config serve.yaml --port 9001\n")
    content = yaml.safe_load(nexus("import", str(script)).out)
    assert content["model"]["max_model_len"] == 4096
    assert content["serve"]["port"] == 9001


def test_a_file_that_is_there_is_kept(nexus: Nexus, tmp_path: Path) -> None:
    out = tmp_path / "p.yaml"
    out.write_text("mine")
    told = nexus("import", "--out", str(out), "--", *COMMAND)
    assert told.rc == 2
    assert "is there already" in told.err
    assert out.read_text() == "mine"
    assert nexus("import", "--force", "--out", str(out), "--", *COMMAND).rc == 0
    assert "max_model_len: 8000" in out.read_text()


def test_one_of_several_starts(nexus: Nexus, tmp_path: Path) -> None:
    script = tmp_path / "two.sh"
    script.write_text("vllm serve org/a --port 1 &\nvllm serve org/b --port 2\n")
    told = nexus("import", str(script))
    assert told.rc == 2
    assert "two.sh starts 2 vLLM servers (1: line 1, 2: line 2)" in told.err
    assert "--pick N" in told.err
    assert yaml.safe_load(nexus("import", "--pick", "2", str(script)).out)["serve"]["port"] == 2
    assert nexus("import", "--pick", "3", str(script)).rc == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"echo hello\n", "starts no vLLM server"),
        (b"vllm serve 'org/m\n", "a quote (') in line 1 is never closed"),
        (b"\x7fELF\x00\x01\xff", "is no text file"),
        (b"vllm serve org/m --max-model-lenn 3\n", "did you mean --max-model-len?"),
        (b"vllm serve\n", "names no model"),
        (b"services:\n  a: [\n", "is no readable YAML"),
        (b'{"model_path": }', "is no readable JSON"),
        (b"x" * (5 * 1024 * 1024), "is larger than 4 MiB"),
        (b"vllm serve $MODEL\n", "the value of $MODEL is not in the file"),
        (b"vllm serve org/m --config missing.yaml\n", "there is no file"),
        (b"vllm serve org/m --max-num-seqs 64 --max-num-batched-tokens 8\n", "serve.max_num_batched_tokens"),
        (b"vllm serve org/m --port 99999\n", "serve.port must be a whole number from 1 to 65535"),
    ],
)
def test_bad_files(nexus: Nexus, tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "source"
    file.write_bytes(content)
    told = nexus("import", str(file))
    assert told.rc == 2
    assert message in told.err
    assert "Traceback" not in told.err
    assert told.out == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "nothing to import"),
        (("nowhere.sh",), "there is no file nowhere.sh"),
        (("nowhere.sh", "--", *COMMAND), "both a file (nowhere.sh) and a command"),
        (("a.sh", "b.sh"), "2 files are given"),
        (("--name", "mine", "--", *COMMAND), "no place to write the profile"),
        (("--name", "a/b", "--out", "x", "--", *COMMAND), "this is no name of a profile"),
        (("--out", "x", "--project", "y", "--", *COMMAND), "two places"),
        (("--release", "newest", "--", *COMMAND), "this is no version"),
        (("hardware=rtx4091", "--", *COMMAND), "did you mean rtx4090?"),
        (("model.max_model_lenn=3", "--", *COMMAND), "did you mean model.max_model_len?"),
        (("--out", "/proc/nowhere/x.yaml", "--", *COMMAND), "cannot write /proc/nowhere/x.yaml"),
        (("/proc/self/mem",), "cannot read /proc/self/mem"),
        (("/",), "/ is a folder"),
    ],
)
def test_bad_words(nexus: Nexus, words: tuple[str, ...], message: str) -> None:
    told = nexus("import", *words)
    assert told.rc == 2
    assert message in told.err
    assert told.out == ""


def test_mistakes_name_the_file_that_was_to_be_written(nexus: Nexus, tmp_path: Path) -> None:
    out = tmp_path / "p.yaml"
    told = nexus("import", "--out", str(out), "--", "vllm", "serve", "org/m", "--port", "99999")
    assert told.rc == 2
    assert str(out) in told.err
    assert "nexus-import-" not in told.err
    assert not out.exists()


def test_a_report_for_a_terminal_is_broken_between_words() -> None:
    notes = [Note("plan", "a " * 60 + "/a/path/that/is/" + "long/" * 20), Note("secret", "short")]
    lines = render_report("title:", notes, 80).splitlines()
    assert lines[1:3] == ["  secrets:", "    - short"]
    assert [line for line in lines if len(line) > 80] == ["      /a/path/that/is/" + "long/" * 20]
    assert " ".join(" ".join(lines).split()) == " ".join(render_report("title:", notes).split())


def test_what_was_only_shown_says_how_to_keep_it(nexus: Nexus) -> None:
    told = nexus("import", "hardware=rtx4090", "--", "vllm", "serve", "Qwen/Qwen2.5-7B-Instruct")
    assert told.err.endswith("to keep the profile: nexus import --project DIR ...\n")
