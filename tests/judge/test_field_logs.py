"""Logs that people posted: each is judged as its index says, whatever wraps it, and wherever it is cut."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.field.logs import Case, diagnose, read_cases, score
from nexus_orch.judge.log.starts import read_history
from nexus_orch.judge.start.diagnosis import judge_history

CASES = {case.path.name: case for case in read_cases()}
PLAIN = sorted(name for name, case in CASES.items() if case.causes[0] is not None and "json" not in name)
UNTRUE = ("no failure in this log", "was killed", "not written by vLLM", "no line of this log")

WRAPPERS: dict[str, Callable[[str], str]] = {
    "compose": lambda line: f"engine-1  | {line}",
    "kubectl": lambda line: f"[pod/llm-5f7c9d-x2/vllm] {line}",
    "journald": lambda line: f"Jan 15 09:02:11 box vllm[77]: {line}",
    "journald, ISO": lambda line: f"2026-01-15T09:02:11+0100 box vllm[77]: {line}",
    "container runtime": lambda line: f"2026-01-15T09:02:11.123456789Z stderr F {line}",
    "docker JSON": lambda line: json.dumps({"log": line + "\n", "stream": "stderr", "time": "2026-01-15T09:02:11Z"}),
    "cloud JSON": lambda line: json.dumps({"severity": "ERROR", "jsonPayload": {"message": line}}),
    "colours": lambda line: f"\x1b[1;36m{line}\x1b[0;0m",
    "zeros": lambda line: f"\0\0{line}",
    "box": lambda line: f"│ {line} │",
    "line numbers": lambda line: f"  1204\t{line}",
    "nobody listed": lambda line: f"<14>acme-7/gpu#3 17:02:11.5 >> {line}",
    "quoted": lambda line: f"> {line}",
}


NOISE = (
    "[notice] A new release of pip is available: 24.0 -> 25.0",
    "[notice] To update, run: pip install --upgrade pip",
    "ERROR: pip's dependency resolver does not take into account all the packages.",
    "huggingface/tokenizers: The current process just got forked, after parallelism has already been used.",
    "/opt/x.py:3: FutureWarning: The pynvml package is deprecated. Please install nvidia-ml-py instead.",
    "[W115 09:00:00.1 socket.cpp:755] [c10d] The client socket cannot be initialized to connect to [localhost]:29500",
    "[rank0]:[W115 09:00:00 ProcessGroupNCCL.cpp:1496] Warning: WARNING: destroy_process_group() was not called",
    "/x/resource_tracker.py:254: UserWarning: resource_tracker: There appear to be 1 leaked shared_memory objects",
    "[Gloo] Rank 0 is connected to 0 peer ranks. Expected number of connected peer ranks is : 0",
    "node:1:1 [0] NCCL INFO cudaDriverVersion 12080",
    "WARNING: The NVIDIA Driver was not detected.  GPU functionality will not be available.",
    "WARNING 01-15 09:00:00 [interface.py:1] Failed to import from vllm._rocm_C with ModuleNotFoundError('x')",
    "INFO 01-15 09:00:00 [importing.py:68] Triton not installed or not compatible",
    "groups: cannot find name for group ID 1000",
)
"""What logs of all kinds hold and what no failure is."""


def lines_of(case: Case) -> list[str]:
    return case.path.read_text(encoding="utf-8").replace("\0", "").splitlines()


@pytest.mark.parametrize("name", CASES)
def test_a_log_of_the_field_is_judged_as_its_index_says(name: str) -> None:
    scored = score(CASES[name], diagnose(CASES[name].path))
    assert scored.wrong == ()


@pytest.mark.parametrize("name", CASES)
def test_no_untrue_sentence(name: str) -> None:
    assert not any(text in diagnose(CASES[name].path).remedy for text in UNTRUE)


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize(
    "name", [name for name in PLAIN if CASES[name].path.name[:2] not in ("04", "05", "25", "27", "33")]
)
def test_what_stands_around_the_lines_changes_nothing(name: str, wrapper: str) -> None:
    lines = lines_of(CASES[name])
    assert judge_history(read_history(map(WRAPPERS[wrapper], lines))).cause == judge_history(read_history(lines)).cause


@pytest.mark.parametrize("name", CASES)
def test_noise_changes_no_cause(name: str) -> None:
    lines = lines_of(CASES[name])
    noisy = judge_history(read_history((*NOISE, *lines, *NOISE)))
    assert noisy.cause == judge_history(read_history(lines)).cause


def test_noise_alone_is_no_failure() -> None:
    assert judge_history(read_history(NOISE)).cause is None


@given(st.sampled_from(sorted(CASES)), st.data())
def test_a_log_that_is_cut_anywhere_is_judged(name: str, data: st.DataObject) -> None:
    text = "\n".join(lines_of(CASES[name]))
    first, last = sorted((data.draw(st.integers(0, len(text))), data.draw(st.integers(0, len(text)))))
    found = judge_history(read_history(text[first:last].split("\n")))
    assert found.remedy
    assert found.cause is None or found.evidence or "above" in found.remedy or "right file" in found.remedy


@given(st.lists(st.text(max_size=120), max_size=40))
def test_any_text_is_judged(lines: list[str]) -> None:
    assert judge_history(read_history(lines)).remedy


def test_figures_that_cannot_be_are_not_shown() -> None:
    assert "oom_process_bytes" not in diagnose(CASES["24-oom-while-autotuning.log"].path).measured


def test_a_service_shows_only_its_own_figures() -> None:
    measured = diagnose(CASES["05-two-services-one-card.log"].path).measured
    assert not {"kv_cache_tokens", "cuda_graph_bytes", "kv_cache_bytes"} & measured.keys()
    assert measured["kv_cache_missing_bytes"] > 0
