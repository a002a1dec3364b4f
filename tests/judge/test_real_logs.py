"""Every real log gets its right cause, the right evidence and the numbers that it holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from nexus_orch.judge.log.important import is_important
from nexus_orch.judge.log.reading import LogReading, follow
from nexus_orch.judge.start.diagnosis import judge_log
from nexus_orch.types import GIB, Stage
from tests.judge.logs import LOGS, lines_of, read


@dataclass(frozen=True)
class Known:
    """What is known of a log: its cause, a piece of the first line of evidence and of the remedy, some numbers."""

    cause: str | None
    evidence: str = ""
    remedy: str = ""
    version: str | None = "0.32.0"
    measured: dict[str, Any] = field(default_factory=dict)


def served(measured: dict[str, Any]) -> Known:
    """A start of 0.25.1 that served until it was told to stop."""
    return Known(None, remedy="was shut down as it was told to", version="0.25.1", measured=measured)


SYMPTOMS = ("engine_dead",)
"""Causes that only symptoms show."""

KNOWN: dict[str, Known] = {
    "0.25.1-h100-q7_eager": served(
        {
            "weights_bytes": round(14.29 * GIB),
            "kv_cache_bytes": round(57.21 * GIB),
            "kv_cache_tokens": 1_071_264,
            "max_concurrency": 130.77,
            "max_model_len": 8192,
            "model_runner": "V2",
            "init_seconds": 20.86,
            "enforce_eager": True,
        }
    ),
    "0.25.1-h100-q7_default": served(
        {"cuda_graph_bytes": round(0.89 * GIB), "compile_seconds": 17.65, "kv_cache_tokens": 1_071_136}
    ),
    "0.25.1-h100-q32_eager": served({"weights_bytes": round(61.04 * GIB)}),
    "0.25.1-h100-q14_nooff": Known(
        "no_kv_cache_memory",
        "No available memory for the cache blocks",
        "memory.strategy=hybrid",
        "0.25.1",
        {"weights_bytes": round(27.57 * GIB), "kv_cache_missing_bytes": round(7.41 * GIB)},
    ),
    "0.25.1-h100-q14_off8p5_eager": Known(
        "offload_ignored",
        "'cpu_offload_gb': 8.5",
        "VLLM_USE_V2_MODEL_RUNNER=0",
        "0.25.1",
        {"requested_offload_bytes": round(8.5 * GIB), "weights_bytes": round(27.57 * GIB)},
    ),
    "0.25.1-h200-q14_uva": served(
        {
            "requested_offload_bytes": round(13.76 * GIB),
            "offloaded_bytes": round(13.84 * GIB),
            "weights_bytes": round(13.7 * GIB),
            "kv_cache_tokens": 41_328,
        }
    ),
    "0.25.1-h200-q14_prefetch": served(
        {
            "requested_prefetch_group_size": 8,
            "offloaded_bytes": 23_122_600_000,
            "static_pool_bytes": 550_500_000,
            "weights_bytes": round(5.99 * GIB),
            "kv_cache_tokens": 45_072,
        }
    ),
    "0.25.1-h200-q30a3b_experts": served({"offloaded_bytes": round(28.88 * GIB), "weights_bytes": round(28.06 * GIB)}),
    "0.25.1-h200-q30a3b_experts_first": served(
        {
            "offloaded_bytes": round(42.75 * GIB),
            "weights_bytes": round(14.18 * GIB),
            "kv_cache_tokens": 81_632,
        }
    ),
    "0.25.1-h200-q30a3b_experts_prefetched": served(
        {
            "offloaded_bytes": 31_406_900_000,
            "static_pool_bytes": 1_208_000_000,
            "weights_bytes": round(27.68 * GIB),
            "kv_cache_tokens": 90_304,
        }
    ),
    "0.25.1-h200-q30a3b_graphs": served(
        {
            "offloaded_bytes": round(14.25 * GIB),
            "weights_bytes": round(42.68 * GIB),
            "kv_cache_tokens": 65_536,
            "compile_seconds": 46.13,
        }
    ),
    "0.25.1-h200-q32_no_offload": served(
        {"weights_bytes": round(61.04 * GIB), "max_concurrency": 14.74, "model_runner": "V2"}
    ),
    "0.25.1-h200-q7_compiling_leaves_no_cache": Known(
        "no_kv_cache_memory",
        "No available memory for the cache blocks",
        "memory.enforce_eager=true",
        "0.25.1",
        {
            "offloaded_bytes": round(0.31 * GIB),
            "weights_bytes": round(13.98 * GIB),
            "kv_cache_missing_bytes": round(0.24 * GIB),
        },
    ),
    "0.25.1-h200-q7_memory_given_back": Known(
        "memory_busy",
        "Initial free memory 123.61 GiB, current free memory 132.11 GiB",
        "another program gave memory back while vLLM measured",
        "0.25.1",
        {"offloaded_bytes": 8_390_100_000},
    ),
    "0.32.0-cpu-ok": Known(
        None,
        remedy="was shut down as it was told to",
        measured={"kv_cache_tokens": 524_288, "kv_cache_bytes": GIB, "model_runner": "V1", "device": "cpu"},
    ),
    "0.32.0-cpu-interrupted-while-serving": Known(None, remedy="was shut down as it was told to"),
    "0.32.0-cpu-told-to-stop-while-starting": Known(None, remedy="told to stop while starting"),
    "0.32.0-cpu-auto-kv-then-worker-killed": Known(
        "illegal_instruction",
        "died unexpectedly (exit code: -4)",
        "model.dtype=float16",
        measured={"kv_cache_bytes": round(4.41 * GIB), "consumed_bytes": round(0.61 * GIB)},
    ),
    "0.32.0-cpu-worker-killed-after-ready": Known("illegal_instruction", "(exit code: -4)", "model.dtype=float16"),
    "0.32.0-cpu-worker-killed-by-signal-9": Known("worker_died", "Worker proc VllmWorker-0 died unexpectedly"),
    "0.32.0-cpu-core-killed-by-signal-9": Known("engine_dead", "EngineDeadError"),
    "0.32.0-cpu-bad-block-size": Known(
        "unsupported_block_size", "No common block size for 16", "memory.kv_cache.block_size=null"
    ),
    "0.32.0-cpu-context-too-long": Known(
        "context_too_long",
        "To serve at least one request",
        "model.max_model_len=256",
        measured={"max_model_len": 2048, "max_model_len_possible": 256},
    ),
    "0.32.0-cpu-context-exceeds-model": Known(
        "context_exceeds_model", "User-specified max_model_len (99999)", "model.max_model_len=2048"
    ),
    "0.32.0-cpu-offload-flag-no-effect": Known(
        "offload_ignored",
        "'cpu_offload_gb': 1.0",
        "memory.cpu_offload_gib=0; for what ended the engine: set model.dtype=float16",
        measured={"requested_offload_bytes": GIB},
    ),
    "0.32.0-cpu-prefetch-offload": Known("offload_unsupported", "Module parameters should not already be on CPU"),
    "0.32.0-cpu-model-not-found": Known("model_not_found", "Repo id must be in the form", "model.path"),
    "0.32.0-cpu-weights-missing": Known("weights_missing", "Cannot find any model weights with `./noweights`"),
    "0.32.0-cpu-weights-cut-short": Known("weights_missing", "incomplete metadata", "cut short"),
    "0.32.0-cpu-tokenizer-missing": Known("tokenizer_missing", "Couldn't instantiate the backend tokenizer"),
    "0.32.0-cpu-port-in-use": Known("port_in_use", "[Errno 98] Address already in use", "serve.port"),
    "0.32.0-cpu-unknown-quantization": Known(
        "unsupported_quantization", "Unknown quantization method: bitsandbytes", "no quantization bitsandbytes"
    ),
    "0.32.0-cpu-not-quantized": Known("unsupported_quantization", "Cannot find the config file for awq", "awq"),
    "0.32.0-cpu-unrecognized-argument": Known(
        "unrecognized_argument", "unrecognized arguments: --swap-space 4", "--swap-space 4", None
    ),
    "0.32.0-cpu-invalid-choice": Known("unrecognized_argument", "invalid choice: 'float12'", "--dtype", None),
    "0.32.0-cpu-tensor-parallel-invalid": Known(
        "tensor_parallel_invalid", "must be divisible by tensor parallel size (2)", "divisor of 9"
    ),
    "0.32.0-cpu-unsupported-architecture": Known("unsupported_architecture", "['FooBarForCausalLM']"),
    "0.32.0-cpu-unknown-model-type": Known("unsupported_architecture", "`foobar`", "newer engine.version"),
}


def test_every_log_is_known() -> None:
    assert {path.stem.removeprefix("vllm-") for path in LOGS.glob("*.log")} == set(KNOWN)


@pytest.mark.parametrize("name", KNOWN)
def test_a_real_log_is_judged_rightly(name: str) -> None:
    known = KNOWN[name]
    diagnosis = judge_log(read(*lines_of(name)))
    assert diagnosis.cause == known.cause
    assert known.remedy in diagnosis.remedy
    assert diagnosis.engine_version == known.version
    assert known.measured.items() <= diagnosis.measured.items()
    if known.cause is None:
        assert diagnosis.evidence == ()
    else:
        first = diagnosis.evidence[0]
        # Where nothing but symptoms was seen none of them tells more than the others: they stand as they came.
        assert known.evidence in ("\n".join(diagnosis.evidence) if known.cause in SYMPTOMS else first)


@pytest.mark.parametrize("name", KNOWN)
def test_lines_that_change_the_judgement_are_important(name: str) -> None:
    """A flood must not cost a run its verdict: whatever moves the judge is never dropped before other lines."""
    reading = LogReading()
    for line in lines_of(name):
        after = follow(reading, line)
        moved = (
            after.measured != reading.measured
            or after.evidence.matches != reading.evidence.matches
            or after.evidence.told_to_stop != reading.evidence.told_to_stop
            or after.is_up != reading.is_up
            or after.starting.stage != reading.starting.stage
        )
        assert not moved or is_important(line), line
        reading = after


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("0.25.1-h100-q7_default", ["starting", "loading", "profiling", "capturing", "warming"]),
        ("0.25.1-h100-q7_eager", ["starting", "loading", "profiling", "warming"]),
        ("0.25.1-h200-q14_uva", ["starting", "loading", "profiling", "warming"]),
        ("0.25.1-h200-q14_prefetch", ["starting", "loading", "profiling", "warming"]),
        ("0.25.1-h200-q7_memory_given_back", ["starting", "loading", "profiling"]),
        ("0.32.0-cpu-ok", ["starting", "loading", "warming"]),
        ("0.32.0-cpu-port-in-use", ["starting"]),
    ],
)
def test_a_real_start_goes_through_its_stages(name: str, stages: list[str]) -> None:
    reading = LogReading()
    seen: list[Stage] = [reading.starting.stage]
    for line in lines_of(name):
        reading = follow(reading, line)
        if reading.starting.stage != seen[-1]:
            seen.append(reading.starting.stage)
    assert seen == [Stage(stage) for stage in stages]


def test_the_graphs_progress_is_told_while_they_are_captured() -> None:
    reading, told = LogReading(), []
    for line in lines_of("0.25.1-h100-q7_default"):
        reading = follow(reading, line)
        if reading.starting.stage == Stage.CAPTURING and reading.starting.progress is not None:
            told.append((reading.starting.progress, reading.starting.detail))
    assert told[0] == (0.0, "Capturing CUDA graphs (PIECEWISE) 0/51")
    assert told[-1] == (1.0, "Capturing CUDA graphs (FULL) 51/51")


def test_one_log_with_two_starts_is_judged_by_the_last() -> None:
    """A container that is restarted appends to its log."""
    failed, good = lines_of("0.32.0-cpu-context-too-long"), lines_of("0.32.0-cpu-ok")
    assert judge_log(read(*failed, *good)).cause is None
    assert judge_log(read(*good, *failed)).cause == "context_too_long"
