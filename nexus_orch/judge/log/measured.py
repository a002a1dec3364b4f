"""The numbers that a log tells: memory by purpose and rank, KV capacity, durations, engine version.

vLLM prints memory in GiB, the prefetch offloader in GB of 1e9 bytes; here all is in bytes. Ranks print their own lines:
their values are kept apart, and what stands for the whole engine is the fullest rank's (the least one's for memory that
is left), because that rank decides what fits.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from nexus_orch.errors import PluginError, Problem
from nexus_orch.judge.log.lines import LogRecord
from nexus_orch.judge.log.patterns import shipped_patterns
from nexus_orch.suggest import suggest_or_list
from nexus_orch.types import GIB, MIB

GB = 10**9
IMPOSSIBLE_BYTES = 2**50
"""No card and no host has so much memory: torch prints 2^64 less something where a driver tells none."""
_UNITS = {"_gib": GIB, "_mib": MIB, "_gb": GB}
"""How a group of a pattern ends whose value is an amount of memory."""


@dataclass(frozen=True)
class RankMeasured:
    """What one rank printed. `consumed_bytes` is weights and non-torch memory together (releases from 0.27)."""

    weights_bytes: int | None = None
    offloaded_bytes: int | None = None
    static_pool_bytes: int | None = None
    kv_cache_bytes: int | None = None
    """Negative when the rest of the budget was below zero."""
    activation_bytes: int | None = None
    non_torch_bytes: int | None = None
    consumed_bytes: int | None = None
    cuda_graph_bytes: int | None = None
    cuda_graph_estimate_bytes: int | None = None
    memory_free_bytes: int | None = None
    """Free when the rank started."""
    memory_total_bytes: int | None = None
    budget_bytes: int | None = None
    oom_wanted_bytes: int | None = None
    """What could not be had when memory of the card ran out; with it what was free, and what the process held."""
    oom_free_bytes: int | None = None
    oom_process_bytes: int | None = None
    loading_seconds: float | None = None
    weights_read_seconds: float | None = None
    graph_capture_seconds: float | None = None


@dataclass(frozen=True)
class Measured:
    """What the engine printed, and `ranks` by the name of the process that printed it."""

    engine_version: str | None = None
    engine_generation: str | None = None
    """V0 or V1."""
    model_runner: str | None = None
    """V1 or V2, where the log says which."""
    device: str | None = None
    architecture: str | None = None
    enforce_eager: bool | None = None
    requested_offload_bytes: int | None = None
    """What the command line asked to keep in host RAM, per GPU."""
    requested_prefetch_group_size: int | None = None
    world_size: int | None = None
    max_model_len: int | None = None
    max_model_len_possible: int | None = None
    """vLLM's own estimate of what would have fitted."""
    max_num_batched_tokens: int | None = None
    kv_cache_tokens: int | None = None
    kv_cache_blocks: int | None = None
    kv_cache_needed_bytes: int | None = None
    block_size_tokens: int | None = None
    max_concurrency: float | None = None
    checkpoint_bytes: int | None = None
    host_available_bytes: int | None = None
    compile_seconds: float | None = None
    init_seconds: float | None = None
    ranks: Mapping[str, RankMeasured] = field(default_factory=dict)

    def of_ranks(self, name: str) -> tuple[float, ...]:
        """The values of one quantity on the ranks that printed it."""
        values = (getattr(rank, name) for rank in self.ranks.values())
        return tuple(value for value in values if value is not None)

    def of_engine(self, name: str) -> float | None:
        """One quantity of the ranks as it holds for the engine: the largest, the least of `_LEAST`."""
        values = self.of_ranks(name)
        if not values:
            return None
        return min(values) if name in _LEAST else max(values)

    def as_dict(self) -> dict[str, Any]:
        """All that is known, flat; the ranks' own values follow under "ranks" when there is more than one."""
        known = {name: getattr(self, name) for name in _ENGINE_FIELDS}
        known |= {name: self.of_engine(name) for name in _RANK_FIELDS}
        shown = _without_negative({name: value for name, value in known.items() if value is not None})
        if len(self.ranks) > 1:
            shown["ranks"] = {name: _known(rank) for name, rank in self.ranks.items()}
        return shown

    def numbers(self) -> dict[str, float]:
        """The numbers among `as_dict`."""
        return {
            name: value
            for name, value in self.as_dict().items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        }


_RANK_FIELDS = tuple(entry.name for entry in dataclasses.fields(RankMeasured))
_ENGINE_FIELDS = tuple(entry.name for entry in dataclasses.fields(Measured) if entry.name != "ranks")
_TEXTS = frozenset({"engine_version", "engine_generation", "model_runner", "device", "architecture"})
_LEAST = frozenset({"kv_cache_bytes", "memory_free_bytes", "kv_cache_tokens", "kv_cache_blocks"})
"""Of these the smallest value holds: each rank of early V1 releases printed its own number of tokens."""
_GROWING = frozenset({"offloaded_bytes"})
"""Printed again and again as a growing sum."""


def measure(measured: Measured, record: LogRecord, further: Iterable[str] = ()) -> Measured:
    """Add what one line tells. Later values replace earlier ones of the same rank. `further` are patterns beside those
    that nexus_orch knows (`Proof.patterns`)."""
    message = record.message
    known = (entry.pattern for literal, entry in shipped_patterns().measurements_by_literal if literal in message)
    for pattern in (*known, *map(compile_pattern, further)):
        found = pattern.search(message)
        if found is not None:
            values = (_parse_value(name, text) for name, text in found.groupdict().items() if text is not None)
            measured = _add(
                measured, record.process or "", {name: value for name, value in values if value is not None}
            )
    return measured


@cache
def compile_pattern(text: str) -> re.Pattern[str]:
    """A pattern of a plugin. Raises PluginError unless it is a regular expression whose groups are quantities of a
    rank, with a unit where they are bytes."""
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise PluginError(_make_unreadable(text, f"is no regular expression: {error}", "mend the plugin")) from None
    known = {name for name in _RANK_FIELDS if not name.endswith("_bytes")}
    known |= {name.removesuffix("_bytes") + unit for name in _RANK_FIELDS if name.endswith("_bytes") for unit in _UNITS}
    unknown = [name for name in pattern.groupindex if name not in known]
    if unknown or not pattern.groupindex:
        what = f"has the unknown group {unknown[0]}" if unknown else "has no named group"
        remedy = suggest_or_list(unknown[0] if unknown else "", sorted(known), "groups")
        raise PluginError(_make_unreadable(text, what, remedy))
    return pattern


def _make_unreadable(text: str, reason: str, remedy: str) -> Problem:
    return Problem(f"the pattern by which a mechanism is proved {reason}", "Proof.patterns", text, None, remedy)


def _parse_value(group: str, text: str) -> tuple[str, Any]:
    """The field that a group of a pattern stands for, and its value; None for a figure that is none ("1.2.3")."""
    if group in _TEXTS:
        return group, text
    if group == "enforce_eager":
        return group, text == "True"
    try:
        number = float(text.replace(",", "").rstrip("."))
        for suffix, factor in _UNITS.items():
            if group.endswith(suffix):
                count = round(number * factor)
                return group.removesuffix(suffix) + "_bytes", count if count < IMPOSSIBLE_BYTES else None
        return group, number if group.endswith("_seconds") or group == "max_concurrency" else int(number)
    except (ValueError, OverflowError):
        return group, None


def _add(measured: Measured, process: str, values: Mapping[str, Any]) -> Measured:
    of_rank = {name: value for name, value in values.items() if name in _RANK_FIELDS}
    of_engine = {name: value for name, value in values.items() if name not in _RANK_FIELDS}
    for name in _LEAST & of_engine.keys():
        of_engine[name] = min(of_engine[name], _or_else(getattr(measured, name), math.inf))
    if of_rank:
        rank = measured.ranks.get(process, RankMeasured())
        for name in _GROWING & of_rank.keys():
            of_rank[name] = max(of_rank[name], _or_else(getattr(rank, name), 0))
        of_engine["ranks"] = {**measured.ranks, process: dataclasses.replace(rank, **of_rank)}
    return dataclasses.replace(measured, **of_engine)


def _or_else(value: Any, other: Any) -> Any:
    return other if value is None else value


def _known(rank: RankMeasured) -> dict[str, float]:
    return _without_negative({name: value for name, value in dataclasses.asdict(rank).items() if value is not None})


def _without_negative(shown: dict[str, Any]) -> dict[str, Any]:
    """A cache below zero is none: what is shown is how much is missing until the first byte of one."""
    if shown.get("kv_cache_bytes", 0) < 0:
        shown["kv_cache_missing_bytes"] = -shown.pop("kv_cache_bytes")
    return shown
