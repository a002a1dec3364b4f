"""A grid of values, checked as a whole before anything is planned: all mistakes at once, each with its remedy."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nexus_orch.compose.origins import COMMAND_LINE
from nexus_orch.compose.schema import find_nearest_key, known_keys
from nexus_orch.compose.values import judge_values, make_unknown_key, settle
from nexus_orch.errors import ConfigError, Problem, render_value
from nexus_orch.suggest import did_you_mean

MOST_POINTS = 100_000
"""More points are a mistake in the grid rather than a wish: planning them would take ten minutes."""
GROUPS = ("hardware", "model", "memory", "engine", "serve", "workload", "profile")


@dataclass(frozen=True)
class Grid:
    """A checked grid: the values of keys as a spec holds them, the options of groups, and what was written."""

    written: Mapping[str, Sequence[Any]]
    settled: Mapping[str, Sequence[Any]]
    origin: str = COMMAND_LINE

    @property
    def groups(self) -> tuple[str, ...]:
        return tuple(name for name in self.written if name in GROUPS)

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(name for name in self.written if name not in GROUPS)

    def combinations(self) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """Each point's values as written and as a spec holds them; the last key varies fastest."""
        names = list(self.written)
        for places in itertools.product(*(range(len(self.written[name])) for name in names)):
            chosen = list(zip(names, places, strict=True))
            yield (
                {name: self.written[name][place] for name, place in chosen},
                {name: self.settled[name][place] for name, place in chosen},
            )


def read_grid(grid: Mapping[str, Sequence[Any]], origin: str = COMMAND_LINE) -> Grid:
    """The grid of these keys and values. Raises ConfigError with every mistake of it."""
    problems = [problem for name, values in grid.items() for problem in _judge_key(name, values, origin)]
    if not grid:
        problems.append(Problem("the grid is empty", origin=origin, remedy="name a key and its values: KEY=1,2,3"))
    if not problems and (count := math.prod(len(values) for values in grid.values())) > MOST_POINTS:
        largest = max(grid, key=lambda name: len(grid[name]))
        remedy = f"take fewer values, or at most {MOST_POINTS:,} points in all"
        problems.append(Problem(f"the grid has {count:,} points", largest, list(grid[largest]), origin, remedy))
    if problems:
        raise ConfigError(*problems)
    settled = {name: [_settled(name, value) for value in values] for name, values in grid.items()}
    return Grid({name: list(values) for name, values in grid.items()}, settled, origin)


def _judge_key(name: str, values: object, origin: str) -> Iterator[Problem]:
    if isinstance(values, str) or not isinstance(values, Sequence):
        yield Problem(f"the values of {name} are no list", name, values, origin, f"write {name}=1,2,3")
    elif not values:
        yield Problem(f"the grid names no value of {name}", name, None, origin, f"write {name}=1,2,3, or leave it out")
    elif name in GROUPS:
        yield from (
            Problem(f"{name} must be the name of a profile", name, value, origin, f"`nexus plan {name}=` lists them")
            for value in values
            if not isinstance(value, str)
        )
    elif name not in known_keys():
        yield _make_unknown(name, values, origin)
    elif "properties" in known_keys()[name]:
        yield Problem(f"{name} is a section, no key", name, None, origin, f"sweep one of its keys, {name}.NAME=1,2")
    else:
        for value in values:
            yield from judge_values(_nested(name, value), {name: origin})
        if len({render_value(value) for value in values}) < len(values):
            yield Problem(f"{name} names a value twice", name, list(values), origin, "name each value once")


def _make_unknown(name: str, values: Sequence[Any], origin: str) -> Problem:
    nearest = find_nearest_key(name)
    if "." in name or nearest is None:
        return make_unknown_key(name, list(values), origin)
    return Problem(f"unknown key or group {name}", name, list(values), origin, did_you_mean([nearest]))


def _nested(key: str, value: Any) -> dict[str, Any]:
    *sections, name = key.split(".")
    nested: dict[str, Any] = {name: value}
    for section in reversed(sections):
        nested = {section: nested}
    return nested


def _settled(name: str, value: Any) -> Any:
    if name in GROUPS:
        return value
    found: Any = settle(_nested(name, value))
    for part in name.split("."):
        found = found[part]
    return tuple(found) if isinstance(found, list) else found
