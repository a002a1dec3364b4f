"""Keys of the public contract that nothing acts on yet: asking for one is refused, nothing is silently ignored. Pure.

A key leaves this table with the code that honours it; a test holds that each entry is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nexus_orch.errors import Problem
from nexus_orch.types import RunSpec


@dataclass(frozen=True)
class Unbuilt:
    """`asks` tells the values that would have to do something; the others ask for what happens anyway."""

    key: str
    asks: Callable[[Any], bool]
    message: str


UNBUILT: tuple[Unbuilt, ...] = (
    Unbuilt("hardware.nodes", lambda nodes: nodes > 1, "only one node can be planned and launched yet"),
)


def judge_unbuilt(spec: RunSpec) -> list[Problem]:
    """One problem for each key of `UNBUILT` that the spec asks for."""
    return [
        Problem(unbuilt.message, unbuilt.key, spec.get(unbuilt.key), spec.origin(unbuilt.key), "leave it out")
        for unbuilt in UNBUILT
        if unbuilt.asks(spec.get(unbuilt.key))
    ]
