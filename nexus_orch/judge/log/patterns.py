"""The table of what vLLM's log lines mean (`data/log_patterns.json`), compiled once.

The names of the groups in a measurement's pattern are the fields of `judge.log.measured` that they fill; a group
`x_gib` or `x_gb` fills the field `x_bytes`. A signature matches a line that contains one of its literals and, where it
has one, its pattern; literals are looked for first because that is some twenty times cheaper than a search.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any, Literal, cast

from nexus_orch.data import load
from nexus_orch.types import Cause, Stage

Tier = Literal["specific", "general", "family", "symptom"]
TIERS: tuple[Tier, ...] = ("specific", "general", "family", "symptom")
"""From the most telling kind of evidence to the least. A family is a kind of exception whose message is not known word
for word ("No module named ..."); a symptom only says that something has ended."""


@dataclass(frozen=True)
class Measurement:
    """A line that tells numbers (or a name) of the engine."""

    name: str
    literals: tuple[str, ...]
    pattern: re.Pattern[str]


@dataclass(frozen=True)
class StageMark:
    """A line that shows how far a start has come. `eager_stage` holds instead when no CUDA graphs are recorded."""

    stage: Stage
    literals: tuple[str, ...]
    detail: str
    eager_stage: Stage | None = None


@dataclass(frozen=True)
class Signature:
    """A line that is evidence of a failure. `rank` is the tier's place: the smaller, the more telling.

    `by_stage` names the cause where the same message means different things at different stages of a start ("ready"
    stands for the time after it); at those of `not_at` the line shows nothing. `context` holds texts of which the
    traceback above the line must contain one, `file` is a pattern for the file of its innermost frame. `remedy` may
    name groups of the pattern in braces, and pieces that hold for some releases only (see `judge.log.remedies`);
    without one the cause's own remedy holds.

    A hint is no failure: it stands beside one and tells more of it than the exception does. `is_routine` lines are
    looked for among what is logged at INFO and WARNING, too; `is_wait` lines show that something is waited for.
    """

    name: str
    cause: Cause
    tier: Tier
    literals: tuple[str, ...]
    pattern: re.Pattern[str] | None = None
    by_stage: Mapping[str, Cause] = field(default_factory=dict)
    context: tuple[str, ...] = ()
    file: re.Pattern[str] | None = None
    remedy: str | None = None
    not_at: tuple[str, ...] = ()
    is_hint: bool = False
    is_routine: bool = False
    is_wait: bool = False

    @cached_property
    def rank(self) -> int:
        return TIERS.index(self.tier)


@dataclass(frozen=True)
class Markers:
    """Beginnings of messages that change how the lines after them are read."""

    server_up: re.Pattern[str]
    told_to_stop: re.Pattern[str]
    told_by_signal: re.Pattern[str]
    """Those of `told_to_stop` that only a signal brings about, never a failure."""
    new_start: re.Pattern[str]
    """Another start in the same log, as a container that restarts writes it."""
    not_evidence: re.Pattern[str]
    """Settings and requests that are quoted, whatever they say."""


@dataclass(frozen=True)
class CauseText:
    summary: str
    remedy: str


@dataclass(frozen=True)
class Patterns:
    prefix: re.Pattern[str]
    markers: Markers
    measurements: tuple[Measurement, ...]
    stages: tuple[StageMark, ...]
    signatures: tuple[Signature, ...]
    causes: Mapping[str, CauseText]

    @cached_property
    def measurements_by_literal(self) -> tuple[tuple[str, Measurement], ...]:
        """Flat, because most lines contain no literal at all and the search must cost them little."""
        return tuple((literal, entry) for entry in self.measurements for literal in entry.literals)

    @cached_property
    def stages_by_literal(self) -> tuple[tuple[str, StageMark], ...]:
        return tuple((literal, entry) for entry in self.stages for literal in entry.literals)

    @cached_property
    def signatures_by_literal(self) -> tuple[tuple[str, Signature], ...]:
        return tuple((literal, entry) for entry in self.signatures for literal in entry.literals)

    @cached_property
    def routine_by_literal(self) -> tuple[tuple[str, Signature], ...]:
        """Those that are looked for in lines that are logged while all is well."""
        return tuple(pair for pair in self.signatures_by_literal if pair[1].is_routine)

    @cached_property
    def contexts(self) -> tuple[str, ...]:
        """The texts that a traceback may have to contain."""
        return tuple({context: None for entry in self.signatures for context in entry.context})

    def remedy(self, cause: Cause) -> str:
        """What to do about a cause of which nothing more is known, with pieces for some releases only."""
        return self.causes[cause].remedy


def make_patterns(table: Mapping[str, Any]) -> Patterns:
    """Compile a table in the form of `data/log_patterns.json`."""
    return Patterns(
        prefix=re.compile(table["prefix"]),
        markers=Markers(**{name: re.compile(pattern) for name, pattern in table["markers"].items()}),
        measurements=tuple(
            Measurement(entry["name"], tuple(entry["literals"]), re.compile(entry["pattern"]))
            for entry in table["measurements"]
        ),
        stages=tuple(_make_stage_mark(entry) for entry in table["stages"]),
        signatures=tuple(_make_signature(entry) for entry in table["signatures"]),
        causes={name: CauseText(entry["summary"], entry["remedy"]) for name, entry in table["causes"].items()},
    )


@cache
def shipped_patterns() -> Patterns:
    """The table that travels with nexus_orch."""
    return make_patterns(load("log_patterns.json"))


def _make_stage_mark(entry: Mapping[str, Any]) -> StageMark:
    eager = entry.get("eager_stage")
    return StageMark(
        Stage(entry["stage"]), tuple(entry["literals"]), entry["detail"], None if eager is None else Stage(eager)
    )


def _make_signature(entry: Mapping[str, Any]) -> Signature:
    pattern = entry.get("pattern")
    return Signature(
        name=entry["name"],
        cause=cast("Cause", entry["cause"]),
        tier=entry["tier"],
        literals=tuple(entry["literals"]),
        pattern=None if pattern is None else re.compile(pattern),
        by_stage=entry.get("by_stage", {}),
        context=tuple(entry.get("context", ())),
        file=None if "file" not in entry else re.compile(entry["file"]),
        remedy=entry.get("remedy"),
        not_at=tuple(entry.get("not_at", ())),
        is_hint=entry.get("is_hint", False),
        is_routine=entry.get("is_routine", False),
        is_wait=entry.get("is_wait", False),
    )
