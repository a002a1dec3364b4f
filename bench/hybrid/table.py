"""The measured launches beside the plan, as the tables of docs/measurements.md: `python -m bench.hybrid.table`."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench.hybrid.predict import Speed, predict_speeds, read_data
from nexus_orch.view.words import render_markdown_table

GIB = 1 << 30
SIZES = ("launch", "host", "in host RAM", "weights on the card", "KV cache, tokens", "resident host RAM")
SPEEDS = ("launch", "host", "1 x 32", "16 x 128", "1 x 1,000", "16 x 1,000")
BUS = ("launch", "host", "GB/s, 32 and 1,000 tokens before", "of a copy alone")
KINDS = ("prefetch", "in place, dense", "in place, experts", "none, CUDA graphs", "none, eager")
NOTHING = "-"
WITHIN_ONE, WITHIN_SEVERAL, OF_THE_BUS = 0.05, 0.15, 0.95
"""What is aimed at: the errors of predictions for one request and for several, and the share of the bus."""


def render_sizes(data: Mapping[str, Any]) -> str:
    """What the plan said before each launch and what the engine measured. Launches whose offload was given to vLLM as
    extra arguments were not planned and are left out."""
    rows = [
        (
            launch["case"],
            launch["host"],
            _pair(launch["planned"]["offloaded_bytes"] / GIB, launch["measured"]["offloaded_bytes"] / GIB, ".2f"),
            _pair(launch["planned"]["weights_gib"], launch["measured"]["weights_gib"], ".2f"),
            launch.get("kv_cache") or _pair(launch["planned"]["kv_tokens"], launch["measured"]["kv_tokens"], ",.0f"),
            _pair(launch["planned"]["host_bytes"] / GIB, launch["host_rss_bytes"] / GIB, ".1f"),
        )
        for launch in data["launches"]
        if launch["planned"]["offloaded_bytes"] or not launch["measured"]["offloaded_bytes"]
    ]
    return render_markdown_table(SIZES, rows, range(2, len(SIZES)))


def render_speeds(speeds: Iterable[Speed]) -> str:
    """Predicted and measured tokens per second, by launch and workload."""
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for speed in speeds:
        column = f"{'1' if speed.requests == 1 else '16'} x {speed.input_tokens:,}"
        note = "" if speed.requests in (1, 16) else f" ({speed.requests} requests)"
        error = "disturbed" if speed.disturbed else f"{speed.error:+.0%}"
        text = f"{_render(speed.predicted)} / {_render(speed.measured)} ({error}){note}"
        rows.setdefault((speed.case, speed.host), {})[column] = text
    lines = [(*launch, *(found.get(column, NOTHING) for column in SPEEDS[2:])) for launch, found in rows.items()]
    return render_markdown_table(SPEEDS, lines, range(2, len(SPEEDS)))


def render_summary(speeds: Iterable[Speed]) -> str:
    """Median and worst error of what nobody disturbed, by kind, of one request and of several."""
    errors: dict[tuple[str, str], list[float]] = {}
    for speed in sorted(speeds, key=lambda speed: (KINDS.index(speed.kind), speed.requests > 1)):
        if not speed.disturbed:
            who = "several requests" if speed.requests > 1 else "one request"
            errors.setdefault((speed.kind, who), []).append(abs(speed.error))
    rows = [
        (kind, who, str(len(found)), f"{statistics.median(found):.1%}", f"{max(found):.0%}")
        for (kind, who), found in errors.items()
    ]
    return render_markdown_table(("offload", "workload", "timed", "median error", "worst"), rows, range(2, 5))


def render_bus(data: Mapping[str, Any]) -> str:
    """What of a copy's rate one request with prefetched weights got, between its tokens."""
    rows = []
    for launch in data["launches"]:
        shares = bus_shares(data, launch)
        if shares:
            copied = data["bus"][launch["host"]]["copy_bytes_per_second"]
            gigabytes = ", ".join(f"{share * copied / 1e9:.1f}" for share in shares)
            rows.append((launch["case"], launch["host"], gigabytes, ", ".join(f"{share:.0%}" for share in shares)))
    return render_markdown_table(BUS, rows, range(2, len(BUS)))


def render_aims(data: Mapping[str, Any], speeds: Sequence[Speed]) -> str:
    """How many undisturbed workloads were as near as was aimed at."""
    rows = []
    for many, aim in ((False, WITHIN_ONE), (True, WITHIN_SEVERAL)):
        for kind in KINDS[:4]:
            told = [abs(s.error) for s in speeds if (s.kind, s.requests > 1, s.disturbed) == (kind, many, None)]
            near = sum(error <= aim for error in told)
            who = "several requests" if many else "one request"
            rows.append((f"{kind}, {who}: within {aim:.0%}", f"{near} of {len(told)}", f"{max(told):.0%}"))
    shares = [share for launch in data["launches"] for share in bus_shares(data, launch)]
    enough = sum(share >= OF_THE_BUS for share in shares)
    rows.append((f"of a copy's rate: at least {OF_THE_BUS:.0%}", f"{enough} of {len(shares)}", f"{min(shares):.0%}"))
    return render_markdown_table(("aim", "reached", "worst"), rows, range(1, 3))


def bus_shares(data: Mapping[str, Any], launch: Mapping[str, Any]) -> list[float]:
    """Of a copy's rate, what one request with prefetched weights got, by workload; none of other launches."""
    if launch["backend"] != "prefetch":
        return []
    copied, offloaded = data["bus"][launch["host"]]["copy_bytes_per_second"], launch["measured"]["offloaded_bytes"]
    return [
        load["decode_tokens_per_second"] * offloaded / copied for load in launch["workloads"] if load["requests"] == 1
    ]


def _render(speed: float) -> str:
    return f"{speed:,.0f}" if speed >= 1000 else f"{speed:.3g}"


def _pair(planned: float, measured: float, form: str) -> str:
    return f"{planned:{form}} / {measured:{form}}"


def main() -> int:
    data = read_data()
    speeds = list(predict_speeds(data))
    tables = (render_sizes(data), render_speeds(speeds), render_summary(speeds), render_bus(data))
    sys.stdout.write("\n".join((*tables, render_aims(data, speeds))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
