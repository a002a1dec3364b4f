"""Which of the server's readings are shown, in which order and how."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from nexus_orch.view.words import render_count, render_fraction, render_rate


@dataclass(frozen=True)
class Reading:
    """One reading of `Metric.values` by its name in `nexus_orch.observe.metrics`."""

    name: str
    label: str
    render: Callable[[float | None], str]
    unit: str = ""


PROMPT_RATE = "prompt_tokens_per_second"
GENERATION_RATE = "generation_tokens_per_second"

READINGS = (
    Reading("running", "running", render_count),
    Reading("waiting", "waiting", render_count),
    Reading("kv_cache_usage", "KV", render_fraction),
    Reading("prefix_hit_rate", "prefix hits", render_fraction),
    Reading(PROMPT_RATE, "in", render_rate, " tok/s"),
    Reading(GENERATION_RATE, "out", render_rate, " tok/s"),
    Reading("preemptions", "preemptions", render_count),
)


def render_readings(values: Mapping[str, float]) -> list[tuple[str, str]]:
    """Label and text of each reading that the server gave."""
    return [
        (reading.label, reading.render(values[reading.name]) + reading.unit)
        for reading in READINGS
        if reading.name in values
    ]
