"""vLLM's own client: which options a release has, what its result says, and what becomes of its failures."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from nexus_orch.facts.engine.bench import read_bench_options
from nexus_orch.sweep.measure.types import BenchTarget, Load, MeasureCancelled, make_load
from nexus_orch.sweep.measure.vllm_bench import (
    BenchUnavailable,
    make_argv,
    measure_by_vllm,
    read_figures,
)
from nexus_orch.testing import FakeEngine
from nexus_orch.types import EngineFacts
from tests.sweep.measure.conftest import Serve

LOAD = Load(3, 16, 8, 9)


def write_sources(root: Path, *options: str, name: str = "benchmarks/serve.py") -> Path:
    """A package whose `vllm bench serve` takes these options."""
    command = root / "entrypoints/cli/benchmark/serve.py"
    command.parent.mkdir(parents=True, exist_ok=True)
    command.write_text("", encoding="utf-8")
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"    parser.add_argument({option!r}, type=str)" for option in options]
    path.write_text("def add(parser):\n" + "\n".join(lines or ["    pass"]) + "\n", encoding="utf-8")
    return root


def test_it_measures_what_was_sent(serve: Serve) -> None:
    figures = measure_by_vllm(serve(FakeEngine(tokens_per_second=400)), LOAD, 7, 60)
    assert figures.client == "vllm bench serve 0.25.1"
    assert (figures.requests, figures.failed) == (9, 0)
    assert figures.tokens_per_second == pytest.approx(9 * 8 / figures.seconds, rel=0.01)
    assert figures.inter_token_seconds is not None


def test_requests_that_fail_are_counted(serve: Serve) -> None:
    figures = measure_by_vllm(serve(FakeEngine(completions="error")), LOAD, 7, 60)
    assert (figures.failed, figures.tokens_per_second, figures.first_token_seconds) == (9, 0.0, None)


def test_one_that_hangs_is_ended_and_told(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nexus_orch.sweep.measure.vllm_bench.START_SECONDS", 0.5)
    with pytest.raises(BenchUnavailable, match="did not end within 1 s"):
        measure_by_vllm(serve(FakeEngine(completions="hang")), LOAD, 7, 0.5)


def test_a_cancelled_one_leaves_nothing(serve: Serve) -> None:
    cancel = threading.Event()
    target = serve(FakeEngine(completions="hang"), cancel=cancel)
    threading.Timer(0.5, cancel.set).start()
    with pytest.raises(MeasureCancelled):
        measure_by_vllm(target, LOAD, 7, 60)


def test_a_program_that_fails_says_why(serve: Serve) -> None:
    target = serve()
    broken = replace(target, launcher=(*target.launcher[:1], "-c", "raise ImportError('no module pandas')"))
    with pytest.raises(BenchUnavailable, match="ImportError: no module pandas"):
        measure_by_vllm(broken, LOAD, 7, 60)
    with pytest.raises(BenchUnavailable, match="cannot be started"):
        measure_by_vllm(replace(target, launcher=("/nowhere/python",)), LOAD, 7, 60)


def test_options_are_read_from_the_sources_wherever_they_lie(tmp_path: Path) -> None:
    write_sources(tmp_path, "--backend", "--base-url")
    write_sources(tmp_path, "--random-input-len", name="benchmarks/datasets/datasets.py")
    assert read_bench_options(tmp_path) == frozenset({"--backend", "--base-url", "--random-input-len"})
    assert read_bench_options(tmp_path / "nowhere") is None
    (tmp_path / "benchmarks/serve.py").write_text("def (", encoding="utf-8")
    assert read_bench_options(tmp_path) == frozenset({"--random-input-len"})


def test_a_release_is_told_only_what_it_knows(tmp_path: Path) -> None:
    target = make_target(tmp_path)
    old = frozenset({"--endpoint-type", "--base-url", "--model", "--num-prompts"})
    assert make_argv(target, old, LOAD, 7, tmp_path) == [
        *("vllm", "bench", "serve", "--endpoint-type", "openai", "--base-url", "http://127.0.0.1:8000"),
        *("--model", "served", "--num-prompts", "9"),
    ]


@pytest.mark.parametrize("lacks", ["engine", "launcher", "tokenizer", "command", "option"])
def test_where_it_cannot_be_had_it_says_why(tmp_path: Path, lacks: str) -> None:
    target = make_target(tmp_path)
    if lacks == "option":
        write_sources(tmp_path, "--base-url")
    if lacks == "engine":
        target = replace(target, engine=None)
    if lacks == "launcher":
        target = replace(target, launcher=())
    if lacks == "tokenizer":
        target = replace(target, tokenizer=None)
    with pytest.raises(BenchUnavailable):
        measure_by_vllm(target, LOAD, 7, 60)


def make_target(root: Path) -> BenchTarget:
    from nexus_orch.launch.server.server import Server

    facts = EngineFacts(version="0.9.2", device="cuda", source="installed", root=str(root))
    return BenchTarget(Server("127.0.0.1", 8000, "served"), facts, ("vllm",), tokenizer="folder")


def test_a_result_without_a_speed_is_none() -> None:
    with pytest.raises(BenchUnavailable):
        read_figures({"completed": 3}, make_load(1, 8, 8), "vllm")
