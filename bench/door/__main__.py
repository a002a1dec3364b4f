"""`python -m bench.door`: the door against a direct connection, on the same engine, turn by turn.

Goals: at most 2 ms more to the first token (median) and 5 % fewer tokens per second at 1, 16 and 200 streams; below 1 %
of a core when nobody asks. What a waiting request takes of memory is told. All on this machine: the engine, the door
and the clients are three processes that share its cores.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp
import psutil

from bench.door.load import Load, Seen, run_load

LOADS = (Load(1, 50, 200), Load(16, 50, 200), Load(200, 20, 100))
FLAT_OUT = Load(16, 0, 20_000)
TURNS = 5
GOAL_FIRST_TOKEN_SECONDS, GOAL_LOST_FRACTION, GOAL_IDLE_FRACTION = 0.002, 0.05, 0.01
WAITING, BODY_BYTES = 500, 2000
IDLE_SECONDS = 10.0


def main() -> int:
    """Print the tables; 0 when the goals are met, 1 otherwise."""
    with _serving("bench.door.engine") as (_, engine), _serving("bench.door.host", engine) as (process, door):
        idle = _measure_idle(process.pid)
        met = [_compare(engine, door, process.pid, load) for load in LOADS]
        fastest = [run_load(url, FLAT_OUT).tokens_per_second for url in (engine, door)]
    with _serving("bench.door.host") as (process, door):
        waiting = asyncio.run(_measure_waiting(door, process.pid))
    print(f"as fast as they can, 16 streams: {fastest[0]:,.0f} tokens/s directly, {fastest[1]:,.0f} through the door")
    print(f"a waiting request with {BODY_BYTES:,} bytes of body takes {waiting / 1000:,.0f} kB of the door's memory")
    print(f"the door takes {idle:.2%} of a core when nobody asks (goal: {GOAL_IDLE_FRACTION:.0%})")
    return 0 if all(met) and idle < GOAL_IDLE_FRACTION else 1


def _compare(engine: str, door: str, pid: int, load: Load) -> bool:
    """One row: medians over the turns. True when the goals are met."""
    seen: dict[str, list[Seen]] = {engine: [], door: []}
    before = _read_cpu(pid)
    for _ in range(TURNS):
        for url, turns in seen.items():
            turns.append(run_load(url, load))
    cpu = (_read_cpu(pid) - before) / (TURNS * load.streams * load.tokens)
    firsts = [statistics.median(turn.median_first_token for turn in turns) for turns in seen.values()]
    rates = [statistics.median(turn.tokens_per_second for turn in turns) for turns in seen.values()]
    more, lost = firsts[1] - firsts[0], 1 - rates[1] / rates[0]
    is_met = more <= GOAL_FIRST_TOKEN_SECONDS and lost <= GOAL_LOST_FRACTION
    print(
        f"{load.streams:4} streams of {load.tokens_per_second:g} tokens/s: first token {1000 * firsts[0]:.2f} ms, "
        f"{1000 * more:+.2f} ms through the door; {rates[0]:,.0f} tokens/s, {-lost:+.1%}; {1e6 * cpu:.0f} us of the "
        f"door's core for a token  {'met' if is_met else 'MISSED'}"
    )
    return is_met


def _read_cpu(pid: int) -> float:
    """Seconds that a process has had of a core."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def _measure_idle(pid: int) -> float:
    before = _read_cpu(pid)
    time.sleep(IDLE_SECONDS)
    return (_read_cpu(pid) - before) / IDLE_SECONDS


async def _measure_waiting(door: str, pid: int) -> float:
    """Bytes that the door's process grows by for each request that waits."""
    process = psutil.Process(pid)
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:
        before = process.memory_info().rss
        body = {"prompt": "x" * BODY_BYTES}
        asked = [asyncio.ensure_future(session.post(f"{door}/v1/completions", json=body)) for _ in range(WAITING)]
        held = 0
        while held < WAITING:
            await asyncio.sleep(0.2)
            async with session.get(f"{door}/readyz") as answer:
                held = (await answer.json())["waiting"]
        grown = process.memory_info().rss - before
        for request in asked:
            request.cancel()
    return grown / WAITING


@contextmanager
def _serving(module: str, *words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process of this benchmark and its address, for as long as it is needed."""
    argv = [sys.executable, "-m", module, *words]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        if process.stdout is None or process.stdin is None:
            raise RuntimeError("a child that was started with pipes has none")
        yield process, f"http://127.0.0.1:{int(process.stdout.readline())}"
        process.stdin.close()


if __name__ == "__main__":
    sys.exit(main())
