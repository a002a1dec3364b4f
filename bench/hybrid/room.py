"""Which card has room for one more launch, by its plan and beside those that are alive. Pure, but for the plans."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from bench.hybrid.grid import CARD_GIB
from bench.hybrid.predict import settle_case

GIB = 1 << 30
BESIDE_BUDGET_GIB = 1.5
"""What an engine takes of a card beyond its budget: CUDA's context, its compiled kernels and graphs."""
CARD_SPARE_GIB = 2.0


@dataclass(frozen=True)
class Need:
    """GiB of a card and of host RAM; `loading_gib` is that part of the RAM that is free again after loading."""

    card_gib: float
    host_gib: float
    loading_gib: float

    def after_loading(self) -> Need:
        return replace(self, host_gib=self.host_gib - self.loading_gib, loading_gib=0.0)


@dataclass(frozen=True)
class Room:
    """The cards, by what CUDA_VISIBLE_DEVICES calls them, and the host RAM that all launches may take together."""

    cards: tuple[str, ...]
    host_gib: float

    def find_card(self, need: Need, taken: Sequence[tuple[str, Need]]) -> str | None:
        """The emptiest card that has room for it, None when none has or host RAM has not."""
        if sum(other.host_gib for _, other in taken) + need.host_gib > self.host_gib:
            return None
        left = {card: CARD_GIB - CARD_SPARE_GIB - _sum_of(card, taken) for card in self.cards}
        best = max(left, key=lambda card: left[card])
        return best if left[best] >= need.card_gib else None


def _sum_of(card: str, taken: Iterable[tuple[str, Need]]) -> float:
    return sum(need.card_gib for where, need in taken if where == card)


def find_need(model: str, overrides: Sequence[str], *, is_alone: bool) -> Need:
    """What the planner says of a case; alone, it has the card to itself."""
    settled = settle_case(model, overrides, ())
    host = settled.host
    card = settled.budgets[0] / GIB + BESIDE_BUDGET_GIB
    whole = CARD_GIB - CARD_SPARE_GIB
    return Need(whole if is_alone else card, host.required_bytes / GIB, host.loading_bytes / GIB)
