"""The server's `/metrics`, by our own names, for every vLLM release.

| ours                        | vLLM's                                                                               |
|-----------------------------|--------------------------------------------------------------------------------------|
| running, waiting            | num_requests_running, num_requests_waiting                                           |
| kv_cache_usage (fraction)   | gpu_cache_usage_perc until 0.10, kv_cache_usage_perc                                 |
| prefix_hit_rate (fraction)  | gpu_prefix_cache_hit_rate (V0); [gpu_]prefix_cache_hits over ..._queries, since start |
| preemptions                 | num_preemptions_total, since start                                                   |
| generation_, prompt_tokens  | generation_tokens_total, prompt_tokens_total; told as rates between two readings      |

Counters carry the suffix `_total` or not, depending on the Prometheus client. Several engines (data parallel) are
summed, for the KV cache the fullest counts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from nexus_orch.types import Metric, MetricsUnread

if TYPE_CHECKING:
    import httpx

TIMEOUT_SECONDS = 2.0
"""A server that is busy starting does not answer; the next reading comes soon."""

_NAMES: dict[str, tuple[str, Callable[[Iterable[float]], float]]] = {
    "num_requests_running": ("running", sum),
    "num_requests_waiting": ("waiting", sum),
    "gpu_cache_usage_perc": ("kv_cache_usage", max),
    "kv_cache_usage_perc": ("kv_cache_usage", max),
    "gpu_prefix_cache_hit_rate": ("prefix_hit_rate", max),
    "gpu_prefix_cache_hits": ("prefix_hits", sum),
    "gpu_prefix_cache_queries": ("prefix_queries", sum),
    "prefix_cache_hits": ("prefix_hits", sum),
    "prefix_cache_queries": ("prefix_queries", sum),
    "num_preemptions": ("preemptions", sum),
    "prompt_tokens": ("prompt_tokens", sum),
    "generation_tokens": ("generation_tokens", sum),
}
_SAMPLE = re.compile(
    rf"^[ \t]*vllm[:_](?P<name>{'|'.join(sorted(_NAMES, key=len, reverse=True))})(?:_total)?[ \t]*"
    # Labels: between quotes anything may stand, } too; a quote, a backslash and a line end are escaped there.
    r'(?:\{(?:[^"}\n]++|"(?:[^"\\\n]++|\\.)*+")*+\}[ \t]*|(?<=[ \t]))'
    r"(?P<value>[-+.\w]+)",
    re.MULTILINE,
)
"""A sample of the text format 0.0.4 (prometheus.io/docs/instrumenting/exposition_formats)."""
_RATES = {"generation_tokens": "generation_tokens_per_second", "prompt_tokens": "prompt_tokens_per_second"}
_SHOWN = ("running", "waiting", "kv_cache_usage", "prefix_hit_rate", "preemptions")


@dataclass(frozen=True)
class MetricsReading:
    """One reading: gauges and counters by our names, the counters as they stand."""

    time: float
    values: Mapping[str, float] = field(default_factory=dict)


class MetricsServer(Protocol):
    """Where the metrics are and the key that the server wants, if any."""

    @property
    def url(self) -> str: ...

    @property
    def api_key(self) -> str | None: ...


def parse_metrics(text: str) -> dict[str, float]:
    """The metrics that we know in a text of Prometheus's exposition format."""
    found: dict[str, list[float]] = {}
    how: dict[str, Callable[[Iterable[float]], float]] = {}
    for sample in _SAMPLE.finditer(text):
        name, how_many = _NAMES[sample["name"]]
        value = _parse_number(sample["value"])
        if value is not None:
            found.setdefault(name, []).append(value)
            how[name] = how_many
    values = {name: how[name](numbers) for name, numbers in found.items()}
    if values.get("prefix_queries"):
        values["prefix_hit_rate"] = values.get("prefix_hits", 0.0) / values["prefix_queries"]
    return values


def make_metric(before: MetricsReading | None, now: MetricsReading, attempt: int) -> Metric:
    """What is told of two readings. A counter that fell belongs to a server that was started anew: no rate then."""
    values = {name: now.values[name] for name in _SHOWN if name in now.values}
    seconds = 0.0 if before is None else now.time - before.time
    if before is not None and seconds > 0:
        for counter, rate in _RATES.items():
            grown = now.values.get(counter, 0.0) - before.values.get(counter, 0.0)
            if counter in now.values and grown >= 0:
                values[rate] = grown / seconds
    return Metric(now.time, attempt, values)


def read_metrics(client: httpx.Client) -> dict[str, float] | str:
    """Ask once; the reason when there is nothing: the server may be starting, busy or gone, or tell no metrics."""
    import httpx  # noqa: PLC0415 - 100 ms that only a running engine is worth

    try:
        response = client.get("/metrics")
    except httpx.HTTPError as error:
        return f"/metrics does not answer ({type(error).__name__})"
    if response.status_code != 200:
        return f"/metrics answers with the HTTP status {response.status_code}"
    return parse_metrics(response.text) or "/metrics holds no sample that is known (vLLM tells none without log stats)"


class MetricsReader:
    """Keeps one connection to the server and the reading before, so that rates can be told."""

    def __init__(self, server: MetricsServer, attempt: int) -> None:
        import httpx  # noqa: PLC0415

        headers = {} if server.api_key is None else {"Authorization": f"Bearer {server.api_key}"}
        # No proxy of the environment stands between two processes of one machine, and plain HTTP needs no certificates.
        self._client = httpx.Client(
            base_url=server.url, headers=headers, timeout=TIMEOUT_SECONDS, trust_env=False, verify=False
        )
        self._attempt = attempt
        self._before: MetricsReading | None = None

    def __enter__(self) -> MetricsReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def read(self, now: float) -> Metric | MetricsUnread:
        """The metrics now, or why there are none."""
        values = read_metrics(self._client)
        if isinstance(values, str):
            return MetricsUnread(now, self._attempt, values)
        reading = MetricsReading(now, values)
        metric = make_metric(self._before, reading, self._attempt)
        self._before = reading
        return metric


def _parse_number(text: str) -> float | None:
    """A sample's value; None for NaN, which some gauges show before the first request, and for what is no number."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
