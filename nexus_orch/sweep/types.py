"""The nouns of a sweep: points and what the plan says of them, the goal, what happened, and what to do next.

The search (`nexus_orch/sweep/search/`) is a pure function of a `Task` and all outcomes so far; whoever carries its
steps out appends an outcome for each. So a sweep that was interrupted goes on by reading its outcomes again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

INTERRUPTED = "interrupted"
"""The cause of a start that ended by no fault of its point: stopped by the user, or lost with the supervisor."""


@dataclass(frozen=True)
class Prior:
    """What the plan says of a point before anything is launched. None where nothing is known well enough to say."""

    fits: bool
    borderline: bool
    """The verdict flips inside the range of the plan's estimate."""
    spare_bytes: int
    """What the KV cache of the fullest card holds beyond one request of max_model_len; negative where bytes lack."""
    budget_bytes: int
    """What the engine may use of that card: the scale of the plan's errors in memory."""
    token_bytes: float
    """KV cache of one token on that card; 0 where it is not known."""
    kv_cache_tokens: int
    kv_cache_tokens_low: int | None
    kv_cache_tokens_high: int | None
    max_model_len: int
    most_requests: int
    """Requests that the engine serves at once however large its KV cache is."""
    tokens_per_second: float | None
    """Output tokens of all requests together, at the goal's concurrency."""
    first_token_seconds: float | None


@dataclass(frozen=True)
class GridPoint:
    """One combination of the grid: `settings` are its own values by key, `overrides` the same for the command line."""

    number: int
    settings: Mapping[str, Any]
    overrides: tuple[str, ...]
    engine: int
    """The number of the first point whose engine is started with the same command: points that differ only in load, or
    only in what the plan does not use, share one start. It is the point's own number where it is that first one, and
    only such points are launched."""
    prior: Prior | None = None
    """None where the plan could not even be drawn."""
    refusal: str | None = None
    """Why the point is never launched, in the plan's words; None where it may be."""


@dataclass(frozen=True)
class Goal:
    """The fastest point by output tokens per second, among those that keep the constraints and are stable."""

    objective: Literal["tokens_per_second"] = "tokens_per_second"
    concurrency: int = 16
    """Requests at once at which points are compared."""
    first_token_seconds: float | None = None
    """The longest median time to the first token."""
    max_model_len: int | None = None
    """The shortest context, in tokens."""
    failure_bound: float = 0.0025
    """A pick is called stable when fewer of its requests fail than this share, with 95 % confidence."""


@dataclass(frozen=True)
class Budget:
    """What a sweep may take. `launches` counts engine starts for the search, `confirmations` those for its pick."""

    launches: int = 16
    minutes: float | None = None
    confirmations: int = 4


@dataclass(frozen=True)
class Costs:
    """Minutes that steps take until they have been seen to take others."""

    launch: float = 4.0
    measure: float = 1.5
    soak: float = 12.0


@dataclass(frozen=True)
class Task:
    """All that a search is about. It does not change while the sweep runs."""

    points: tuple[GridPoint, ...]
    goal: Goal = field(default_factory=Goal)
    budget: Budget = field(default_factory=Budget)
    costs: Costs = field(default_factory=Costs)
    loads: tuple[int, ...] = ()
    """Further numbers of requests at once at which each start is measured, for the table: they decide nothing."""


# What happened. `slot` is the set of cards on which it did: slots run side by side, one engine on each.


@dataclass(frozen=True)
class Begun:
    """A launch was begun. Another slot does not begin the same point meanwhile."""

    point: int
    is_confirming: bool = False
    slot: int = 0


@dataclass(frozen=True)
class LaunchEnded:
    """A launch came to an end: the engine is ready (`cause` None), or why it is not (one of CAUSES, or any other)."""

    point: int
    cause: str | None = None
    kv_cache_tokens: int | None = None
    minutes: float = 0.0
    is_confirming: bool = False
    slot: int = 0


@dataclass(frozen=True)
class Speed:
    """One measurement of the engine that runs, at a number of requests at once."""

    point: int
    concurrency: int
    tokens_per_second: float
    first_token_seconds: float | None = None
    inter_token_seconds: float | None = None
    failed: int = 0
    requests: int = 0
    is_spoilt: bool = False
    """Kernels were compiled, or a neighbour used the card, while it was taken: it says nothing and is repeated."""
    minutes: float = 0.0
    slot: int = 0


@dataclass(frozen=True)
class Soaked:
    """One soak of the engine that runs: the KV cache filled, then contexts that accumulate."""

    point: int
    failed: int
    requests: int
    died_at_tokens: int | None = None
    """Accumulated tokens at which the engine died."""
    memory_slope_bytes_per_hour: float | None = None
    memory_slope_error: float | None = None
    """The slope's standard error; None where only repeats can tell it."""
    minutes: float = 0.0
    slot: int = 0


@dataclass(frozen=True)
class Ended:
    """The engine of a slot was stopped, or died outside a soak (`cause`)."""

    point: int
    cause: str | None = None
    slot: int = 0


Outcome = Begun | LaunchEnded | Speed | Soaked | Ended


# What to do next.


@dataclass(frozen=True)
class LaunchPoint:
    """Stop the engine that runs in the slot, if any, and start this point's."""

    point: int
    reason: str
    is_confirming: bool = False


@dataclass(frozen=True)
class Measure:
    """Measure the engine that runs at this number of requests at once."""

    point: int
    concurrency: int
    reason: str


@dataclass(frozen=True)
class Soak:
    """Soak the engine that runs."""

    point: int
    reason: str


@dataclass(frozen=True)
class Wait:
    """Nothing can be begun in this slot until another one has an outcome."""

    reason: str


@dataclass(frozen=True)
class Finish:
    """The sweep is over. `pick` is the confirmed point, None where none was found."""

    pick: int | None
    reason: str


Step = LaunchPoint | Measure | Soak | Wait | Finish

By = Literal["plan", "dominance", "memory", "started", "measured", "unstable", "constraint"]
"""What decided a point: the plan; a start of a point that takes less; what starts measured of memory; its own failed
start; its own measured speed; its own soak; or the goal's constraints."""


@dataclass(frozen=True)
class Verdict:
    """A point that needs no further launch, and why."""

    point: int
    by: By
    reason: str


@dataclass(frozen=True)
class Pick:
    """The point that is best as things stand."""

    point: int
    tokens_per_second: float
    """The median over all its measurements."""
    spread: float
    """The largest less the smallest of them, as a share of the median; 0 for a single one."""
    starts: int
    """Starts in which it was measured."""
    soaked_requests: int
    failure_bound: float | None
    """Fewer of its requests fail than this share, with 95 % confidence; None before it was soaked."""
    is_stable: bool
    """It was soaked without a failure, a death or a leak as often as the goal asks, and confirmed by further starts."""
    reason: str


@dataclass(frozen=True)
class SearchDecision:
    """The next step of a slot, and how the sweep stands."""

    step: Step
    verdicts: tuple[Verdict, ...]
    """Points that are decided, by number."""
    pick: Pick | None
    launches: int
    """Engine starts so far, confirming ones included."""
    failed_launches: int
    minutes: float
    open_points: int
    """Points that are neither decided nor measured."""
    expected_launches: int
    """Engine starts still to come, at most."""
    expected_minutes: float
    notes: tuple[str, ...] = ()
    """What the search has found about its own means: that the plan's ranking does not hold, that its memory is off."""
