"""What earlier launches on this machine taught: found before a run is planned, stored when one has become ready."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nexus_orch.errors import InterruptedByEnvironment, Problem
from nexus_orch.judge.learned.bus import BusMeasurement, choose_bus_lessons, describe_bus
from nexus_orch.judge.learned.learning import choose_lessons, find_candidates, make_measurement
from nexus_orch.record.learned import append_measurement, bus_path, is_learning, learned_path, read_measurements
from nexus_orch.record.store import read_records
from nexus_orch.types import Facts, Lesson, Plan

if TYPE_CHECKING:  # a plan needs what was learned, not the patterns of engine logs
    from nexus_orch.judge.log.measured import Measured


@dataclass(frozen=True)
class Learned:
    """The lessons that hold for a run; `notes` say what of the store could not be read."""

    lessons: tuple[Lesson, ...] = ()
    notes: tuple[str, ...] = ()


def read_learned(facts: Facts, draw: Callable[[Sequence[Lesson]], Plan]) -> Learned:
    """What holds for a run; `draw` makes its plan with some lessons. Raises ConfigError for a bad NEXUS_LEARN.

    The plan by estimates says under which conditions the run would be launched; what was measured under these is
    learned, and kept as far as it holds for the plan that it leads to as well.
    """
    if not is_learning():
        return Learned()
    measured, bus_notes = read_records(bus_path(), BusMeasurement)
    bus = choose_bus_lessons(measured, facts)
    launches = _read_launches(facts, lambda lessons: draw((*bus, *lessons)))
    return Learned((*bus, *launches.lessons), (*bus_notes, *describe_bus(bus), *launches.notes))


def _read_launches(facts: Facts, draw: Callable[[Sequence[Lesson]], Plan]) -> Learned:
    """What earlier launches measured and holds for the plan that it leads to."""
    stored, notes = read_measurements(learned_path())
    measurements = tuple(find_candidates(stored, facts))
    if not measurements:
        return Learned(notes=notes)
    lessons = choose_lessons(measurements, draw(()), facts)
    still = choose_lessons(measurements, draw(lessons), facts)
    quantities = [lesson for lesson in lessons if lesson.key.startswith("measured.")]
    if all(lesson in still for lesson in quantities):
        return Learned(lessons, notes)
    return Learned(tuple(lesson for lesson in quantities if lesson in still), notes)


def store_measurement(plan: Plan, facts: Facts, measured: Measured) -> tuple[Problem, ...]:
    """Keep what a launch that became ready has measured; the problems when it cannot be written, which harm no run."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    measurement = make_measurement(plan, facts, measured, today) if is_learning() else None
    if measurement is None:
        return ()
    try:
        append_measurement(learned_path(), measurement)
    except InterruptedByEnvironment as error:
        return tuple(replace(each, message=f"what was measured is not kept: {each.message}") for each in error.problems)
    return ()
