"""Requests against a running server, timed token by token."""

from __future__ import annotations

import json
import random
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx

PROMPT_TOKENS = (1000, 20000)
"""Random token ids of this range make a prompt: no two prompts share a prefix that could be cached."""


@dataclass(frozen=True)
class Workload:
    """So many requests at once, each with so many tokens in and out."""

    requests: int
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True)
class Timing:
    """One request: seconds from the sending to the first and to the last token."""

    first: float
    last: float


@dataclass(frozen=True)
class Measured:
    """What a workload took. `decode_tokens_per_second` is of one request, between its first and its last token."""

    workload: Workload
    seconds: float
    tokens_per_second: float
    first_token_seconds: float
    decode_tokens_per_second: float | None


def measure(url: str, workload: Workload, *, timeout_seconds: float = 300.0) -> Measured:
    """Send all requests at once and wait for the last one. Raises httpx.HTTPError when one of them fails."""
    model = httpx.get(f"{url}/v1/models", timeout=30).json()["data"][0]["id"]
    prompts = [_make_prompt(workload.input_tokens) for _ in range(workload.requests)]
    with httpx.Client(timeout=timeout_seconds) as client, ThreadPoolExecutor(workload.requests) as pool:
        started = time.perf_counter()
        ask = lambda prompt: _ask(client, url, model, prompt, workload.output_tokens)  # noqa: E731
        timings = list(pool.map(ask, prompts))
        seconds = time.perf_counter() - started
    steps = workload.output_tokens - 1
    decode = statistics.median(steps / max(1e-9, timing.last - timing.first) for timing in timings) if steps else None
    return Measured(
        workload,
        round(seconds, 4),
        round(workload.requests * workload.output_tokens / seconds, 3),
        round(statistics.median(timing.first for timing in timings), 4),
        None if decode is None else round(decode, 3),
    )


def _make_prompt(tokens: int) -> list[int]:
    return [random.randint(*PROMPT_TOKENS) for _ in range(tokens)]


def _ask(client: httpx.Client, url: str, model: str, prompt: list[int], output_tokens: int) -> Timing:
    body = {
        "model": model,
        "prompt": prompt,
        "max_tokens": output_tokens,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
    }
    started, first, last = time.perf_counter(), 0.0, 0.0
    with client.stream("POST", f"{url}/v1/completions", json=body) as response:
        response.raise_for_status()
        for line in response.iter_lines():
            if line.startswith("data: {") and json.loads(line[6:]).get("choices"):
                last = time.perf_counter() - started
                first = first or last
    return Timing(first, last)
