"""Variation: a run with one thing changed, to be planned and compared with the run itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from nexus_orch.errors import render_value
from nexus_orch.types.facts import Facts, ModelFacts
from nexus_orch.types.spec import RunSpec


@dataclass(frozen=True)
class Variation:
    """One change of a run (`nexus_orch.plan.search.variations` lists the kinds)."""

    name: str
    """The kind of change: "narrow_cache", "more_cards" ..."""
    values: Mapping[str, Any]
    """New values by dotted key; None lets the planner decide."""
    price: str = ""
    """One clause for what the numbers of a plan do not show."""
    more_cards: int = 0
    """Further cards like the last one."""
    model: ModelFacts | None = None
    """Another model in place of the run's own: the same one in another weight format."""
    named: tuple[str, ...] = ()
    """Overrides that bring about what no value of `values` says."""

    @property
    def overrides(self) -> tuple[str, ...]:
        """What to add to the command line."""
        return self.named or tuple(f"{key}={_render(value)}" for key, value in self.values.items())

    @property
    def change(self) -> str:
        """The change in the words of the command line, or "2 more cards"."""
        if self.more_cards:
            return f"{self.more_cards} more card{'' if self.more_cards == 1 else 's'}"
        return " ".join(self.overrides)

    def apply(self, spec: RunSpec, facts: Facts) -> tuple[RunSpec, Facts]:
        """The run with the change made, and what is then true."""
        for key, value in self.values.items():
            spec = spec.with_value(key, value)
        if self.model is not None:
            facts = replace(facts, model=self.model)
        if self.more_cards:
            cards = facts.machine.gpus
            extra = (replace(cards[-1], index=len(cards) + number) for number in range(self.more_cards))
            facts = replace(facts, machine=replace(facts.machine, gpus=(*cards, *extra)))
        return spec, facts

    def is_open(self, spec: RunSpec) -> bool:
        """Whether the user has left all that changes to the planner."""
        return all(spec.is_open(key) for key in self.values)


def _render(value: Any) -> str:
    if value is None:
        return "auto"
    return f"{value:g}" if isinstance(value, float) else render_value(value)
