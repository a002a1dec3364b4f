"""Streams that are read at the same time, and what their clients see."""

from __future__ import annotations

import asyncio
import statistics
import time
from dataclasses import dataclass

import aiohttp

from bench.door.engine import DATA, END

START_SPREAD_SECONDS = 0.5
"""Streams begin one after another, as clients come; else the first tokens would tell of the client's own queue."""


@dataclass(frozen=True)
class Load:
    """Streams at the same time, the pace of each, and how many tokens each brings."""

    streams: int
    tokens_per_second: float
    tokens: int


@dataclass(frozen=True)
class Seen:
    """Seconds to the first token of each stream, and the tokens of all in each second."""

    first_tokens: tuple[float, ...]
    tokens_per_second: float

    @property
    def median_first_token(self) -> float:
        return statistics.median(self.first_tokens)


def run_load(url: str, load: Load) -> Seen:
    """Read all streams to their ends. Raises RuntimeError where one is not whole."""
    return asyncio.run(_run(url, load))


async def _run(url: str, load: Load) -> Seen:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None)) as session:
        await _read(session, url, Load(1, 0, 1), 0.0)  # whatever the first request alone must do
        started = time.perf_counter()
        spread = START_SPREAD_SECONDS / load.streams
        read = await asyncio.gather(*(_read(session, url, load, number * spread) for number in range(load.streams)))
        seconds = time.perf_counter() - started
    return Seen(tuple(read), load.streams * load.tokens / seconds)


async def _read(session: aiohttp.ClientSession, url: str, load: Load, wait: float) -> float:
    await asyncio.sleep(wait)
    body = {"prompt": "Hello", "max_tokens": load.tokens, "tokens_per_second": load.tokens_per_second, "stream": True}
    asked = time.perf_counter()
    first, size = 0.0, 0
    async with session.post(f"{url}/v1/completions", json=body) as answer:
        async for chunk in answer.content.iter_any():
            size += len(chunk)
            first = first or time.perf_counter() - asked
    if size != load.tokens * len(DATA) + len(END):
        raise RuntimeError(f"{size:,} bytes are not the answer of {load.tokens} tokens")
    return first
