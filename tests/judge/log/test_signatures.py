"""Which line of a failing log counts: the specific before the general, the first before its consequences."""

from __future__ import annotations

import pytest

from nexus_orch.judge.log.conclusion import show_lines
from nexus_orch.judge.log.evidence import MAX_ERRORS, MAX_EVIDENCE_CHARACTERS, MAX_MATCHES, Evidence
from tests.judge.logs import read

ERROR = "(EngineCore pid=7) ERROR 11-22 12:28:39 [core.py:1510] "
INFO = "(EngineCore pid=7) INFO 11-22 12:28:39 [core.py:1510] "
OOM = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.5 GiB"
UP = "INFO:     Application startup complete."
DEAD = ERROR + "EngineCore encountered an issue. See stack trace (above) for the root cause."


def evidence_of(*lines: str) -> Evidence:
    return read(*lines).evidence


def cause_of(*lines: str) -> str | None:
    best = evidence_of(*lines).best
    return None if best is None else best.cause


def test_the_cause_stands_above_the_generic_error() -> None:
    lines = [
        ERROR + "ValueError: No available memory for the cache blocks.",
        ERROR + "Worker proc VllmWorker-0 died unexpectedly (exit code: None), shutting down executor.",
        "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}",
    ]
    assert cause_of(*lines) == "no_kv_cache_memory"
    assert show_lines(read(*lines)) == (lines[0], lines[1], lines[2])


def test_a_specific_line_that_comes_late_still_counts_most() -> None:
    """The allocator speaks first, vLLM names the sampler only when it passes the error on."""
    assert cause_of(ERROR + OOM) == "weights_oom"
    told = ERROR + "RuntimeError: CUDA out of memory occurred when warming up sampler with 1024 dummy requests."
    assert cause_of(ERROR + OOM, told) == "sampler_oom"


@pytest.mark.parametrize(
    ("before", "cause"),
    [
        ([], "weights_oom"),
        ([INFO + "Starting to load model x..."], "weights_oom"),
        ([INFO + "Model loading took 14.29 GiB and 1.4 seconds"], "profile_oom"),
        ([INFO + "Available KV cache memory: 57.21 GiB"], "graph_capture_oom"),
        (["Capturing CUDA graphs (FULL):  50%|█  | 5/10 [00:00<00:09]"], "graph_capture_oom"),
        ([INFO + "Graph capturing finished in 5 secs, took 0.89 GiB"], "runtime_oom"),
        ([INFO + "Capturing CUDA graphs", UP], "runtime_oom"),
    ],
)
def test_the_stage_tells_what_did_not_fit(before: list[str], cause: str) -> None:
    assert cause_of(*before, ERROR + OOM) == cause


def test_a_first_error_is_kept_over_others_of_its_kind() -> None:
    """One rank runs out of memory, the others then complain that it is gone."""
    assert cause_of(ERROR + OOM, ERROR + "RuntimeError: NCCL error: unhandled system error") == "weights_oom"


@pytest.mark.parametrize("level", ["DEBUG", "INFO", "WARNING"])
def test_what_is_logged_while_all_is_well_is_no_evidence(level: str) -> None:
    line = (
        f"(APIServer pid=1) {level} 11-22 12:28:39 [logger.py:1] Received request x: prompt: 'Address already in use'"
    )
    assert cause_of(line) is None


def test_quoted_settings_and_requests_are_no_evidence() -> None:
    dumped = (
        ERROR
        + "Dumping input data for V1 LLM engine (v0.32.0) with config: model='CUDA out of memory. Tried to allocate'"
    )
    assert cause_of(dumped) is None


def test_source_lines_of_a_traceback_are_no_evidence() -> None:
    assert cause_of("Traceback (most recent call last):", '    raise ValueError("Unknown dtype: x")') is None


@pytest.mark.parametrize(
    "stop",
    [
        INFO + "[shutdown] EngineCore: trigger received signal=SIGTERM",
        "(APIServer pid=1) INFO 11-22 12:32:16 [launcher.py:100] [shutdown] API server: shutdown triggered",
        "INFO 11-22 12:32:16 [launcher.py:79] Shutting down FastAPI HTTP server.",
        "INFO:     Shutting down",
        "KeyboardInterrupt",
    ],
)
def test_what_dies_after_it_was_told_to_stop_has_not_failed(stop: str) -> None:
    assert cause_of(UP, stop, DEAD, ERROR + OOM) is None


def test_a_shutdown_that_a_failure_brought_about_does_not_hide_it() -> None:
    stop = "(APIServer pid=1) INFO 11-22 12:32:16 [launcher.py:100] [shutdown] API server: shutdown triggered"
    assert cause_of(UP, DEAD, stop, "INFO:     Shutting down") == "engine_dead"


def test_a_signal_to_the_whole_group_kills_the_core_before_the_server_hears_of_it() -> None:
    """Releases up to 0.19 then call the core's end unexpected."""
    died = "ERROR 01-16 17:16:49 [core_client.py:605] Engine core proc EngineCore_DP0 died unexpectedly, shutting down."
    stop = "INFO 11-22 12:32:16 [launcher.py:79] Shutting down FastAPI HTTP server."
    assert cause_of(UP, died) == "engine_dead"
    assert cause_of(UP, died, stop) is None
    much = [f"something {number}" for number in range(40)]
    assert cause_of(UP, died, *much, stop) == "engine_dead"
    assert cause_of(UP, ERROR + OOM, died, stop) == "runtime_oom"


def test_pinned_memory_is_told_by_the_frames_above() -> None:
    error = "RuntimeError: CUDA error: out of memory"
    frame = "    p.data = p.data.pin_memory()"
    assert cause_of("Traceback (most recent call last):", frame, error) == "pinned_memory_unavailable"
    assert cause_of(frame, "Traceback (most recent call last):", "    p.cuda()", error) == "memory_busy"


def test_an_unknown_failure_shows_its_first_exceptions() -> None:
    reading = read(
        ERROR + "Traceback (most recent call last):",
        ERROR + "KeyError: 'a gate'",
        "(EngineCore pid=7) KeyError: 'a gate'",
        "some library says something",
        "zmq.error.ZMQError: Socket operation on non-socket",
    )
    assert reading.evidence.best is None
    assert show_lines(reading) == (
        ERROR + "KeyError: 'a gate'",
        "zmq.error.ZMQError: Socket operation on non-socket",
    )


def test_without_any_exception_the_last_lines_are_shown() -> None:
    assert show_lines(read("one", "two", "three", "four", "five", "")) == ("two", "three", "four", "five")


def test_memory_is_bounded() -> None:
    lines = [ERROR + f"SomeStrangeError{number}Error: {'x' * 5_000}" for number in range(200)]
    causes = [ERROR + text for text in ("EADDRINUSE", "GatedRepoError", "std::bad_alloc", "SafetensorError", OOM)]
    evidence = evidence_of(*lines, *causes * 50, DEAD)
    assert len(evidence.errors) <= MAX_ERRORS
    assert len(evidence.matches) <= MAX_MATCHES
    assert all(
        len(line) <= MAX_EVIDENCE_CHARACTERS for line in (*evidence.errors, *(match.text for match in evidence.matches))
    )
