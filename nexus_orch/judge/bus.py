"""What was measured of the bus between RAM and the cards, and when it holds for a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nexus_orch.judge.case import make_machine_key
from nexus_orch.types import COPY_RATE, RAM_RATE, READ_RATE, Facts, Lesson


@dataclass(frozen=True)
class CardBus:
    """The bus of one card, in bytes per second. `index` counts as NVML does."""

    index: int
    card: str
    copy_bytes_per_second: float
    """A copy from pinned memory, as the prefetch offloader makes it."""
    read_bytes_per_second: float | None = None
    """A matrix product of one token whose weights lie in pinned memory, as under UVA; None where the engine has no view
    of host memory."""


@dataclass(frozen=True)
class BusMeasurement:
    """All cards of one machine, measured one after another. `date` is ISO: 2026-11-23."""

    date: str
    machine: str
    cards: tuple[CardBus, ...]
    ram_bytes_per_second: float | None = None
    """What all processors together read."""

    @property
    def source(self) -> str:
        return f"the bus was measured here on {self.date}"


def choose_bus_lessons(measurements: Sequence[BusMeasurement], facts: Facts) -> tuple[Lesson, ...]:
    """What the newest measurement of this very machine says of each card that the run may use, and of its RAM."""
    machine = facts.machine
    if not machine.is_this_machine or not machine.gpus:
        return ()
    wanted = make_machine_key(machine)
    newest = next((found for found in reversed(measurements) if found.machine == wanted), None)
    if newest is None:
        return ()
    used = {gpu.index for gpu in machine.gpus}
    lessons = [lesson for card in newest.cards if card.index in used for lesson in _make_lessons(card, newest.source)]
    if newest.ram_bytes_per_second is not None:
        lessons.append(Lesson(RAM_RATE, int(newest.ram_bytes_per_second), newest.source))
    return tuple(lessons)


def describe_bus(lessons: Sequence[Lesson]) -> tuple[str, ...]:
    """One sentence for the plan's notes."""
    rates = [lesson for lesson in lessons if lesson.key.startswith(COPY_RATE)]
    if not rates:
        return ()
    slowest = min(float(lesson.value) for lesson in rates) / 1e9
    return (f"learned: {slowest:.1f} GB/s from RAM to a card ({rates[0].source})",)


def _make_lessons(card: CardBus, source: str) -> list[Lesson]:
    found = [Lesson(f"{COPY_RATE}.{card.index}", int(card.copy_bytes_per_second), source)]
    if card.read_bytes_per_second is not None:
        found.append(Lesson(f"{READ_RATE}.{card.index}", int(card.read_bytes_per_second), source))
    return found
