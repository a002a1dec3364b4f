"""Mistakes about the engine and its options, made on the command line: one clear message, exit code 2."""

from __future__ import annotations

import venv
from pathlib import Path

import pytest

from nexus_orch.cli import main
from tests.engine.sources import write_metadata, write_package

RUN = ["hardware=rtx4090", "model=qwen7b"]


def told(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What a command that ends with exit code 2 says, without line breaks."""
    assert main(list(words)) == 2
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return " ".join((captured.err + captured.out).split())


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """An environment without vLLM."""
    venv.create(tmp_path / "engine", symlinks=True)
    return tmp_path / "engine"


def install(environment: Path, version: str, files: dict[str, str | None] | None = None) -> Path:
    """Put a small package `vllm` into it; its interpreter."""
    (site_packages,) = environment.glob("lib/python3*/site-packages")
    write_metadata(write_package(site_packages, files or {}), "vllm", version)
    return environment / "bin" / "python"


@pytest.mark.parametrize("command", [["plan"], ["engine", "check"]])
@pytest.mark.parametrize("version", ["abc", "0.25.x", "latest", "0.25.1-"])
def test_a_version_that_is_none(command: list[str], version: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = told(capsys, *command, *RUN, f"engine.version={version}")
    assert f"this is no version engine.version = {version}" in text
    assert 'a release ("0.32.0") or a specifier' in text


def test_a_version_before_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert "no known release engine.version = <0.1" in told(capsys, "plan", *RUN, "engine.version='<0.1'")


def test_an_unknown_adapter(capsys: pytest.CaptureFixture[str]) -> None:
    text = told(capsys, "plan", *RUN, "engine.adapter=v3")
    assert "engine.adapter = v3 (command line)" in text
    assert "one of: v0, v1, v2" in text


def test_an_engine_without_vllm(environment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "this interpreter has no vLLM" in told(capsys, "plan", *RUN, f"engine.python={environment}/bin/python")
    assert "this interpreter has no vLLM" in told(capsys, "plan", *RUN, f"engine.python={environment}")
    assert "there is no vLLM in this folder" in told(capsys, "plan", *RUN, f"engine.python={tmp_path}")
    assert "there is no such interpreter" in told(capsys, "plan", *RUN, f"engine.python={tmp_path}/nothing")


def test_a_broken_source_file(environment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    python = install(environment, "0.25.1", {"engine/arg_utils.py": "def broken(:\n"})
    for command in (["plan"], ["engine", "check"]):
        text = told(capsys, *command, *RUN, f"engine.python={python}")
        assert text.count("a source file of this vLLM is broken: SyntaxError") == 1
        assert "engine/arg_utils.py" in text
        assert "install this vLLM again" in text


def test_sources_that_cannot_be_followed_are_no_mistake(environment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    python = install(environment, "0.25.1", {"engine/arg_utils.py": "class EngineArgs: ...\n"})
    assert main(["plan", *RUN, f"engine.python={python}"]) == 0
    assert "those of vLLM 0.25.1 are assumed" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("command", [["plan"], ["engine", "check"]])
def test_an_unknown_option(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    run = [*command, *RUN, "engine.version=0.25.1"]
    text = told(capsys, *run, "serve.extra_args=['--max-num-sqs','4']")
    assert "vLLM 0.25.1 has no --max-num-sqs" in text and "did you mean --max-num-seqs?" in text
    text = told(capsys, *run, "serve.extra_args=['--disable-log-requests']")
    assert "only with --enable-log-requests" in text and "0.16.0 and earlier of vLLM have it" in text
    text = told(capsys, *run, "serve.extra_args=['--qlora-adapter-name-or-path','x']")
    assert "0.5.5 to 0.9.2 of vLLM have it" in text


@pytest.mark.parametrize("command", [["plan"], ["engine", "check"]])
def test_an_option_given_both_ways(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    run = [*command, *RUN, "engine.version=0.25.1"]
    text = told(capsys, *run, "serve.port=9000", "serve.extra_args=['--port','9001']")
    assert "serve.port says --port already" in text
    assert "set serve.port instead, and leave --port out" in text


REFUSED = [
    ("memory.swap_gib=4", "0.25.1", "the swap space does nothing since the V1 engine", "use memory.kv_offload_gib"),
    ("memory.kv_cache.dtype=float32", "0.25.1", "float32", "auto"),
    ("memory.kv_cache.calculate_scales=true", "0.28.0", "KV scales are no longer computed", "k_scale and v_scale"),
    ("memory.kv_cache.dtype=nvfp4", "0.19.1", "does not know nvfp4", "0.22.1 and later of vLLM take it"),
    ("memory.kv_cache.size_gib=2", "0.9.2", "has no --kv-cache-memory-bytes", "0.10.2 and later of vLLM have it"),
    ("serve.cpu_threads_bind=0-3", "0.25.1", "only the CPU engine binds its ranks", "hardware=cpu"),
    ("+engine.env.VLLM_USE_V1='0'", "0.25.1", "has no V0 engine", "use vLLM before 0.11.0"),
]


@pytest.mark.parametrize("command", [["plan"], ["engine", "check"]])
@pytest.mark.parametrize("case", REFUSED)
def test_a_pinned_setting_that_the_release_cannot_honour(
    command: list[str], case: tuple[str, str, str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    override, version, message, remedy = case
    text = told(capsys, *command, *RUN, f"engine.version={version}", override, "--format", "json")
    assert message in text
    assert remedy in text
