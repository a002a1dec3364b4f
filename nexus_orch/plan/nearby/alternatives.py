"""Runs near the planned one: what would make it fit, or serve its objective better. Each is planned, not guessed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nexus_orch.contracts import Loader
from nexus_orch.errors import ConfigError
from nexus_orch.plan.answer.remedies import MORE_CARDS
from nexus_orch.plan.asked.wishes import with_value
from nexus_orch.plan.make import make_plan
from nexus_orch.plan.model.tensors import choose_architecture
from nexus_orch.plan.search.narrow import refuse_narrow_cache
from nexus_orch.types import GIB, Alternative, Facts, ModelFacts, Plan, RunSpec

Draw = Callable[[RunSpec, Facts], Plan]
"""Plans a run; raises ConfigError as `make_plan` does."""

MOST_SHOWN = 3
LEAST_GAIN = 1.2
"""An alternative to a plan that fits is worth knowing from this factor on."""
ENGINE_MOST_REQUESTS = 256
"""Requests at once where neither the user nor the planner sets serve.max_num_seqs (see default_batching)."""

_GAINS = {"throughput": "throughput with a full KV cache", "latency": "speed", "context": "context"}
_LOOSENED = (
    ("serve.tensor_parallel", "serve.pipeline_parallel", "serve.pipeline_partition"),
    ("memory.gpu_memory_utilization",),
    ("memory.enforce_eager",),
    ("serve.max_num_seqs", "serve.max_num_batched_tokens"),
    ("memory.cpu_offload_gib", "memory.offload_backend"),
    ("memory.kv_cache.size_gib",),
    ("memory.kv_cache.max_blocks",),
    ("memory.kv_cache.dtype",),
    ("model.dtype",),
    ("model.quantization",),
)
"""Pinned settings that are tried out without the pin, together where one alone means little."""


@dataclass(frozen=True)
class _Variation:
    """One thing changed. `price` is what the numbers do not show."""

    change: str
    overrides: tuple[str, ...]
    spec: RunSpec
    facts: Facts
    price: str = ""
    takes_cards: bool = False
    is_sibling: bool = False


@dataclass(frozen=True)
class _Found:
    variation: _Variation
    worth: float
    alternative: Alternative


def find_alternatives(
    plan: Plan,
    facts: Facts,
    loaders: Mapping[str, Loader],
    siblings: Mapping[str, ModelFacts] | None = None,
    draw: Draw | None = None,
) -> tuple[Alternative, ...]:
    """Up to three alternatives, the best for workload.objective first; those that need more cards come last.

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
    for variation in _variations(plan, facts, loaders, draw, siblings or {}):
        tried = _try(variation, draw)
        if tried is None or not _surely_fits(tried):
            continue
        worth = _worth(tried, objective)
        gain = worth / base if base else 0.0
        if not plan.fits or gain >= LEAST_GAIN:
            found.append(_Found(variation, worth, _make_alternative(variation, tried, gain, objective)))
    found.sort(key=lambda entry: (entry.variation.takes_cards, -entry.worth))
    return tuple(entry.alternative for entry in _distinct(found))[:MOST_SHOWN]


def _distinct(found: Sequence[_Found]) -> Iterator[_Found]:
    """Of the other weight formats that are worth about the same, only the first: AWQ and GPTQ of 4 bits are alike."""
    last: _Found | None = None
    for entry in found:
        if entry.variation.is_sibling:
            if last is not None and entry.worth > 0.9 * last.worth:
                continue
            last = entry
        yield entry


def _try(variation: _Variation, draw: Draw) -> Plan | None:
    try:
        return draw(variation.spec, variation.facts)
    except ConfigError:  # a sibling whose configuration cannot be read
        return None


def _surely_fits(plan: Plan) -> bool:
    return plan.fits and not plan.prediction.borderline


def _worth(plan: Plan, objective: str) -> float:
    """What a plan is worth for an objective; only for comparing plans of one run."""
    speed = plan.prediction.decode_tokens_per_second
    if objective == "context":
        return float(plan.max_model_len)
    if objective == "latency":
        return speed or 0.0
    work = plan.spec.workload
    most = plan.settings.get("serve.max_num_seqs", ENGINE_MOST_REQUESTS)
    return float(min(plan.kv_cache_tokens / (work.input_tokens + work.output_tokens), most) * (speed or 1.0))


def _make_alternative(variation: _Variation, plan: Plan, gain: float, objective: str) -> Alternative:
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
    plan: Plan,
    facts: Facts,
    loaders: Mapping[str, Loader],
    draw: Draw,
    siblings: Mapping[str, ModelFacts],
) -> Iterator[_Variation]:
    spec = plan.spec
    for keys in _LOOSENED:
        pinned = [key for key in keys if spec.get(key) not in (None, "auto")]
        if pinned:
            yield _changed(plan, facts, dict.fromkeys(pinned))
    yield from _other_context(plan, facts, draw)
    if facts.engine.device == "cpu" or not facts.machine.gpus:
        return
    for name in loaders:
        if name != plan.loader:
            yield _with_loader(plan, facts, name)
    yield from _narrower(plan, facts)
    for name, model in siblings.items():
        changed = replace(spec, model=replace(spec.model, name=name, path=model.path, quantization=None))
        method = model.config["quantization_config"]["quant_method"]
        yield _Variation(
            f"model={name}",
            (f"model={name}",),
            changed,
            replace(facts, model=model),
            f"{method} weights",
            is_sibling=True,
        )
    if not plan.fits or any(card.offloaded_bytes for card in plan.per_gpu):
        yield from _more_cards(plan, facts, draw)


def _changed(plan: Plan, facts: Facts, values: Mapping[str, Any], price: str = "") -> _Variation:
    """The same run with other values; None means that the planner decides."""
    spec = plan.spec
    for key, value in values.items():
        spec = with_value(spec, key, value)
    overrides = tuple(f"{key}={'auto' if value is None else value}" for key, value in values.items())
    return _Variation(" ".join(overrides), overrides, spec, facts, price)


def _with_loader(plan: Plan, facts: Facts, name: str) -> _Variation:
    """Another strategy, without the settings of the pinned one."""
    values: dict[str, Any] = {"memory.strategy": name}
    if plan.spec.memory.cpu_offload_gib is not None:
        values["memory.cpu_offload_gib"] = None
    if plan.spec.memory.offload_backend is not None:
        values["memory.offload_backend"] = None
    return _changed(plan, facts, values)


def _other_context(plan: Plan, facts: Facts, draw: Draw) -> Iterator[_Variation]:
    """The longest context that surely fits, when the pinned one does not; longer ones when context is the objective."""
    pinned = plan.spec.model.max_model_len
    if pinned is not None and not plan.fits:
        free = _changed(plan, facts, {"model.max_model_len": None})
        found = _try(free, draw)
        if found is not None and 0 < found.max_model_len < pinned:
            yield _changed(plan, facts, {"model.max_model_len": found.max_model_len})
    if pinned is None and plan.fits and plan.spec.workload.objective == "context":
        limit = choose_architecture(facts.model).longest_context
        for longer in (limit, limit // 2, limit // 4):
            if longer > plan.max_model_len:
                yield _changed(plan, facts, {"model.max_model_len": longer})


def _narrower(plan: Plan, facts: Facts) -> Iterator[_Variation]:
    """KV cache and weights in 8 bits, where every card computes with them. Weights are narrowed while they are loaded,
    for which the wide ones must fit first."""
    if not all(gpu.supports_fp8 for gpu in facts.machine.gpus):
        return
    is_wide = plan.spec.memory.kv_cache.dtype in (None, "auto") and plan.choice("memory.kv_cache.dtype") is None
    if is_wide and refuse_narrow_cache(choose_architecture(facts.model), facts) is None:
        yield _changed(plan, facts, {"memory.kv_cache.dtype": "fp8"}, "keys and values rounded to 8 bits")
    fits_wide = plan.fits and not any(card.offloaded_bytes for card in plan.per_gpu)
    if fits_wide and plan.spec.model.quantization is None and not facts.model.config.get("quantization_config"):
        yield _changed(plan, facts, {"model.quantization": "fp8"}, "weights rounded to 8 bits")


def _more_cards(plan: Plan, facts: Facts, draw: Draw) -> Iterator[_Variation]:
    """The least number of further equal cards with which it fits, all weights on the cards if it fits already."""
    machine = facts.machine
    have = len(machine.gpus)
    for more in MORE_CARDS:
        extra = tuple(replace(machine.gpus[-1], index=have + number) for number in range(more))
        larger = replace(facts, machine=replace(machine, gpus=(*machine.gpus, *extra)))
        words = f"{more} more card{'' if more == 1 else 's'}"
        overrides = (f"hardware.gpu.count={have + more}",)
        variation = _Variation(words, overrides, plan.spec, larger, takes_cards=True)
        found = _try(variation, draw)
        if (
            found is not None
            and _surely_fits(found)
            and not (plan.fits and any(c.offloaded_bytes for c in found.per_gpu))
        ):
            yield variation
            return
