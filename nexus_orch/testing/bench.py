"""A fake `vllm bench serve`: it sends the requests of the random dataset and writes the same JSON result.

It knows the options that nexus_orch uses, and refuses others as argparse does.
"""

from __future__ import annotations

import json
import os
import statistics
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nexus_orch.testing.options import parse_values
from nexus_orch.testing.output import print_text
from nexus_orch.testing.routes import MEASURE_PATH

KNOWN = frozenset(
    {
        "--backend", "--base-url", "--endpoint", "--model", "--tokenizer", "--dataset-name", "--random-input-len",
        "--random-output-len", "--num-prompts", "--max-concurrency", "--ignore-eos", "--temperature", "--seed",
        "--percentile-metrics", "--metric-percentiles", "--save-result", "--result-dir", "--result-filename",
        "--disable-tqdm",
    }
)  # fmt: skip


@dataclass(frozen=True)
class _Timing:
    started: float
    tokens: tuple[float, ...]


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """`bench serve --option value ...`, with the exit code of vLLM's."""
    values = parse_values(argv[2:])
    unknown = sorted(set(values) - KNOWN)
    if unknown:
        print_text(f"vllm bench serve: error: unrecognized arguments: {' '.join(unknown)}\n")
        return 2
    url = values["--base-url"]
    told = _ask_world(url, int(values["--max-concurrency"]))
    result = _made_up(told, values) if told else _measured(url, values, environ)
    path = Path(values["--result-dir"]) / values["--result-filename"]
    path.write_text(json.dumps(result), encoding="utf-8")
    return os.EX_OK


def _ask_world(url: str, concurrency: int) -> dict[str, Any]:
    """What the world of the server says of this load; nothing for a server that has none."""
    try:
        with urllib.request.urlopen(f"{url}{MEASURE_PATH}{concurrency}") as answer:
            told: dict[str, Any] = json.load(answer)
            return told
    except urllib.error.HTTPError:
        return {}


def _made_up(told: Mapping[str, Any], values: Mapping[str, str]) -> dict[str, Any]:
    """The result for what a world says: its speeds belong to as many seconds as they need, but none is waited."""
    requests = int(values["--num-prompts"])
    failed = round(requests * told.get("failed", 0) / max(told.get("requests", 1), 1))
    first = 1000 * told.get("first_token_seconds", 0.0)
    gap = 1000 * int(values["--max-concurrency"]) / max(told["tokens_per_second"], 1e-9)
    return {
        "duration": requests * int(values["--random-output-len"]) / max(told["tokens_per_second"], 1e-9),
        "completed": requests - failed,
        "failed": failed,
        "output_throughput": told["tokens_per_second"],
        "median_ttft_ms": first,
        "p95_ttft_ms": first,
        "median_itl_ms": gap,
        "p95_itl_ms": gap,
    }


def _measured(url: str, values: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, Any]:
    def ask(_: int) -> _Timing | None:
        return _send(url, values, environ.get("OPENAI_API_KEY"))

    requests = int(values["--num-prompts"])
    started = time.perf_counter()
    with ThreadPoolExecutor(int(values["--max-concurrency"])) as pool:
        timings = [timing for timing in pool.map(ask, range(requests)) if timing is not None]
    seconds = time.perf_counter() - started
    tokens = sum(len(timing.tokens) for timing in timings)
    firsts = [timing.tokens[0] - timing.started for timing in timings if timing.tokens] or [0.0]
    gaps = [b - a for t in timings for a, b in zip(t.tokens, t.tokens[1:], strict=False)] or [0.0]
    return {
        "duration": seconds,
        "completed": len(timings),
        "failed": requests - len(timings),
        "output_throughput": tokens / seconds,
        "median_ttft_ms": 1000 * statistics.median(firsts),
        "p95_ttft_ms": 1000 * max(firsts),
        "median_itl_ms": 1000 * statistics.median(gaps),
        "p95_itl_ms": 1000 * max(gaps),
    }


def _send(url: str, values: Mapping[str, str], api_key: str | None) -> _Timing | None:
    """One streamed request; None when it failed."""
    body = {
        "model": values["--model"],
        "prompt": "word " * int(values["--random-input-len"]),
        "max_tokens": int(values["--random-output-len"]),
        "ignore_eos": "--ignore-eos" in values,
        "stream": True,
    }
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {api_key}"} if api_key else {})
    request = urllib.request.Request(url + values["--endpoint"], json.dumps(body).encode(), headers)
    started = time.perf_counter()
    try:
        with urllib.request.urlopen(request) as answer:
            return _Timing(started, tuple(time.perf_counter() for line in answer if line.startswith(b"data: {")))
    except OSError:
        return None
