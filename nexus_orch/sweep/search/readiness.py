"""What is believed about the start of every point: the plan's memory, shifted by what the starts so far had."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import ndtr

from nexus_orch.sweep.search.chances import believe_chance
from nexus_orch.sweep.search.regression import Effects, learn
from nexus_orch.sweep.search.space import CARD_CAUSES, Array, Space
from nexus_orch.sweep.search.state import PointStart
from nexus_orch.sweep.types import INTERRUPTED, GridPoint

PLAN_ERROR = 0.03
"""The standard error of a plan's memory, as a share of the card's budget (docs/planner.md: nine of ten within 8 %)."""
LEAST_ERROR = 0.004
"""What a plan's memory stays unsure by, as a share of the budget, whatever was measured."""
MEMORY_EFFECTS = Effects(constant=0.025, single=0.008, pairs=0.006, everything=0.006, plan=1e-4, own=0.004)
"""Effects on what a start has more than planned, as a share of the budget."""
USUALLY_READY = 0.95
UNPLANNED_READY = 0.7
"""The chance of a point whose memory the plan cannot tell."""
MISSED_BY = 0.01
"""How far beyond what the plan allowed a failed start is taken to have lacked memory, as a share of the budget."""
SETTLED_CAUSES = frozenset(
    {
        *("profile_oom", "sampler_oom", "graph_capture_oom", "runtime_oom", "host_oom", "pinned_memory_unavailable"),
        *("context_exceeds_model", "offload_ignored", "offload_unsupported", "unrecognized_argument"),
        *("unsupported_dtype", "unsupported_quantization", "unsupported_architecture", "unsupported_block_size"),
        *("tensor_parallel_invalid", "not_enough_gpus", "lora_mismatch", "checkpoint_mismatch"),
        *CARD_CAUSES,
    }
)
"""Causes that a second try of the same command meets again. All others may be gone the next time."""


def believe_ready(space: Space, starts: Sequence[PointStart]) -> Array:
    """The chance that each point's engine becomes ready, by rows of the space."""
    budget = np.array([math.nan if point.prior is None else point.prior.budget_bytes for point in space.points])
    shift, deviation = _memory_shift(space, starts)
    with np.errstate(divide="ignore", invalid="ignore"):
        fits = ndtr((space.spare / budget + shift) / deviation)
    return np.where(np.isfinite(fits), fits, UNPLANNED_READY) * _like_others(space, starts)


def memory_lessons(space: Space, starts: Sequence[PointStart]) -> dict[int, float]:
    """By point, how much more memory its start had than planned, as a share of the budget; at most that where it
    failed."""
    lessons: dict[int, float] = {}
    for start in starts:
        row = space.row.get(start.point)
        prior = None if row is None else space.points[row].prior
        if prior is None or prior.budget_bytes <= 0:
            continue
        if start.cause is None and start.kv_cache_tokens and prior.token_bytes:
            gained = (start.kv_cache_tokens - prior.kv_cache_tokens) * prior.token_bytes
            lessons[start.point] = gained / prior.budget_bytes
        elif start.cause in CARD_CAUSES:
            lessons.setdefault(start.point, -prior.spare_bytes / prior.budget_bytes - MISSED_BY)
    return lessons


def _memory_shift(space: Space, starts: Sequence[PointStart]) -> tuple[Array, Array]:
    """Mean and deviation of what each point has more than planned, as a share of the budget."""
    lessons = memory_lessons(space, starts)
    if not lessons:
        return np.zeros(len(space.points)), np.full(len(space.points), PLAN_ERROR)
    found = learn(space.places, {space.row[point]: gained for point, gained in lessons.items()}, MEMORY_EFFECTS)
    return found.mean, np.maximum(LEAST_ERROR, found.deviation)


def _like_others(space: Space, starts: Sequence[PointStart]) -> Array:
    """The chance that each point starts as others like it did, where failures say what the plan does not know."""
    shown: dict[int, float] = {}
    doubted = np.ones(len(space.points))
    for start in starts:
        row = space.row.get(start.point)
        if row is None or start.cause == INTERRUPTED:
            continue
        if start.cause is None:
            shown[row] = 1.0
        elif start.cause in CARD_CAUSES and not _was_sure(space.points[row]):
            continue  # the plan's memory, shifted, says it better
        elif start.cause in SETTLED_CAUSES or is_hopeless(start.point, starts):
            shown.setdefault(row, 0.0)
        else:
            doubted[row] *= 0.7
    return believe_chance(space.places, shown, USUALLY_READY) * doubted


def _was_sure(point: GridPoint) -> bool:
    """Whether the plan saw so much room that a lack of memory is more than its error."""
    prior = point.prior
    return prior is not None and prior.spare_bytes > 1.5 * PLAN_ERROR * prior.budget_bytes


def is_hopeless(point: int, starts: Sequence[PointStart]) -> bool:
    """Whether a point need not be started again: it met a cause that stays, or failed twice whatever the causes."""
    causes = [start.cause for start in starts if start.point == point and start.cause not in (None, INTERRUPTED)]
    if any(start.point == point and start.cause is None for start in starts):
        return False
    return len(causes) > 1 or any(cause in SETTLED_CAUSES for cause in causes)
