"""What was measured of the bus between RAM and the cards, and when it holds for a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nexus_orch.judge.learned.case import make_machine_key
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
    """What the newest measurement on this very machine says of each card that the run may use, of each layer that was
    measured, and of its RAM."""
    machine = facts.machine
    if not machine.is_this_machine or not machine.gpus:
        return ()
    wanted = make_machine_key(machine)
    of_here = [found for found in measurements if found.machine == wanted]
    lessons = [lesson for gpu in machine.gpus for lesson in _make_lessons(of_here, gpu.index)]
    ram = next((found for found in reversed(of_here) if found.ram_bytes_per_second is not None), None)
    if ram is not None and ram.ram_bytes_per_second is not None:
        lessons.append(Lesson(RAM_RATE, int(ram.ram_bytes_per_second), ram.source))
    return tuple(lessons)


def describe_bus(lessons: Sequence[Lesson]) -> tuple[str, ...]:
    """One sentence for the plan's notes."""
    rates = [lesson for lesson in lessons if lesson.key.startswith(COPY_RATE)]
    if not rates:
        return ()
    slowest = min(float(lesson.value) for lesson in rates) / 1e9
    return (f"learned: {slowest:.1f} GB/s from RAM to a card ({rates[0].source})",)


def _make_lessons(measurements: Sequence[BusMeasurement], index: int) -> Iterator[Lesson]:
    """The newest of a card; of each layer the newest that was measured of it."""
    found = [(card, measured.source) for measured in measurements for card in measured.cards if card.index == index]
    if not found:
        return
    card, source = found[-1]
    yield Lesson(f"{COPY_RATE}.{index}", int(card.copy_bytes_per_second), source)
    if card.read_bytes_per_second is not None:
        yield Lesson(f"{READ_RATE}.{index}", int(card.read_bytes_per_second), source)
    layers = {card.layer.matrices: (card.layer, source) for card, source in found if card.layer is not None}
    if layers:
        sources = dict.fromkeys(source for _, source in layers.values())
        yield Lesson(f"{LAYER_READS}.{index}", tuple(layer for layer, _ in layers.values()), "; ".join(sources))
