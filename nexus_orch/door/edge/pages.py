"""What the door answers itself: whether it lives, whether the engine is there, and its figures."""

from __future__ import annotations

import json
from collections.abc import Iterator

import aiohttp

from nexus_orch.door.edge.house import House

METRICS_SECONDS = 2.0
MOST_METRICS_BYTES = 4 * 2**20
BUCKETS = (0.01, 0.1, 1.0, 10.0, 60.0, 300.0)

_COUNTERS = {
    "arrived": ("requests", "Requests that were let in."),
    "finished": ("answered", "Answers that came to a regular end."),
    "sent_again": ("sent_again", "Requests that were sent again before their answer had begun."),
    "continued": ("continued", "Streams that went on after a restart of the engine."),
    "broken": ("broken", "Answers that were broken off with an error."),
    "failed": ("failed", "Requests that a living engine answered with an error of its own."),
    "left": ("left", "Requests whose client left before the end."),
    "quarantined": ("quarantined", "Requests that killed the engine and are never sent again."),
}


class QueueTimes:
    """How long requests waited before they were sent, as Prometheus' histogram."""

    def __init__(self) -> None:
        self._counts = [0] * len(BUCKETS)
        self._total, self._sum = 0, 0.0

    def take(self, seconds: list[float]) -> None:
        for value in seconds:
            self._total += 1
            self._sum += value
            for place, bound in enumerate(BUCKETS):
                self._counts[place] += value <= bound

    def render(self) -> Iterator[str]:
        name = "nexus_door_queue_seconds"
        yield f"# HELP {name} How long requests waited before they were sent."
        yield f"# TYPE {name} histogram"
        for bound, count in zip(BUCKETS, self._counts, strict=True):
            yield f'{name}_bucket{{le="{bound:g}"}} {count}'
        yield f'{name}_bucket{{le="+Inf"}} {self._total}'
        yield f"{name}_sum {self._sum:.6f}"
        yield f"{name}_count {self._total}"


def describe_readiness(house: House, *, strictly: bool) -> tuple[int, dict[str, object]]:
    """Status and body of /readyz; of /health with `strictly`: then an engine that serves must be well, too."""
    engine = house.state.engine
    body: dict[str, object] = {"engine": engine.phase, "waiting": house.state.waiting, "running": house.state.on_engine}
    reason = engine.reason or house.trouble
    if reason:
        body["reason"] = reason
    if engine.serves and not (strictly and house.trouble):
        return 200, body
    if engine.phase != "given up":
        body["retry_after_seconds"] = engine.left_seconds(house.now)
    return 503, body


def render_metrics(house: House, times: QueueTimes, refused_connections: int) -> str:
    """The door's own figures, in Prometheus' text format."""
    state = house.state
    times.take(state.waited_seconds)
    state.waited_seconds.clear()
    lines: list[str] = []
    gauges = {
        "held": (state.waiting, "Requests that wait to be sent."),
        "running": (state.on_engine, "Requests that are with the engine."),
        "kept_bytes": (state.kept_bytes + house.reading_bytes, "Bytes of bodies that the door keeps."),
        "engine_ready": (int(state.engine.serves), "Whether the engine can be asked."),
    }
    for name, (value, meaning) in gauges.items():
        lines += _describe(f"nexus_door_{name}", "gauge", meaning, value)
    for key, (name, meaning) in _COUNTERS.items():
        lines += _describe(f"nexus_door_{name}_total", "counter", meaning, state.counts[key])
    lines += _describe("nexus_door_engine_deaths_total", "counter", "Deaths of the engine.", state.engine.deaths)
    meaning = "Connections that were refused because there were too many."
    lines += _describe("nexus_door_refused_connections_total", "counter", meaning, refused_connections)
    name = "nexus_door_refused_total"
    lines += [f"# HELP {name} Requests that the door answered with an error.", f"# TYPE {name} counter"]
    refused = sorted(key for key in state.counts if key.startswith("refused_"))
    lines += [f'{name}{{code="{key.removeprefix("refused_")}"}} {state.counts[key]}' for key in refused]
    return "\n".join([*lines, *times.render(), ""])


async def read_engine_metrics(house: House) -> str:
    """The engine's own figures; a comment where it gives none."""
    if not house.state.engine.serves:
        return "# the engine is not there\n"
    try:
        async with house.session.get(
            house.url("/metrics"), timeout=aiohttp.ClientTimeout(total=METRICS_SECONDS)
        ) as answer:
            content = await answer.content.read(MOST_METRICS_BYTES) if answer.status == 200 else b""
            while content and (more := await answer.content.read(MOST_METRICS_BYTES - len(content))):
                content += more
    except (aiohttp.ClientError, TimeoutError, ConnectionError):
        content = b""
    return content.decode("utf-8", errors="replace") or "# the engine gave no figures\n"


def encode(body: dict[str, object]) -> bytes:
    return json.dumps(body, ensure_ascii=False).encode()


def _describe(name: str, kind: str, meaning: str, value: float) -> list[str]:
    return [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}", f"{name} {value}"]
