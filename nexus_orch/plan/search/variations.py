"""What if: the changes of a run that are worth a try, each with its condition. One list for all who ask.

A refused plan asks for what would fit (`answer/remedies.py`, `answer/host_remedies.py`), a good one for what is better
(`nearby/alternatives.py`), a server that is short of memory for what would relieve it (`nearby/relief.py`). Each
selects kinds of change from here; whether a change fits and helps is for its own plan to say.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from nexus_orch.plan.model.quantization import quantization_config
from nexus_orch.plan.model.tensors import choose_architecture
from nexus_orch.plan.search.narrow import NARROW_TYPE, refuse_narrow_cache
from nexus_orch.types import Facts, ModelFacts, Plan, RunSpec, Variation

MORE_CARDS = (1, 2, 3, 4, 6, 8, 12, 15)
"""How many further cards are tried, up to the next that makes sense."""
RAISED_UTILIZATION = 0.95
"""How much of a card is used when the engine's own share is not enough."""
LEAN_BATCHED_TOKENS = 2048
"""Tokens of a batch that keep activations small and still fill a card's arithmetic."""

LET_GO = (
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
class Base:
    """The run that is varied: what was asked, what is true, and the plan of it where there is one already."""

    spec: RunSpec
    facts: Facts
    plan: Plan | None = None

    def planned(self, key: str) -> Any:
        """The value that the plan gives a setting; None where it leaves it to the engine, or there is no plan."""
        choice = None if self.plan is None else self.plan.choice(key)
        return None if choice is None else choice.value

    @property
    def has_cards(self) -> bool:
        return bool(self.facts.machine.gpus) and self.facts.engine.device != "cpu"


@dataclass(frozen=True)
class _Kind:
    """One kind of change of one setting. It is no use where all settings of `respects` are pinned, nor where `applies`
    is false."""

    key: str
    values: tuple[Any, ...] = ()
    """Values that are tried where the asker names none."""
    applies: Callable[[Base], bool] = lambda base: True
    respects: tuple[str, ...] = ()
    price: str = ""


def _can_narrow_cache(base: Base) -> bool:
    is_wide = base.planned("memory.kv_cache.dtype") in (None, "auto", base.planned("model.dtype"))
    return is_wide and refuse_narrow_cache(choose_architecture(base.facts.model), base.facts) is None


def _can_narrow_weights(base: Base) -> bool:
    """Weights are narrowed while they are loaded, for which the wide ones must fit first."""
    plan, facts = base.plan, base.facts
    fits_wide = plan is not None and plan.fits and not any(card.offloaded_bytes for card in plan.per_gpu)
    is_wide = base.spec.model.quantization is None and not quantization_config(facts.model.config)
    return base.has_cards and all(gpu.supports_fp8 for gpu in facts.machine.gpus) and fits_wide and is_wide


def _can_take_more(base: Base) -> bool:
    return base.has_cards and float(base.planned("memory.gpu_memory_utilization") or 1.0) < RAISED_UTILIZATION


def _can_batch_less(base: Base) -> bool:
    return base.has_cards and float(base.planned("serve.max_num_batched_tokens") or math.inf) > LEAN_BATCHED_TOKENS


KINDS: Mapping[str, _Kind] = {
    "context": _Kind("model.max_model_len"),
    "strategy": _Kind("memory.strategy", applies=lambda base: base.has_cards),
    "narrow_cache": _Kind(
        "memory.kv_cache.dtype", (NARROW_TYPE,), _can_narrow_cache, price="keys and values rounded to 8 bits"
    ),
    "narrow_weights": _Kind("model.quantization", ("fp8",), _can_narrow_weights, price="weights rounded to 8 bits"),
    "larger_share": _Kind("memory.gpu_memory_utilization", (RAISED_UTILIZATION,), _can_take_more),
    "smaller_batch": _Kind("serve.max_num_batched_tokens", (LEAN_BATCHED_TOKENS,), _can_batch_less),
    "requests_at_once": _Kind("serve.max_num_seqs"),
    "offloaded_amount": _Kind("memory.cpu_offload_gib", applies=lambda base: base.has_cards),
    "cache_size": _Kind("memory.kv_cache.size_gib", applies=lambda base: not base.has_cards),
    "more_cards": _Kind(
        "hardware.gpu.count",
        MORE_CARDS,
        applies=lambda base: base.has_cards,
        respects=("serve.tensor_parallel", "serve.pipeline_parallel"),
    ),
}
"""The changes of one setting, by name."""


def vary(name: str, base: Base, values: Iterable[Any] | None = None) -> Iterator[Variation]:
    """The variations of a kind that are worth a try, with these values or its own; none that the plan has already."""
    kind = KINDS[name]
    is_ruled_out = bool(kind.respects) and not any(base.spec.is_open(key) for key in kind.respects)
    if is_ruled_out or not kind.applies(base):
        return
    for value in kind.values if values is None else values:
        if kind.key == "hardware.gpu.count":
            total = len(base.facts.machine.gpus) + value
            yield Variation(name, {}, kind.price, more_cards=value, named=(f"{kind.key}={total}",))
        elif value is None or base.planned(kind.key) != value:
            yield Variation(name, {kind.key: value}, kind.price)


def let_go(base: Base, groups: Iterable[tuple[str, ...]] = LET_GO) -> Iterator[Variation]:
    """One variation for each group of pinned settings that is left to the planner."""
    for keys in groups:
        pinned = [key for key in keys if not base.spec.is_open(key)]
        if pinned:
            yield Variation("let_go", dict.fromkeys(pinned))


def letting_go(variation: Variation, base: Base, keys: Iterable[str]) -> Variation:
    """The variation with these settings left to the planner too, where they are pinned."""
    pinned = dict.fromkeys(key for key in keys if not base.spec.is_open(key))
    return replace(variation, values={**variation.values, **pinned})


def other_formats(base: Base, siblings: Mapping[str, ModelFacts]) -> Iterator[Variation]:
    """The same model in other weight formats, by the names of their profiles."""
    for name, model in siblings.items() if base.has_cards else ():
        yield Variation(
            "weight_format",
            {"model.name": name, "model.path": model.path, "model.quantization": None},
            f"{(quantization_config(model.config) or {}).get('quant_method', 'other')} weights",
            model=model,
            named=(f"model={name}",),
        )
