"""The soak: what a point must bear before it is called stable.

First the KV cache is filled with the longest prompts at the planned concurrency and more, while clients leave early and
requests are preempted. Then conversations whose contexts accumulate to the allowed length: configurations that pass
start, stress and benchmark die at 21 to 26 thousand accumulated tokens. Memory and swap are watched meanwhile.
"""

from __future__ import annotations

import random
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import psutil

from nexus_orch.launch.server.probes import probe_health
from nexus_orch.launch.server.server import open_client, run_until
from nexus_orch.nvml import open_nvml
from nexus_orch.observe.sampler import SampledProcesses, read_gpus
from nexus_orch.sweep.measure.client import Ask, Crowd, make_prompt
from nexus_orch.sweep.measure.slope import Slope, fit_slope
from nexus_orch.sweep.measure.types import BenchTarget

FILL_SHARE = 0.4
"""Of the time and of the requests; the conversations have the rest."""
CROWDING = 1.5
"""The fill has so many times as many clients as are planned: some always wait."""
LEAVES = 5
"""Every fifth client of the fill goes away early."""
LEAVING_TOKENS = 3
TURNS = 16
"""Turns in which a conversation comes to the allowed length."""
LEAST_OUTPUT = 4
SAMPLE_SECONDS = 1.0
LEAST_WINDOW_SECONDS = 240.0
"""Memory that was watched for a shorter time says nothing of an hour: on a CPU engine, whose KV cache is touched page
by page, 90 seconds showed a growth of 1,047 ± 155 MiB an hour that was none."""
SWAP_FLOOR_BYTES = 64 * 2**20
"""Swap that grows by less is the machine's own doing."""


@dataclass(frozen=True)
class SoakOrder:
    """How long and how hard."""

    concurrency: int
    max_model_len: int
    output_tokens: int
    requests: int
    minutes: float
    """At most, once the first conversation has come to the allowed length."""
    watch_seconds: float = LEAST_WINDOW_SECONDS
    """How long it goes on at least while memory is watched with a full cache, within its minutes."""
    kv_cache_tokens: int = 0
    """Until so many were sent the cache was not full once, and memory may grow."""

    @property
    def answer_tokens(self) -> int:
        """Tokens of one answer: those of the workload, as far as the context leaves room for prompts."""
        return max(LEAST_OUTPUT, min(self.output_tokens, self.max_model_len // 4))


@dataclass
class SoakProgress:
    """How far a soak has come; it can be read when the soak was cut off."""

    requests: int = 0
    failed: int = 0
    left_early: int = 0
    longest_tokens: int = 0
    """The longest context that was sent so far."""
    sent_tokens: int = 0
    died_at_tokens: int | None = None
    error: str = ""


@dataclass(frozen=True)
class SoakResult:
    """What came of it. `slope` is of the memory that grew surest, in bytes an hour; None where it was too short."""

    requests: int
    failed: int
    left_early: int
    longest_tokens: int
    seconds: float
    died_at_tokens: int | None = None
    error: str = ""
    slope: Slope | None = None
    grew: str = ""
    """Whose memory that is: a card's, or the host's."""
    swap_growth_bytes: int = 0

    @property
    def growth(self) -> Slope | None:
        """The slope that counts: of the machine's swap where that grew, which no repeat excuses."""
        if not self.swap_growth_bytes:
            return self.slope
        return Slope(3600 * self.swap_growth_bytes / max(self.seconds, 1.0), 0.0)


@dataclass
class Soaking:
    """One soak of a target."""

    target: BenchTarget
    order: SoakOrder
    seed: int = field(default_factory=lambda: secrets.randbelow(2**31))
    progress: SoakProgress = field(default_factory=SoakProgress)

    def run(self) -> SoakResult:
        """Soak it. Raises MeasureCancelled when the target is cancelled; `progress` says then how far it came."""
        started = time.monotonic()
        memory = _MemoryWatch(self.target)
        memory.start()
        try:
            self._fill(started + 60 * self.order.minutes * FILL_SHARE)
            memory.begin()
            if not self.progress.failed:
                self._converse(started + 60 * self.order.minutes, memory)
            if self.progress.failed and not self._is_alive():
                self.progress.died_at_tokens = self.progress.longest_tokens
        finally:
            memory.stop()
        return self._result(memory, time.monotonic() - started)

    def _fill(self, deadline: float) -> None:
        """The longest prompts from more clients than are planned."""
        dice, order = random.Random(self.seed), self.order
        clients = max(order.concurrency + 1, round(CROWDING * order.concurrency))
        wanted = max(clients, round(FILL_SHARE * order.requests))

        def asks() -> Iterator[Ask]:
            for number in range(wanted):
                # each client sends one at least
                if number >= clients and (time.monotonic() > deadline or self.progress.failed):
                    return
                yield self._ask(dice, order.max_model_len - order.answer_tokens, leaves=number % LEAVES == LEAVES - 1)

        self._send(clients, asks())

    def _converse(self, deadline: float, memory: _MemoryWatch) -> None:
        """Conversations side by side; each turn repeats all that was said before and adds to it."""
        dice, order = random.Random(self.seed + 1), self.order
        left = order.requests - self.progress.requests
        longest = order.max_model_len - order.answer_tokens
        is_first = True
        while is_first or (time.monotonic() < deadline and (left > 0 or not memory.covers(order.watch_seconds))):
            said: list[tuple[int, ...]] = [()] * order.concurrency
            for turn in range(1, TURNS + 1):
                said = [words + make_prompt(dice, turn * longest // TURNS - len(words)) for words in said]
                self._send(order.concurrency, iter([Ask(words, order.answer_tokens) for words in said if words]))
                left -= order.concurrency
                if self.progress.sent_tokens < order.kv_cache_tokens:
                    memory.begin()
                if self.progress.failed or (not is_first and time.monotonic() > deadline):
                    return
            is_first = False  # that one came to the allowed length, however long it took

    def _ask(self, dice: random.Random, tokens: int, *, leaves: bool) -> Ask:
        self.progress.left_early += leaves
        return Ask(make_prompt(dice, tokens), self.order.answer_tokens, LEAVING_TOKENS if leaves else None)

    def _send(self, clients: int, asks: Iterator[Ask]) -> None:
        """Send them, and count what came of them."""

        def noted() -> Iterator[Ask]:
            for ask in asks:
                self.progress.sent_tokens += len(ask.prompt)
                self.progress.longest_tokens = max(
                    self.progress.longest_tokens, len(ask.prompt) + self.order.answer_tokens
                )
                yield ask

        answers = Crowd(self.target, clients).send(noted())
        self.progress.requests += len(answers)
        errors = [answer.error for answer in answers if not answer.is_good]
        self.progress.failed += len(errors)
        if errors:
            self.progress.error = self.progress.error or errors[0]

    def _is_alive(self) -> bool:
        """Whether the server still says that it is well."""

        async def ask() -> bool:
            async with open_client(self.target.server) as client:
                return (await probe_health(client, 0)).ok

        return bool(run_until(self.target.cancel, ask()))

    def _result(self, memory: _MemoryWatch, seconds: float) -> SoakResult:
        progress = self.progress
        grew, slope = memory.find_slope()
        return SoakResult(
            requests=progress.requests,
            failed=progress.failed,
            left_early=progress.left_early,
            longest_tokens=progress.longest_tokens,
            seconds=round(seconds, 1),
            died_at_tokens=progress.died_at_tokens,
            error=progress.error,
            slope=slope,
            grew=grew,
            swap_growth_bytes=memory.swap_growth_bytes,
        )


class _MemoryWatch:
    """Samples the memory of the engine's cards and processes, and the machine's swap, once a second."""

    def __init__(self, target: BenchTarget) -> None:
        self._target = target
        self._has_samples = False
        self._series: dict[str, list[tuple[float, float]]] = {}
        self._swap: list[int] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="nexus-soak-memory", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def begin(self) -> None:
        """From now on growth counts: until the cache was full once, memory may grow."""
        self._series.clear()

    @property
    def swap_growth_bytes(self) -> int:
        growth = self._swap[-1] - self._swap[0] if self._swap else 0
        return growth if growth > SWAP_FLOOR_BYTES else 0

    def covers(self, seconds: float) -> bool:
        """Whether memory was watched for so long since the cache was full; also where there is none to watch."""
        return not self._has_samples or any(
            series[-1][0] - series[0][0] >= seconds for series in list(self._series.values())
        )

    def find_slope(self) -> tuple[str, Slope | None]:
        """Whose memory grew surest, and how fast; None where there are too few samples."""
        fitted = {
            name: fit_slope(series)
            for name, series in self._series.items()
            if series[-1][0] - series[0][0] >= LEAST_WINDOW_SECONDS
        }
        known = {name: slope for name, slope in fitted.items() if slope is not None}
        if not known:
            return "", None
        name = max(known, key=lambda name: known[name].significance)
        return name, known[name]

    def _run(self) -> None:
        family = None if self._target.family is None else SampledProcesses(self._target.family)
        with open_nvml() as nvml:
            while not self._stop.is_set():
                now = time.monotonic()
                for card in read_gpus(nvml, 0, self._target.gpus):
                    self._add(f"card {card.index}", now, card.memory_used_bytes)
                if family is not None:
                    self._add("host", now, sum(process.rss_bytes - process.shared_bytes for process in family.read()))
                self._swap.append(int(psutil.swap_memory().used))
                self._stop.wait(SAMPLE_SECONDS)

    def _add(self, name: str, now: float, value: float) -> None:
        self._has_samples = True
        self._series.setdefault(name, []).append((now, float(value)))
