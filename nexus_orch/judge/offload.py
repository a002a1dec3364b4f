"""Offload is asserted, not hoped: a start that was to keep weights in host RAM must show in its log that it does.

Releases from 0.19.1 print what they offload and are silent when they offload nothing. 0.22.1 to 0.25.1 never install
the offloader in their second model runner (measured on an H100: both back ends loaded all weights on the card).
"""

from __future__ import annotations

from packaging.version import InvalidVersion, Version

from nexus_orch.judge.patterns import shipped_patterns
from nexus_orch.judge.reading import LogReading
from nexus_orch.judge.signatures import Match
from nexus_orch.types import Failed

PROOF_SINCE = Version("0.19.1")
"""The first of the 18 releases that were read which prints "Total CPU offloaded parameters"."""
DEAF_RUNNER_SINCE, DEAF_RUNNER_UNTIL = Version("0.22.1"), Version("0.25.1")

_CPU_REMEDY = "the CPU engine takes the offload flag and does nothing with it: set memory.cpu_offload_gib=0"


def judge_offload(reading: LogReading, expected_bytes: int = 0) -> Failed | None:
    """Failed when weights were to be offloaded and the log proves that none were; None when it does not prove that.

    `expected_bytes` is what the plan meant to offload; without a plan, what the command line asked for counts.
    """
    measured = reading.measured
    asked = bool(expected_bytes or measured.requested_offload_bytes or measured.requested_prefetch_group_size)
    if not asked or any(measured.of_ranks("offloaded_bytes")) or not _is_proof_due(reading):
        return None
    best = reading.evidence.best
    remedy = _CPU_REMEDY if measured.device == "cpu" else shipped_patterns().remedy("offload_ignored")
    if best is not None and not _follows_from_full_card(best):
        remedy = f"{remedy}; for what ended the engine: {best.remedy}"
    evidence = (*reading.offload_lines, *(reading.evidence.lines() if best is not None else ()))
    return Failed("offload_ignored", evidence or ("the log names nothing that was offloaded",), remedy)


def _is_proof_due(reading: LogReading) -> bool:
    """True when this release would have told by now what it offloads: the KV cache comes after the weights."""
    version = _parse_version(reading.measured.engine_version)
    if version is None or version < PROOF_SINCE:
        return False
    if reading.measured.model_runner == "V2" and DEAF_RUNNER_SINCE <= version <= DEAF_RUNNER_UNTIL:
        return True
    return reading.is_up or bool(reading.measured.of_ranks("kv_cache_bytes"))


def _follows_from_full_card(match: Match) -> bool:
    """True for the failures that an ignored offload brings about: mending the offload mends them."""
    return match.cause in {
        "weights_oom",
        "profile_oom",
        "sampler_oom",
        "no_kv_cache_memory",
        "context_too_long",
        "graph_capture_oom",
        "runtime_oom",
        "worker_died",
        "engine_dead",
    }


def _parse_version(text: str | None) -> Version | None:
    try:
        return None if text is None else Version(text)
    except InvalidVersion:
        return None
