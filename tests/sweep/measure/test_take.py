"""One measurement from the warm-up to the record."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nexus_orch.sweep.measure.take import MOST_TRIES, take_measurement
from nexus_orch.sweep.measure.types import Load
from nexus_orch.sweep.measure.vllm_bench import BenchUnavailable
from nexus_orch.testing import FakeEngine
from tests.sweep.measure.conftest import Serve
from tests.sweep.measure.test_watch import JIT

LOAD = Load(2, 16, 8, 6)


def test_the_record_says_who_measured_what_with_which_prompts(serve: Serve) -> None:
    target = serve(FakeEngine())
    first, second = take_measurement(target, LOAD), take_measurement(target, LOAD)
    assert first.figures.client.startswith("vllm bench serve")
    assert first.load == LOAD
    assert not first.is_spoilt
    assert first.seed != second.seed


def test_without_vllms_client_ours_measures_and_says_why(serve: Serve) -> None:
    target = replace(serve(FakeEngine()), tokenizer=None)
    taken = take_measurement(target, LOAD)
    assert taken.figures.client == "nexus_orch"
    assert "measured by nexus_orch: the model's tokenizer is not known" in taken.notes
    with pytest.raises(BenchUnavailable):
        take_measurement(target, LOAD, client="vllm")


def test_compilation_is_measured_again_and_in_the_end_told(serve: Serve, tmp_path: Path) -> None:
    log = tmp_path / "compiling.log"
    log.write_text("", encoding="utf-8")
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)

    target = replace(serve(FakeEngine()), launcher=_compiling(serve, log), log=log)
    taken = take_measurement(target, LOAD, say=say)
    assert taken.tries == MOST_TRIES
    assert taken.is_spoilt
    assert len(said) == MOST_TRIES - 1


def _compiling(serve: Serve, log: Path) -> tuple[str, ...]:
    """A launcher whose every benchmark makes the engine compile."""
    script = log.with_name("compiling.sh")
    start = " ".join(FakeEngine.launcher())
    script.write_text(f"#!/bin/sh\necho '{JIT}' >> {log}\nexec {start} \"$@\"\n", encoding="utf-8")
    script.chmod(0o755)
    return (str(script),)


def test_a_server_that_fails_everything_is_not_measured_further(serve: Serve) -> None:
    taken = take_measurement(serve(FakeEngine(completions="error")), LOAD)
    assert taken.figures.failed == taken.figures.requests
    assert "HTTP 500" in taken.figures.error
