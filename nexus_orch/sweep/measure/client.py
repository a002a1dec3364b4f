"""Our own client: requests of random tokens, timed token by token. For warm-up, for the soak, and where the engine
brings no `vllm bench serve`.

Prompts are token ids, so that no tokenizer is needed; no two share a prefix that could be cached.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nexus_orch.launch.server.probes import read_model
from nexus_orch.launch.server.server import (
    as_mapping,
    describe_error,
    describe_status,
    message_of,
    open_client,
    output_tokens_of,
    run_until,
)
from nexus_orch.sweep.measure.types import BenchTarget, Figures, Load, MeasureCancelled

if TYPE_CHECKING:
    import httpx

CLIENT = "nexus_orch"
_TOKEN_IDS = (1000, 16_000)
"""Random token ids of this range make a prompt: every vocabulary has them, and they are none of the special ones."""
_POLL_SECONDS = 0.25


@dataclass(frozen=True)
class Ask:
    """One request: a prompt of token ids and how many tokens are wanted.

    After `leaves_after` tokens the client goes away without a word, as people do; None stays to the end.
    """

    prompt: tuple[int, ...]
    output_tokens: int
    leaves_after: int | None = None


@dataclass(frozen=True)
class Answer:
    """What came of one request; times are of one monotonic clock. `error` is empty for a good one."""

    started: float
    times: tuple[float, ...] = ()
    """When each piece of text came."""
    tokens: int = 0
    error: str = ""

    @property
    def is_good(self) -> bool:
        return not self.error


@dataclass
class Crowd:
    """Sends requests to one server, at most so many at once, and gives all up when nothing moves any more."""

    target: BenchTarget
    concurrency: int
    moved: float = field(default_factory=time.monotonic)
    """When the last token came to anybody."""

    def send(self, asks: Iterable[Ask]) -> list[Answer]:
        """Send them and wait for the last answer. Raises MeasureCancelled when the target is cancelled."""
        answers = run_until(self.target.cancel, self._send(iter(asks)))
        if answers is None:
            raise MeasureCancelled
        return answers

    async def _send(self, asks: Iterator[Ask]) -> list[Answer]:
        answers: list[Answer] = []
        async with open_client(self.target.server, self.concurrency) as client:
            model = self.target.server.model or await read_model(client)
            self.moved = time.monotonic()

            async def work() -> None:
                for ask in asks:
                    answers.append(await self._ask(client, model, ask))

            workers = [asyncio.ensure_future(work()) for _ in range(self.concurrency)]
            watch = asyncio.ensure_future(self._watch(workers))
            try:
                await asyncio.gather(*workers)
            except asyncio.CancelledError:
                if not watch.done() or watch.cancelled():
                    raise
                answers.append(
                    Answer(time.monotonic(), error=f"no request got a token for {self.target.stall_seconds:g} s")
                )
            finally:
                for task in (*workers, watch):
                    task.cancel()
                await asyncio.wait((*workers, watch))
        return answers

    async def _watch(self, workers: Sequence[asyncio.Future[None]]) -> None:
        """End the workers when nothing moves."""
        while time.monotonic() - self.moved < self.target.stall_seconds:
            await asyncio.sleep(_POLL_SECONDS)
        for worker in workers:
            worker.cancel()

    async def _ask(self, client: httpx.AsyncClient, model: str | None, ask: Ask) -> Answer:
        import httpx  # noqa: PLC0415 - 100 ms that only a measurement needs

        reading = _Reading(ask.leaves_after)
        body = {
            "model": model,
            "prompt": list(ask.prompt),
            "max_tokens": ask.output_tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        try:
            async with client.stream("POST", "/v1/completions", json=body, timeout=None) as response:
                if response.status_code != 200:
                    reading.error = describe_status(response.status_code, await response.aread())
                else:
                    async for line in response.aiter_lines():
                        if reading.take(line):
                            self.moved = time.monotonic()
                        if reading.has_left:
                            break
        except (httpx.HTTPError, ValueError) as error:
            reading.error = describe_error(error, self.target.stall_seconds)
        return reading.answer()


class _Reading:
    """One streamed answer while it comes in."""

    def __init__(self, leaves_after: int | None) -> None:
        self.error = ""
        self.has_left = False
        self._leaves_after = leaves_after
        self._started = time.monotonic()
        self._times: list[float] = []
        self._tokens: int | None = None

    def take(self, line: str) -> bool:
        """One server-sent event; True when it brought a piece of text."""
        if not line.startswith("data:") or line.endswith("[DONE]"):
            return False
        event = as_mapping(json.loads(line.removeprefix("data:")))
        if "error" in event:
            self.error = message_of(event) or "the server broke off"
        self._tokens = output_tokens_of(event) or self._tokens
        if not event.get("choices"):
            return False
        self._times.append(time.monotonic())
        self.has_left = self._leaves_after is not None and len(self._times) >= self._leaves_after
        return True

    def answer(self) -> Answer:
        tokens = self._tokens or len(self._times)
        error = self.error or ("" if self._times else "the answer has no tokens")
        return Answer(self._started, tuple(self._times), tokens, error)


def make_prompt(dice: random.Random, tokens: int) -> tuple[int, ...]:
    """A prompt that no other one begins like."""
    return tuple(dice.randint(*_TOKEN_IDS) for _ in range(tokens))


def make_asks(load: Load, seed: int) -> Iterator[Ask]:
    """The requests of a load."""
    dice = random.Random(seed)
    return (Ask(make_prompt(dice, load.input_tokens), load.output_tokens) for _ in range(load.requests))


def measure_by_ourselves(target: BenchTarget, load: Load, seed: int) -> Figures:
    """Send the load and say what came of it. Raises MeasureCancelled."""
    answers = Crowd(target, load.concurrency).send(make_asks(load, seed))
    return make_figures(answers, load)


def make_figures(answers: Sequence[Answer], load: Load) -> Figures:
    """What these answers show together. A request that never got an answer failed, too."""
    good = [answer for answer in answers if answer.is_good]
    errors = [answer.error for answer in answers if answer.error]
    started = min((answer.started for answer in answers), default=0.0)
    ended = max((answer.times[-1] for answer in good), default=started)
    seconds = ended - started
    firsts = [answer.times[0] - answer.started for answer in good]
    gaps = [later - earlier for answer in good for earlier, later in zip(answer.times, answer.times[1:], strict=False)]
    return Figures(
        client=CLIENT,
        seconds=round(seconds, 3),
        tokens_per_second=round(sum(answer.tokens for answer in good) / seconds, 3) if seconds > 0 else 0.0,
        requests=load.requests,
        failed=load.requests - len(good),
        first_token_seconds=_median(firsts),
        first_token_p95_seconds=find_quantile(firsts, 0.95),
        inter_token_seconds=_median(gaps),
        inter_token_p95_seconds=find_quantile(gaps, 0.95),
        error=errors[0] if errors else "",
    )


def _median(values: Sequence[float]) -> float | None:
    return round(statistics.median(values), 6) if values else None


def find_quantile(values: Sequence[float], share: float) -> float | None:
    """The value below which this share of them lies, interpolated between neighbours as NumPy does."""
    if not values:
        return None
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low, high = ordered[math.floor(place)], ordered[math.ceil(place)]
    return round(low + (high - low) * (place - math.floor(place)), 6)
