"""Runs near the planned one: what would make it fit, or serve its objective better. Each is planned, not guessed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from nexus_orch.contracts import Loader
from nexus_orch.errors import ConfigError
from nexus_orch.plan.make import make_plan
from nexus_orch.plan.model.tensors import choose_architecture
from nexus_orch.plan.search.strategy import contradicts
from nexus_orch.plan.search.variations import Base, let_go, letting_go, other_formats, vary
from nexus_orch.types import GIB, Alternative, Facts, ModelFacts, Plan, RunSpec, Variation

Draw = Callable[[RunSpec, Facts], Plan]
"""Plans a run; raises ConfigError as `make_plan` does."""

MOST_SHOWN = 3
LEAST_GAIN = 1.2
"""An alternative to a plan that fits is worth knowing from this factor on."""

OFFLOAD_PINS = ("memory.cpu_offload_gib", "memory.offload_backend")
"""Pins of one strategy, which another one is tried out without."""
_SHARES = frozenset({"memory.gpu_memory_utilization", "memory.kv_cache.size_gib", "memory.kv_cache.max_blocks"})
"""Pins that keep a run from taking a whole card."""
_GAINS = {"throughput": "throughput with a full KV cache", "latency": "speed", "context": "context"}


@dataclass(frozen=True)
class _Found:
    variation: Variation
    worth: float
    alternative: Alternative


def find_alternatives(
    plan: Plan,
    facts: Facts,
    loaders: Mapping[str, Loader],
    siblings: Mapping[str, ModelFacts] | None = None,
    draw: Draw | None = None,
) -> tuple[Alternative, ...]:
    """Up to three alternatives, the best for workload.objective first; those that take more of a card than was pinned
    come after them, those that need more cards last.

    To a plan that does not fit: what fits. To one that fits: what is better by a fifth at least. `siblings` are the
    same model in other weight formats, by the names of their profiles. `draw` plans a trial as the run itself was
    planned (with what earlier launches taught about it); without it, trials are planned by estimates alone. Costs a
    plan for each trial.
    """

    def by_estimates(spec: RunSpec, facts: Facts) -> Plan:
        return make_plan(spec, facts, loaders)

    draw = draw or by_estimates
    objective = plan.spec.workload.objective
    base = _worth(plan, objective) if plan.fits else 0.0
    found: list[_Found] = []
    base_run = Base(plan.spec, facts, plan)
    for variation in _variations(base_run, loaders, draw, siblings or {}):
        tried = _try(base_run, variation, draw)
        if tried is None or not _surely_fits(tried):
            continue
        worth = _worth(tried, objective)
        gain = worth / base if base else 0.0
        if not plan.fits or gain >= LEAST_GAIN:
            found.append(_Found(variation, worth, _make_alternative(variation, tried, gain, objective)))
    found.sort(key=lambda entry: (_takes_more(entry.variation), -entry.worth))
    return tuple(entry.alternative for entry in _distinct(found))[:MOST_SHOWN]


def _takes_more(variation: Variation) -> int:
    """What the change takes beyond the run's own memory: 0 nothing, 1 more of a card whose share was pinned, 2 further
    cards. Who pinned a share has a reason, such as another engine on the card."""
    return 2 if variation.more_cards else int(not _SHARES.isdisjoint(variation.values))


def _distinct(found: Sequence[_Found]) -> Iterator[_Found]:
    """The alternatives without those formats that are worth about the same as another: AWQ and GPTQ of 4 bits are
    alike."""
    last: _Found | None = None
    for entry in found:
        if entry.variation.model is not None:
            if last is not None and entry.worth > 0.9 * last.worth:
                continue
            last = entry
        yield entry


def _try(base: Base, variation: Variation, draw: Draw) -> Plan | None:
    try:
        return draw(*variation.apply(base.spec, base.facts))
    except ConfigError:  # a sibling whose configuration cannot be read
        return None


def _surely_fits(plan: Plan) -> bool:
    return plan.fits and not plan.prediction.borderline


def _worth(plan: Plan, objective: str) -> float:
    """A figure for comparing plans of one run by an objective; greater is better."""
    speed = plan.prediction.decode_tokens_per_second
    if objective == "context":
        return float(plan.max_model_len)
    if objective == "latency":
        return speed or 0.0
    work = plan.spec.workload
    held = plan.kv_cache_tokens / (work.input_tokens + work.output_tokens)
    return float(min(held, plan.most_requests) * (speed or 1.0))


def _make_alternative(variation: Variation, plan: Plan, gain: float, objective: str) -> Alternative:
    effects = [f"{gain:.{1 if gain < 10 else 0}f} times the {_GAINS[objective]}"] if gain else []
    moved = sum(card.offloaded_bytes for card in plan.per_gpu)
    if moved:
        effects.append(f"{moved / GIB:.1f} GiB of weights in host RAM")
    if variation.price:
        effects.append(variation.price)
    return Alternative(
        change=variation.change,
        overrides=variation.overrides,
        effect="; ".join(effects),
        loader=plan.loader,
        max_model_len=plan.max_model_len,
        max_concurrency=plan.max_concurrency,
        kv_cache_tokens=plan.kv_cache_tokens,
        decode_tokens_per_second=plan.prediction.decode_tokens_per_second,
        offloaded_bytes=moved,
    )


def _variations(
    base: Base, loaders: Mapping[str, Loader], draw: Draw, siblings: Mapping[str, ModelFacts]
) -> Iterator[Variation]:
    """The changes that are tried out. A pinned value is let go, never replaced by another one of ours; but for the
    context, which is shortened where it does not fit."""
    yield from let_go(base)
    yield from _other_context(base, draw)
    for variation in vary("strategy", base, [name for name in loaders if name != _plan_of(base).loader]):
        changed = letting_go(variation, base, OFFLOAD_PINS)
        if not contradicts(loaders[changed.values["memory.strategy"]], changed.apply(base.spec, base.facts)[0]):
            yield changed
    narrower = [*vary("narrow_cache", base), *vary("narrow_weights", base)]
    yield from (variation for variation in narrower if variation.is_open(base.spec))
    yield from other_formats(base, siblings)
    yield from _more_cards(base, draw)


def _plan_of(base: Base) -> Plan:
    assert base.plan is not None
    return base.plan


def _other_context(base: Base, draw: Draw) -> Iterator[Variation]:
    """The longest context that surely fits, when the pinned one does not; longer ones when context is the objective."""
    plan, pinned = _plan_of(base), base.spec.model.max_model_len
    if pinned is not None and not plan.fits:
        (free,) = vary("context", base, [None])
        found = _try(base, free, draw)
        if found is not None and 0 < found.max_model_len < pinned:
            yield from vary("context", base, [found.max_model_len])
    if pinned is None and plan.fits and base.spec.workload.objective == "context":
        limit = choose_architecture(base.facts.model).longest_context
        longer = [length for length in (limit, limit // 2, limit // 4) if length > plan.max_model_len]
        yield from vary("context", base, longer)


def _more_cards(base: Base, draw: Draw) -> Iterator[Variation]:
    """The least number of further equal cards with which it fits, all weights on the cards if it fits already."""
    plan = _plan_of(base)
    if plan.fits and not _offloads(plan):
        return
    for variation in vary("more_cards", base):
        found = _try(base, variation, draw)
        if found is not None and _surely_fits(found) and not (plan.fits and _offloads(found)):
            yield variation
            return


def _offloads(plan: Plan) -> bool:
    return any(card.offloaded_bytes for card in plan.per_gpu)
