"""Which of the server's readings are shown, in which order and how."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from nexus_orch.view.words import render_count, render_fraction, render_rate


@dataclass(frozen=True)
class ShownMetric:
    """How one of `Metric.values` is shown, by its name in `nexus_orch.observe.metrics`."""

    name: str
    label: str
    render: Callable[[float | None], str]
    unit: str = ""


PROMPT_RATE = "prompt_tokens_per_second"
GENERATION_RATE = "generation_tokens_per_second"

SHOWN = (
    ShownMetric("running", "running", render_count),
    ShownMetric("waiting", "waiting", render_count),
    ShownMetric("kv_cache_usage", "KV", render_fraction),
    ShownMetric("prefix_hit_rate", "prefix hits", render_fraction),
    ShownMetric(PROMPT_RATE, "in", render_rate, " tok/s"),
    ShownMetric(GENERATION_RATE, "out", render_rate, " tok/s"),
    ShownMetric("preemptions", "preemptions", render_count),
)


def render_readings(values: Mapping[str, float]) -> list[tuple[str, str]]:
    """Label and text of each reading that the server gave."""
    return [
        (metric.label, metric.render(values[metric.name]) + metric.unit) for metric in SHOWN if metric.name in values
    ]
