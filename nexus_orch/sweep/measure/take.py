"""One measurement: a warm-up, then the load by vLLM's own client where there is one; again when it was spoilt."""

from __future__ import annotations

import datetime
import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from nexus_orch.sweep.measure.client import measure_by_ourselves
from nexus_orch.sweep.measure.types import BenchResult, BenchTarget, Figures, Load
from nexus_orch.sweep.measure.vllm_bench import BenchUnavailable, find_options, measure_by_vllm
from nexus_orch.sweep.measure.watch import watching

MOST_TRIES = 3
"""What is still disturbed at the third try will be at the fourth."""
PATIENCE = 10.0
"""A load may take so many times as long as its warm-up lets expect."""
LEAST_PATIENCE_SECONDS = 120.0

ClientName = Literal["auto", "vllm", "nexus"]


def take_measurement(
    target: BenchTarget,
    load: Load,
    *,
    client: ClientName = "auto",
    say: Callable[[str], None] = lambda _: None,
) -> BenchResult:
    """Measure a load. Raises MeasureCancelled when the target is cancelled, and BenchUnavailable for `client` "vllm"
    where vLLM's client cannot be had."""
    if client == "vllm":
        find_options(target)
    warm, warm_seconds = _warm_up(target, load)
    notes = _notes_on(target)
    for number in range(1, MOST_TRIES + 1):
        seed = secrets.randbelow(2**31)
        if warm.failed == warm.requests:
            # A server that fails every request is not asked for more
            return _make(BenchResult(load, warm, seed=seed, notes=notes))
        with watching(target) as found:
            figures, why_not = _measure(target, load, seed, client, warm_seconds)
        notes = tuple(dict.fromkeys((*notes, *why_not, *found.notes)))
        taken = BenchResult(load, figures, number, tuple(found.spoilt), notes, seed)
        if not taken.is_spoilt or number == MOST_TRIES:
            break
        say(f"measured once more: {taken.spoilt[0]}")
    return _make(taken)


def _make(taken: BenchResult) -> BenchResult:
    return replace(taken, date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"))


def _warm_up(target: BenchTarget, load: Load) -> tuple[Figures, float]:
    """One request for each that will run at once, of the load's own lengths, with prompts that never come again."""
    started = time.monotonic()
    once = replace(load, requests=load.concurrency)
    figures = measure_by_ourselves(target, once, secrets.randbelow(2**31))
    return figures, time.monotonic() - started


def _measure(
    target: BenchTarget, load: Load, seed: int, client: ClientName, warm_seconds: float
) -> tuple[Figures, tuple[str, ...]]:
    """The figures, and why they are not those of vLLM's own client."""
    if client == "nexus":
        return measure_by_ourselves(target, load, seed), ()
    expected = warm_seconds * load.requests / load.concurrency
    try:
        return measure_by_vllm(target, load, seed, max(LEAST_PATIENCE_SECONDS, PATIENCE * expected)), ()
    except BenchUnavailable as reason:
        if client == "vllm":
            raise
        return measure_by_ourselves(target, load, seed), (f"measured by nexus_orch: {reason}",)


def _notes_on(target: BenchTarget) -> tuple[str, ...]:
    return () if target.log is not None else ("the engine's log is not known: compilation would not be noticed",)
