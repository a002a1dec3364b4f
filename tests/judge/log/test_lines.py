"""One line taken apart: the formats of all releases, and what wrappers put around them."""

from __future__ import annotations

import pytest

from nexus_orch.judge.log.lines import MAX_LINE_CHARACTERS, LogRecord, parse_line
from nexus_orch.judge.log.wrappers import Unwrapper

FORMATS = {
    "V0, no brackets": (
        "INFO 12-20 00:49:35 config.py:887] Defaulting to use mp for distributed inference",
        LogRecord("", "Defaulting to use mp for distributed inference", None, "INFO", "config.py"),
    ),
    "V0 worker": (
        "(VllmWorkerProcess pid=6923) INFO 07-17 23:41:16 model_runner.py:559] Loading model weights took 6.1138 GB",
        LogRecord("", "Loading model weights took 6.1138 GB", "VllmWorkerProcess pid=6923", "INFO", "model_runner.py"),
    ),
    "Ray worker": (
        "(RayWorkerWrapper pid=1463574, ip=192.0.2.60) INFO 03-27 10:29:01 [worker.py:267] Memory profiling takes 4 s",
        LogRecord("", "Memory profiling takes 4 s", "RayWorkerWrapper pid=1463574", "INFO", "worker.py"),
    ),
    "0.9, rank in the name": (
        "(VllmWorker rank=0 pid=2120280) INFO 07-28 23:02:27 [gpu_worker.py:255] Available KV cache memory: 18.83 GiB",
        LogRecord("", "Available KV cache memory: 18.83 GiB", "VllmWorker rank=0 pid=2120280", "INFO", "gpu_worker.py"),
    ),
    "0.11, expert parallel": (
        "(Worker_TP7_EP7 pid=7475) ERROR 10-23 08:05:13 [multiproc_executor.py:671] WorkerProc hit an exception.",
        LogRecord("", "WorkerProc hit an exception.", "Worker_TP7_EP7 pid=7475", "ERROR", "multiproc_executor.py"),
    ),
    "folder in the module": (
        "(EngineCore_DP0 pid=142) ERROR 11-04 18:03:00 [v1/engine/core.py:708] Traceback (most recent call last):",
        LogRecord("", "Traceback (most recent call last):", "EngineCore_DP0 pid=142", "ERROR", "v1/engine/core.py"),
    ),
    "debug, shortened path": (
        "(Worker pid=3) DEBUG 11-22 12:31:29 [model_executor/.../base.py:137] Offloader set to NoopOffloader",
        LogRecord("", "Offloader set to NoopOffloader", "Worker pid=3", "DEBUG", "model_executor/.../base.py"),
    ),
    "colours": (
        "\x1b[1;36m(APIServer pid=1530)\x1b[0;0m INFO 11-22 12:30:25 [model.py:619] Resolved architecture: Qwen2",
        LogRecord("", "Resolved architecture: Qwen2", "APIServer pid=1530", "INFO", "model.py"),
    ),
    "Docker Compose": (
        "vllm-1  | (APIServer pid=1) INFO 11-22 12:30:25 [model.py:619] Resolved architecture: Qwen2",
        LogRecord("", "Resolved architecture: Qwen2", "APIServer pid=1", "INFO", "model.py"),
    ),
    "a log shipper's prefix": (
        "2024-10-07T22:54:54,595 [INFO ] W-9000-stdout MODEL_LOG - INFO 10-07 22:54:54 llm_engine.py:226] Initializing",
        LogRecord("", "Initializing", None, "INFO", "llm_engine.py"),
    ),
    "uvicorn": (
        "INFO:     Application startup complete.",
        LogRecord("", "Application startup complete.", None, "INFO", None),
    ),
    "uvicorn, named": (
        "(APIServer pid=1724) INFO:     Started server process [1724]",
        LogRecord("", "Started server process [1724]", "APIServer pid=1724", "INFO", None),
    ),
    "traceback of a rank": (
        "[rank0]: RuntimeError: CUDA error: invalid device ordinal",
        LogRecord("", "RuntimeError: CUDA error: invalid device ordinal", None, None, None),
    ),
    "plain, named": (
        "(EngineCore pid=1591) ValueError: No available memory for the cache blocks.",
        LogRecord("", "ValueError: No available memory for the cache blocks.", "EngineCore pid=1591", None, None),
    ),
    "plain, in a container of CI": (
        "[2026-02-24T20:21:58Z] (EngineCore_DP0 pid=6940) ValueError: nothing",
        LogRecord("", "ValueError: nothing", "EngineCore_DP0 pid=6940", None, None),
    ),
    "parentheses that are no process": (
        "(this is a remark) and more",
        LogRecord("", "(this is a remark) and more", None, None, None),
    ),
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_line_is_taken_apart(name: str) -> None:
    text, expected = FORMATS[name]
    (unwrapped,) = Unwrapper().unwrap(text)
    record = parse_line(unwrapped.text)
    assert (record.message, record.process, record.level, record.module) == (
        expected.message,
        expected.process,
        expected.level,
        expected.module,
    )


def test_of_a_rewritten_line_the_last_state_counts() -> None:
    assert parse_line("Capturing:   0%|  | 0/51\rCapturing:   6%|  | 3/51\r\r").message == "Capturing:   6%|  | 3/51"


def test_carriage_returns_alone_are_an_empty_line() -> None:
    assert parse_line("\r\r \r").message == ""


def test_what_lies_beyond_the_longest_line_is_not_read() -> None:
    assert len(parse_line("x" * (3 * MAX_LINE_CHARACTERS)).text) == MAX_LINE_CHARACTERS


def test_a_frame_of_a_traceback_is_code() -> None:
    frame = "(EngineCore pid=1) ERROR 11-22 12:30:47 [core.py:1231]     raise ValueError('Unknown dtype: x')"
    assert parse_line(frame).is_code
    assert parse_line('(EngineCore pid=1)   File "core.py", line 3, in f').is_code
    assert not parse_line("  Value error, Unknown quantization method: x").is_code


def test_routine_lines_are_those_that_vllm_calls_so() -> None:
    assert parse_line("INFO 12-20 00:49:35 config.py:887] all is well").is_routine
    assert not parse_line("ERROR 12-20 00:49:35 config.py:887] nothing is").is_routine
    assert not parse_line("Traceback (most recent call last):").is_routine
