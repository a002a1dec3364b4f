"""Tries one loader: the engine's own batching first, then leaner settings, until all that is wanted fits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from nexus_orch.contracts import Loader
from nexus_orch.plan.asked.inputs import Inputs
from nexus_orch.plan.asked.want import make_want
from nexus_orch.plan.cards.division import Division
from nexus_orch.plan.estimate.draft import HIGHEST_UTILIZATION, Draft
from nexus_orch.plan.estimate.settled import Settled
from nexus_orch.plan.release.generations import default_batching
from nexus_orch.plan.search.narrow import make_narrow, narrow_choice
from nexus_orch.plan.search.offers import explain_backend, find_best, is_better, settle
from nexus_orch.types import GIB, Choice

LEAN_BATCHED_TOKENS = 2048
LEAN_REQUESTS = 16
EAGER = "memory.enforce_eager"
LEAST_GRAPH_GAIN = 0.1
"""By how much a run that offloads must be faster with CUDA graphs, which take memory, and minutes at the first start;
and any other one without them."""
LEAST_TOLD_GAIN = 0.01
RAISED_UTILIZATION = 0.95
"""How much of a card is used when the engine's own share is not enough."""


@dataclass(frozen=True)
class Batching:
    """max_num_batched_tokens and max_num_seqs; `choices` is empty when the engine's own values are kept."""

    tokens: int
    requests: int
    choices: tuple[Choice, ...]


@dataclass(frozen=True)
class Attempt:
    """What a loader achieves, and the choices of batching and mode that it took."""

    loader: str
    settled: Settled
    choices: tuple[Choice, ...]
    others: tuple[Settled, ...] = ()
    """The loader's other ways with these settings."""

    @property
    def fits(self) -> bool:
        settled = self.settled
        return settled.fits_context and settled.holds_size and all(size > 0 for size in settled.kv)

    @property
    def is_comfortable(self) -> bool:
        return self.fits and self.settled.is_comfortable


@dataclass(frozen=True)
class Trials:
    """The settings that every loader is tried with, and their drafts: what is counted of one is counted once."""

    inputs: Inputs
    division: Division

    @cached_property
    def variations(self) -> tuple[tuple[Batching, float], ...]:
        """Batching and the largest share of a card's memory, the engine's own first."""
        return tuple(_variations(self.inputs, self.division))

    def draft(self, batching: Batching, *, eager: bool) -> Draft:
        key = (batching.tokens, batching.requests, eager)
        if key not in self._drafts:
            want = make_want(self.inputs)
            self._drafts[key] = Draft(self.inputs, self.division, self.inputs.generation(), *key, want)
        return self._drafts[key]

    @cached_property
    def _drafts(self) -> dict[tuple[int, int, bool], Draft]:
        return {}


def attempt(trials: Trials, loader: Loader) -> Attempt:
    """What this loader achieves at best, with the reason for its back end."""
    best = _attempt_widths(trials, loader)
    return replace(best, settled=explain_backend(best.settled, best.others))


def _attempt_widths(trials: Trials, loader: Loader) -> Attempt:
    """With keys and values as wide as the model's, or narrower.

    Keys and values in 8 bits are tried last, and only for a run that fits in no other way on the cards.
    """
    last = _attempt(trials, loader)
    settled = last.settled
    needed = settled.needed_context
    if settled.offloads or settled.fits_context:
        return last
    if settled.surely_longest <= needed // 3:  # half the bytes hold about twice the tokens
        return last
    narrow = make_narrow(trials.inputs)
    if narrow is None:
        return last
    other = _attempt(Trials(narrow, trials.division), loader)
    if not other.is_comfortable or other.settled.offloads:
        return last
    return replace(other, choices=(*other.choices, narrow_choice(trials.inputs, needed)))


def _attempt(trials: Trials, loader: Loader) -> Attempt:
    """The engine's own settings where all that is wanted fits with them, on the cards; else what serves best of these
    and leaner ones."""
    tried: list[Attempt] = []
    variations = trials.variations
    for place, (batching, highest) in enumerate(variations, start=1):
        is_last = place == len(variations)
        is_raised_next = not is_last and variations[place][0] is batching
        tried.append(_try(trials, loader, batching, highest, is_final=not is_raised_next, is_last=is_last))
        settled = tried[-1].settled
        if settled.is_comfortable and not settled.offloads and settled.holds_concurrency:
            return tried[-1]
    staying = [one for one in tried if one.is_comfortable and not one.settled.offloads]
    ranked = staying or tried[::-1]  # the leanest offloads least
    return ranked[find_best([one.settled for one in ranked])]


def _variations(inputs: Inputs, division: Division) -> Iterator[tuple[Batching, float]]:
    generation = inputs.generation()
    usual = _batching(inputs, division, lean=False)
    yield usual, generation.default_utilization
    if not inputs.wishes.is_fixed("memory.gpu_memory_utilization"):
        yield usual, RAISED_UTILIZATION
    lean = _batching(inputs, division, lean=True)
    if lean != usual:
        yield lean, min(RAISED_UTILIZATION, HIGHEST_UTILIZATION)


def _batching(inputs: Inputs, division: Division, *, lean: bool) -> Batching:
    generation = inputs.generation()
    gpu = division.gpus[0]  # vLLM asks the first card that it sees (engine/arg_utils.py)
    tokens, requests = default_batching(gpu.total_bytes, gpu.name, generation, division.ranks)
    wishes, choices = inputs.wishes, []
    reason = "lower than the engine's {}: activations must leave room for the KV cache"
    least_tokens = min(tokens, LEAN_BATCHED_TOKENS)
    least_requests = min(requests, max(LEAN_REQUESTS, inputs.spec.workload.concurrency))
    for key, usual, least in (
        ("serve.max_num_batched_tokens", tokens, least_tokens),
        ("serve.max_num_seqs", requests, least_requests),
    ):
        if wishes.is_fixed(key) or (lean and least < usual):
            choices.append(wishes.choice(key, least, reason.format(f"{usual:,}")))
    values = {choice.key: int(choice.value) for choice in choices}
    return Batching(
        values.get("serve.max_num_batched_tokens", tokens),
        values.get("serve.max_num_seqs", requests),
        tuple(choices),
    )


def _try(
    trials: Trials, loader: Loader, batching: Batching, highest: float, *, is_final: bool, is_last: bool
) -> Attempt:
    """With these settings, and without CUDA graphs where that is better. `is_final`: no larger share of memory is tried
    with this batching; what offloads with a smaller one is not looked at without CUDA graphs. What lacks no more than
    they take for the wanted context is, when nothing else is left to try (`is_last`)."""
    wishes = trials.inputs.wishes
    pinned = wishes.spec.memory.enforce_eager
    settled, *others = settle(trials.draft(batching, eager=bool(pinned)), loader, highest)
    found = Attempt(loader.name, settled, batching.choices, tuple(others))
    if pinned is not None:
        return replace(found, choices=(*batching.choices, wishes.choice(EAGER, pinned, "")))
    without = trials.draft(batching, eager=True)
    freed = settled.draft.account.peak_and_graph_bytes - without.account.peak_and_graph_bytes
    looks = settled.fits_context and not settled.holds_concurrency
    idle = not looks and not (is_last and _lacks_no_more_than(freed, settled))
    if not is_final if settled.offloads else idle:
        return found
    eager, *others = settle(without, loader, highest)
    reason = _find_eager_reason(settled, eager)
    if reason is None:
        return found
    return Attempt(loader.name, eager, (*batching.choices, wishes.choice(EAGER, True, reason)), tuple(others))


def _lacks_no_more_than(freed: int, settled: Settled) -> bool:
    """Whether so many bytes more on each card would hold the wanted context surely; where not even the needed one is
    held, whether they would hold anything."""
    if not settled.fits_context:
        return min(settled.kv) + freed > 0
    draft = settled.draft
    return not settled.is_comfortable and settled.holds(draft.want.context, freed - draft.account.doubt.below)


def _find_eager_reason(graphs: Settled, eager: Settled) -> str | None:
    """Why this run does without CUDA graphs; None when it keeps them."""
    if is_better(graphs, eager):
        return None
    compiles = max(graphs.draft.account.peak.bytes) > max(eager.draft.account.peak.bytes)
    both, they = ("compiling and CUDA graphs", "they and compiling") if compiles else ("CUDA graphs", "they")
    size = f"{(graphs.draft.account.peak_and_graph_bytes - eager.draft.account.peak_and_graph_bytes) / GIB:.2f} GiB"
    if is_better(eager, graphs) or not (eager.fits_context or graphs.fits_context):
        return f"{both} take {size} that the run needs to fit"
    gain = graphs.worth / eager.worth - 1
    if graphs.offloads and eager.offloads and gain <= LEAST_GRAPH_GAIN:
        little = f"little ({gain:.0%} here)" if gain >= LEAST_TOLD_GAIN else "nothing"
        return f"CUDA graphs gain {little} when weights come over the bus; {they} take {size}"
    if gain >= -LEAST_GRAPH_GAIN:
        return None
    if graphs.offloads and not eager.offloads:
        return f"{both} take {size}: without them no weights must leave the card"
    held = f"{eager.requests_at_once} requests run at once instead of {graphs.requests_at_once}"
    return f"{both} take {size}: without them {held}"
