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


class MeanRates:
    """The means of the server's rates in tokens/s over all samples since they were last read.

    A line every half minute that shows the newest sample alone says 0.0 tokens/s under load, when that second had none.
    """

    def __init__(self) -> None:
        self._taken: dict[str, list[float]] = {}

    def take(self, values: Mapping[str, float]) -> None:
        """Count one sample of the server's readings."""
        for name in (PROMPT_RATE, GENERATION_RATE):
            if name in values:
                self._taken.setdefault(name, []).append(values[name])

    def read(self) -> dict[str, float]:
        """The mean of each rate that was sampled, and begin anew."""
        means = {name: sum(rates) / len(rates) for name, rates in self._taken.items()}
        self._taken.clear()
        return means
