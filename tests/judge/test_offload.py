"""Offload is asserted: promised and not proven is a failure, where the release would have proven it."""

from __future__ import annotations

import pytest

from nexus_orch.judge.offload import Expected, judge_offload
from nexus_orch.types import GIB
from tests.judge.logs import read

KV = "(EngineCore pid=7) INFO 11-22 12:30:47 [gpu_worker.py:538] Available KV cache memory: 7.41 GiB"
UVA = "(EngineCore pid=7) INFO 11-22 12:30:45 [uva.py:68] Total CPU offloaded parameters: 8.61"
V2_RUNNER = "(EngineCore pid=7) INFO 11-22 12:30:43 [gpu_worker.py:360] Using V2 Model Runner"


def expect(*offloaded_bytes: int, asked_bytes: int = 0, tensor_parallel: int = 1) -> Expected:
    kept = (10 * GIB,) * len(offloaded_bytes)
    return Expected(offloaded_bytes, kept, asked_bytes, tensor_parallel, "uva" if asked_bytes else "prefetch")


def engine(version: str) -> str:
    prefix = "(EngineCore pid=7) INFO 11-22 12:30:42 [core.py:114]"
    return f"{prefix} Initializing a V1 LLM engine (v{version}) with config: a=1"


def asked(setting: str) -> str:
    return f"(APIServer pid=1) INFO 11-22 12:30:25 [api_utils.py:273] non-default args: {{'model': 'm', {setting}}}"


def test_what_was_offloaded_is_proven() -> None:
    assert judge_offload(read(engine("0.25.1"), UVA, KV), expect(8 * GIB)) is None


def test_a_plan_without_offload_needs_no_proof() -> None:
    assert judge_offload(read(engine("0.25.1"), KV)) is None


def test_a_silent_log_proves_that_nothing_was_offloaded() -> None:
    failed = judge_offload(read(engine("0.28.0"), KV), expect(8 * GIB))
    assert failed is not None
    assert failed.cause == "offload_ignored"
    assert failed.evidence


@pytest.mark.parametrize("setting", ["'cpu_offload_gb': 8.5", "'offload_group_size': 4"])
def test_without_a_plan_the_command_line_is_the_promise(setting: str) -> None:
    loaded = "(EngineCore pid=7) INFO 11-22 12:30:45 [m.py:1] Model loading took 27.57 GiB and 1.4 seconds"
    failed = judge_offload(read(asked(setting), engine("0.28.0"), loaded, KV))
    assert failed is not None
    assert failed.evidence == (asked(setting), loaded)


def test_it_is_too_early_before_the_kv_cache() -> None:
    assert judge_offload(read(engine("0.28.0")), expect(8 * GIB)) is None


def test_the_second_runner_of_some_releases_is_known_to_be_deaf() -> None:
    """Their first hundred gigabytes need not be loaded to know it."""
    assert judge_offload(read(engine("0.25.1"), V2_RUNNER), expect(8 * GIB)) is not None
    assert judge_offload(read(engine("0.28.0"), V2_RUNNER), expect(8 * GIB)) is None


@pytest.mark.parametrize("version", ["0.16.0", "0.9.2", "not a version"])
def test_a_release_that_does_not_tell_is_not_accused(version: str) -> None:
    assert judge_offload(read(engine(version), KV), expect(8 * GIB)) is None


def test_a_server_that_is_up_must_have_told() -> None:
    assert judge_offload(read(engine("0.28.0"), "INFO:     Application startup complete."), expect(GIB)) is not None


def test_what_a_full_card_brings_about_is_not_told_as_another_failure() -> None:
    error = "(EngineCore pid=7) ERROR 11-22 12:30:47 [core.py:1231] "
    full = judge_offload(read(engine("0.28.0"), KV, error + "No available memory for the cache blocks"), expect(GIB))
    other = judge_offload(read(engine("0.28.0"), KV, error + "EADDRINUSE"), expect(GIB))
    assert full is not None and other is not None
    assert "for what ended the engine" not in full.remedy
    assert "for what ended the engine: set serve.port" in other.remedy
