"""Tries one loader: the engine's own batching first, then leaner settings, until all that is wanted fits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from nexus_orch.contracts import Loader
from nexus_orch.errors import Problem
from nexus_orch.plan.asked.fixed import FixedSettings
from nexus_orch.plan.asked.inputs import Inputs
from nexus_orch.plan.asked.target import make_target
from nexus_orch.plan.cards.choose import choose_parallelism
from nexus_orch.plan.cards.parallelism import Parallelism
from nexus_orch.plan.estimate.draft import HIGHEST_UTILIZATION, Draft
from nexus_orch.plan.estimate.settled import Settled
from nexus_orch.plan.release.generations import default_batching
from nexus_orch.plan.search.narrow import make_narrow, narrow_choice
from nexus_orch.plan.search.placing import explain_backend, find_best, is_better, place_weights
from nexus_orch.plan.search.variations import LEAN_BATCHED_TOKENS, RAISED_UTILIZATION
from nexus_orch.types import GIB, Choice, Variation

LEAN_REQUESTS = 16
STATE_REQUESTS = (256, 64)
"""Requests at once that are tried for a model with states, each of which needs a block of the KV cache."""
EAGER = "memory.enforce_eager"
LEAST_GRAPH_GAIN = 0.1
"""The gain in speed from which on a run that offloads keeps CUDA graphs, which take memory, and minutes at the first
start; and the gain without them from which on any other run gives them up."""
LEAST_TOLD_GAIN = 0.01


@dataclass(frozen=True)
class Batching:
    """max_num_batched_tokens and max_num_seqs; `choices` is empty when the engine's own values are kept."""

    tokens: int
    requests: int
    choices: tuple[Choice, ...]


@dataclass(frozen=True)
class Rung:
    """One step of the row of settings that are tried, from the engine's own to leaner ones."""

    batching: Batching
    share: float
    """The largest share of a card's memory (gpu_memory_utilization)."""
    is_largest_share: bool
    """Whether no larger share is tried with this batching."""
    is_last: bool = False


@dataclass(frozen=True)
class LoaderTrial:
    """A loader's best placement, and the choices of batching and mode that go with it."""

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
class SearchSpace:
    """The settings that every loader is tried with, and their drafts, each of which is counted once."""

    inputs: Inputs
    parallelism: Parallelism
    offloading: str | None = None
    """The override that chooses a strategy which may leave weights in host RAM; None where it is not known or there is
    none."""

    @cached_property
    def rungs(self) -> tuple[Rung, ...]:
        """The settings in the order in which they are tried."""
        *others, last = _rungs(self.inputs, self.parallelism)
        return *others, replace(last, is_last=True)

    def draft(self, batching: Batching, *, eager: bool) -> Draft:
        key = (batching.tokens, batching.requests, eager)
        if key not in self._drafts:
            target = make_target(self.inputs)
            self._drafts[key] = Draft(self.inputs, self.parallelism, self.inputs.generation(), *key, target)
        return self._drafts[key]

    @cached_property
    def _drafts(self) -> dict[tuple[int, int, bool], Draft]:
        return {}


def try_loader(space: SearchSpace, loader: Loader) -> LoaderTrial:
    """The best that this loader achieves, with the reason for its back end."""
    best = _try_widths(space, loader)
    return replace(best, settled=explain_backend(best.settled, best.others))


def try_variation(inputs: Inputs, variation: Variation, loader: Loader) -> LoaderTrial | None:
    """The best that this loader achieves in the run with the change; None where the model cannot be divided so."""
    changed = inputs.varied(variation)
    parallelism = choose_parallelism(changed)
    return None if parallelism.problems else try_loader(SearchSpace(changed, parallelism), loader)


def _try_widths(space: SearchSpace, loader: Loader) -> LoaderTrial:
    """The best trial with keys and values as wide as the model's, or narrower.

    Keys and values in 8 bits are tried last, and only for a run that fits in no other way on the cards.
    """
    last = _try_rungs(space, loader)
    settled = last.settled
    needed = settled.needed_context
    if settled.offloads or settled.fits_context:
        return last
    if settled.surely_longest <= needed // 3:  # half the bytes hold about twice the tokens
        return last
    narrow = make_narrow(space.inputs)
    if narrow is None:
        return last
    other = _try_rungs(SearchSpace(narrow, space.parallelism), loader)
    if not other.is_comfortable or other.settled.offloads:
        return last
    return replace(other, choices=(*other.choices, narrow_choice(space.inputs, needed, space.offloading)))


def _try_rungs(space: SearchSpace, loader: Loader) -> LoaderTrial:
    """The trial with the engine's own settings where the whole target fits with them, on the cards; else the best of
    these and leaner ones."""
    tried: list[LoaderTrial] = []
    for rung in space.rungs:
        tried.append(_try(space, loader, rung))
        settled = tried[-1].settled
        if settled.is_comfortable and not settled.offloads and settled.holds_concurrency:
            return tried[-1]
    staying = [one for one in tried if one.is_comfortable and not one.settled.offloads]
    ranked = staying or tried[::-1]  # the leanest offloads least
    return ranked[find_best([one.settled for one in ranked])]


def _rungs(inputs: Inputs, parallelism: Parallelism) -> Iterator[Rung]:
    usual = _batching(inputs, parallelism, lean=False)
    is_pinned = inputs.fixed.has("memory.gpu_memory_utilization")
    share = inputs.generation().default_utilization
    yield Rung(usual, share, is_largest_share=is_pinned)
    if not is_pinned:
        yield Rung(usual, RAISED_UTILIZATION, is_largest_share=True)
    if inputs.architecture.is_hybrid and inputs.generation().blocks_for_requests:
        for requests in STATE_REQUESTS:
            fewer = _with_fewer_requests(inputs, usual, requests)
            if fewer is not None:
                yield Rung(fewer, RAISED_UTILIZATION if not is_pinned else share, is_largest_share=True)
    lean = _batching(inputs, parallelism, lean=True)
    if lean != usual:
        yield Rung(lean, min(RAISED_UTILIZATION, HIGHEST_UTILIZATION), is_largest_share=True)


def _with_fewer_requests(inputs: Inputs, usual: Batching, requests: int) -> Batching | None:
    """The engine's own batching but for its requests; None where they are pinned, or no more than these."""
    if inputs.fixed.has("serve.max_num_seqs") or usual.requests <= requests:
        return None
    reason = f"lower than the engine's {usual.requests:,}: the state of each request needs a block of the KV cache"
    choice = inputs.fixed.choice("serve.max_num_seqs", requests, reason)
    return Batching(usual.tokens, requests, (*usual.choices, choice))


def _batching(inputs: Inputs, parallelism: Parallelism, *, lean: bool) -> Batching:
    generation = inputs.generation()
    gpu = parallelism.gpus[0]  # vLLM asks the first card that it sees (engine/arg_utils.py)
    tokens, requests = default_batching(gpu.total_bytes, gpu.name, generation, parallelism.ranks)
    fixed, choices = inputs.fixed, []
    reason = "lower than the engine's {}: activations must leave room for the KV cache"
    least_tokens = min(tokens, LEAN_BATCHED_TOKENS)
    least_requests = min(requests, max(LEAN_REQUESTS, inputs.spec.workload.concurrency))
    for key, usual, least in (
        ("serve.max_num_batched_tokens", tokens, least_tokens),
        ("serve.max_num_seqs", requests, least_requests),
    ):
        if fixed.has(key) or (lean and least < usual):
            choices.append(fixed.choice(key, least, reason.format(f"{usual:,}")))
    values = {choice.key: int(choice.value) for choice in choices}
    return Batching(
        values.get("serve.max_num_batched_tokens", tokens),
        values.get("serve.max_num_seqs", requests),
        tuple(choices),
    )


def _try(space: SearchSpace, loader: Loader, rung: Rung) -> LoaderTrial:
    """The best trial of a rung: with CUDA graphs, or without where that is better and the user has left it open."""
    fixed, batching = space.inputs.fixed, rung.batching
    pinned = fixed.spec.memory.enforce_eager
    settled, *others = place_weights(space.draft(batching, eager=bool(pinned)), loader, rung.share)
    found = LoaderTrial(loader.name, settled, batching.choices, tuple(others))
    if pinned is not None:
        return _with_pinned_graphs(replace(found, choices=(*batching.choices, fixed.choice(EAGER, pinned, ""))), fixed)
    without = space.draft(batching, eager=True)
    if settled.placement.needs_eager is not None:
        eager, *others = place_weights(without, loader, rung.share)
        needed = eager.placement.needs_eager or settled.placement.needs_eager
        return LoaderTrial(loader.name, eager, (*batching.choices, fixed.choice(EAGER, True, needed)), tuple(others))
    # Llama-3.1-8B in 18.6 GB: with graphs some weights leave at the engine's own share of the card, none at a larger
    # one. So what offloads is compared with a run without graphs at the largest share only.
    offloads_for_good = settled.offloads and rung.is_largest_share
    # The same model in 20 GB for 32 users: without graphs all are served at once, with them 22. For the context itself
    # graphs are given up at the last rung only: until then a leaner batch may make that room and keep them.
    lacks_room = not settled.offloads and (_lets_wait(settled) or (rung.is_last and _would_fit(settled, without)))
    if not offloads_for_good and not lacks_room:
        return found
    eager, *others = place_weights(without, loader, rung.share)
    reason = _find_eager_reason(settled, eager)
    if reason is None:
        return found
    return LoaderTrial(loader.name, eager, (*batching.choices, fixed.choice(EAGER, True, reason)), tuple(others))


def _with_pinned_graphs(found: LoaderTrial, fixed: FixedSettings) -> LoaderTrial:
    """The trial, with a mistake where CUDA graphs are pinned and its placement does without them only."""
    placement = found.settled.placement
    if placement.needs_eager is None or fixed.spec.memory.enforce_eager:
        return found
    problem = Problem(
        placement.needs_eager, EAGER, False, fixed.problem_origin(EAGER), f"{EAGER}=auto", is_mistake=True
    )
    placement = replace(placement, problems=(*placement.problems, problem))
    return replace(found, settled=replace(found.settled, placement=placement))


def _lets_wait(settled: Settled) -> bool:
    """Whether the context fits and the KV cache holds fewer requests than are wanted at once."""
    return settled.fits_context and not settled.holds_concurrency


def _would_fit(settled: Settled, without: Draft) -> bool:
    """Whether the memory of CUDA graphs and of compiling would surely hold the wanted context; where not even the
    needed one fits with them, whether it would hold anything."""
    freed = settled.draft.account.peak_and_graph_bytes - without.account.peak_and_graph_bytes
    if not settled.fits_context:
        return min(settled.kv) + freed > 0
    draft = settled.draft
    return not settled.is_comfortable and settled.holds(draft.target.context, freed - draft.account.doubt.below)


def _find_eager_reason(graphs: Settled, eager: Settled) -> str | None:
    """Why this run does without CUDA graphs; None when it keeps them."""
    if is_better(graphs, eager):
        return None
    compiles = max(graphs.draft.account.peak.bytes) > max(eager.draft.account.peak.bytes)
    both, they = ("compiling and CUDA graphs", "they and compiling") if compiles else ("CUDA graphs", "they")
    size = f"{(graphs.draft.account.peak_and_graph_bytes - eager.draft.account.peak_and_graph_bytes) / GIB:.2f} GiB"
    if is_better(eager, graphs) or not (eager.fits_context or graphs.fits_context):
        return _tell_states(graphs) if graphs.lacks_states else f"{both} take {size} that the run needs to fit"
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


def _tell_states(graphs: Settled) -> str:
    return (
        f"CUDA graphs want a block of the KV cache for each of {graphs.draft.requests:,} requests, and "
        f"{graphs.num_blocks:,} are there"
    )
