"""Offload is asserted, not hoped: a start that was to keep weights in host RAM must show in its log that it does.

Newer releases print what they offload and are silent when they offload nothing; before, the weights that stay on the
card tell it. Some never install the offloader in their second model runner (`nexus_orch.releases`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from nexus_orch.judge.log.conclusion import conclude
from nexus_orch.judge.log.measured import RankMeasured
from nexus_orch.judge.log.patterns import shipped_patterns
from nexus_orch.judge.log.reading import LogReading
from nexus_orch.judge.start.hang import UNKNOWN_SECONDS, find_silence
from nexus_orch.releases.engine import second_runner_ignores_weights
from nexus_orch.releases.host_ram import tells_what_it_offloads
from nexus_orch.releases.known import is_readable, parse_release
from nexus_orch.types import GIB, Cause, Failed, Plan, Proof

TOLERANCE = 0.1
"""How far what was offloaded may be from what was planned, as a fraction of the plan. A choice, not a measurement: the
starts in docs/measurements.md were exact to the two digits that vLLM prints."""
ROUNDING_BYTES = GIB // 100
"""vLLM prints GiB with two digits; small offloads are not judged closer."""

_CPU_REMEDY = "the CPU engine takes the offload flag and does nothing with it: set memory.cpu_offload_gib=0"
_STAGE, _SHARD = re.compile(r"PP(\d+)"), re.compile(r"TP(\d+)")


@dataclass(frozen=True)
class Expected:
    """What the plan promised, of each rank in the order of the plan: bytes of weights in host RAM and on the card.

    `asked_bytes` is what the command line tells the engine to fill up (0 where it tells no amount): whole parameters
    move until it is reached, so what is offloaded lies between it and the plan's own figure when the parameters come in
    another order.
    """

    offloaded_bytes: tuple[int, ...] = ()
    weights_bytes: tuple[int, ...] = ()
    asked_bytes: int = 0
    tensor_parallel: int = 1
    proof: Proof | None = None
    """How the log shows what is in host RAM; None where nothing was to be."""
    silence_seconds: float = UNKNOWN_SECONDS
    """How long a busy server may give no token."""

    def index_of(self, process: str) -> int | None:
        """Which rank a process is, by its name in the log ("Worker_PP1_TP0 pid=7"); None when that cannot be told."""
        if len(set(self.offloaded_bytes)) <= 1:
            return 0 if self.offloaded_bytes else None
        stage, shard = _STAGE.search(process), _SHARD.search(process)
        if stage is None and shard is None:
            return None
        index = int(stage[1] if stage else 0) * self.tensor_parallel + int(shard[1] if shard else 0)
        return index if index < len(self.offloaded_bytes) else None


def make_expected(plan: Plan) -> Expected:
    """What a launch by this plan must show."""
    settings, proof = plan.settings, plan.proof
    asked = settings.get(proof.asked) if proof is not None and proof.asked is not None else None
    return Expected(
        tuple(card.offloaded_bytes for card in plan.per_gpu) if proof is not None else (),
        tuple(card.weights_bytes for card in plan.per_gpu),
        int(float(asked or 0) * GIB),
        int(settings.get("serve.tensor_parallel") or 1),
        proof,
        find_silence(plan),
    )


def judge_offload(reading: LogReading, expected: Expected | None = None) -> Failed | None:
    """Failed when weights were to be offloaded and the log proves that none or others were; None when it does not.

    Without a plan, what the command line asked for counts, and only whether anything was offloaded at all.
    """
    expected = expected or Expected()
    measured = reading.measured
    is_planned = any(expected.offloaded_bytes)
    version = measured.engine_version
    if version is None or not is_readable(version):
        return None
    if not (is_planned or measured.requested_offload_bytes or measured.requested_prefetch_group_size):
        return None
    if not _tells(version, expected.proof):
        return _judge_by_weights(reading, expected) if is_planned else None
    if any(measured.of_ranks("offloaded_bytes")):
        return _judge_amount(reading, expected) if is_planned and _is_loaded(reading) else None
    if _is_deaf(reading, version) or _is_loaded(reading):
        told = "the log names nothing that was offloaded"
        planned = f", and {_gib(max(expected.offloaded_bytes))} GiB of each card were planned" if is_planned else ""
        return _ignored(reading, () if reading.offload_lines and not is_planned else (told + planned,))
    return None


def _tells(version: str, proof: Proof | None) -> bool:
    """Whether the log of this release tells what is offloaded; without a plan, by the offloaders of vLLM itself."""
    if proof is None:
        return tells_what_it_offloads(version)
    return proof.since is None or parse_release(version) >= parse_release(proof.since)


def _judge_amount(reading: LogReading, expected: Expected) -> Failed | None:
    """The first rank whose offload is neither what was planned nor what was asked for."""
    for process, rank, index in _ranks(reading, expected):
        found = rank.offloaded_bytes
        if found is None or index is None:
            continue
        planned = expected.offloaded_bytes[index]
        if any(is_near(found, wanted) for wanted in (planned, expected.asked_bytes) if wanted):
            continue
        off = f" ({found / planned - 1:+.0%})" if planned else ""
        told = f"{process or 'the engine'} offloaded {_gib(found)} GiB, and {_gib(planned)} GiB were planned{off}"
        remedy = expected.proof.remedy if expected.proof is not None else ""
        remedy = remedy or shipped_patterns().remedy("offload_ignored")
        return Failed("offload_ignored", (told, *reading.offload_lines), remedy)
    return None


def is_near(found: float, wanted: float) -> bool:
    """Whether so many offloaded bytes are what was wanted."""
    return abs(found - wanted) <= max(TOLERANCE * wanted, ROUNDING_BYTES)


def _judge_by_weights(reading: LogReading, expected: Expected) -> Failed | None:
    """Releases that do not tell what they offload: a card that holds all weights proves that nothing was."""
    for process, rank, index in _ranks(reading, expected):
        if rank.weights_bytes is None or index is None or not expected.offloaded_bytes[index]:
            continue
        kept, offloaded = expected.weights_bytes[index], expected.offloaded_bytes[index]
        if rank.weights_bytes >= kept + (1 - TOLERANCE) * offloaded:
            told = (
                f"{process or 'the engine'} loaded {_gib(rank.weights_bytes)} GiB on the card; {_gib(kept)} GiB were "
                f"planned there and {_gib(offloaded)} GiB in host RAM"
            )
            return _ignored(reading, (told,))
    return None


def _ranks(reading: LogReading, expected: Expected) -> Iterator[tuple[str, RankMeasured, int | None]]:
    for process, rank in reading.measured.ranks.items():
        yield process, rank, expected.index_of(process)


def _ignored(reading: LogReading, told: tuple[str, ...]) -> Failed:
    found = conclude(reading)
    is_cpu = reading.measured.device == "cpu"
    remedy = _CPU_REMEDY if is_cpu else shipped_patterns().remedy("offload_ignored")
    if found is not None and not _follows_from_full_card(found.cause):
        remedy = f"{remedy}; for what ended the engine: {found.remedy}"
    lines = found.lines if found is not None else ()
    return Failed("offload_ignored", (*told, *reading.offload_lines, *lines), remedy)


def _is_loaded(reading: LogReading) -> bool:
    """True when the weights are where they will stay: the KV cache comes after them."""
    return reading.is_up or bool(reading.measured.of_ranks("kv_cache_bytes"))


def _is_deaf(reading: LogReading, version: str) -> bool:
    return reading.measured.model_runner == "V2" and second_runner_ignores_weights(version)


def _follows_from_full_card(cause: Cause) -> bool:
    """True for the failures that an ignored offload brings about: mending the offload mends them."""
    return cause in {
        "weights_oom",
        "profile_oom",
        "sampler_oom",
        "no_kv_cache_memory",
        "context_too_long",
        "graph_capture_oom",
        "runtime_oom",
        "worker_died",
        "engine_dead",
        "unknown",
    }


def _gib(count: float) -> str:
    return f"{count / GIB:.2f}"
