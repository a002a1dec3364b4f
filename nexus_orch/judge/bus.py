"""What was measured of the bus between RAM and the cards, and when it holds for a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nexus_orch.judge.case import make_machine_key
from nexus_orch.types import COPY_RATE, LAYER_READS, RAM_RATE, READ_RATE, Facts, LayerRead, Lesson


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
    layer: LayerRead | None = None
    """The same for a whole layer of the model that the measurement was made for."""


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
    """What the newest measurement of this very machine says of each card that the run may use, and of its RAM; of
    layers, what each measurement says."""
    machine = facts.machine
    if not machine.is_this_machine or not machine.gpus:
        return ()
    wanted = make_machine_key(machine)
    of_here = [found for found in measurements if found.machine == wanted]
    if not of_here:
        return ()
    newest, used = of_here[-1], {gpu.index for gpu in machine.gpus}
    lessons = [lesson for card in newest.cards if card.index in used for lesson in _make_lessons(card, newest.source)]
    for index in used:
        layers = _newest_layers(of_here, index)
        if layers:
            lessons.append(Lesson(f"{LAYER_READS}.{index}", layers, newest.source))
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


def _newest_layers(measurements: Sequence[BusMeasurement], index: int) -> tuple[LayerRead, ...]:
    """What was measured of each layer last."""
    cards = (card for found in measurements for card in found.cards if card.index == index)
    return tuple({card.layer.matrices: card.layer for card in cards if card.layer is not None}.values())


def _make_lessons(card: CardBus, source: str) -> list[Lesson]:
    found = [Lesson(f"{COPY_RATE}.{card.index}", int(card.copy_bytes_per_second), source)]
    if card.read_bytes_per_second is not None:
        found.append(Lesson(f"{READ_RATE}.{card.index}", int(card.read_bytes_per_second), source))
    return found
