"""The nouns of a measurement: what is asked of whom, and what came of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nexus_orch.launch.server.server import Server
from nexus_orch.types import EngineFacts, ProcessKey

ROUNDS = 4
"""Requests that each of the parallel clients sends in a measurement, where nobody says how many in all."""


STALL_SECONDS = 300.0
"""When no request gets a token for so long, all of them are given up."""


@dataclass(frozen=True)
class Load:
    """So many requests at once, each with so many tokens in and out; `requests` in all."""

    concurrency: int
    input_tokens: int
    output_tokens: int
    requests: int

    @property
    def context_tokens(self) -> int:
        """The longest context that the load reaches."""
        return self.input_tokens + self.output_tokens


def make_load(concurrency: int, input_tokens: int, output_tokens: int, requests: int | None = None) -> Load:
    """A load of ROUNDS requests for each of those that run at once, unless `requests` says how many there are."""
    return Load(concurrency, input_tokens, output_tokens, requests or ROUNDS * concurrency)


@dataclass(frozen=True)
class BenchTarget:
    """A server that is measured, and what is known of it besides its address."""

    server: Server
    engine: EngineFacts | None = None
    """None for a server that is not ours: then only our own client can measure it."""
    launcher: tuple[str, ...] = ()
    """What stands before `serve` in the command of the engine: `bench serve` can stand there, too."""
    env: dict[str, str] = field(default_factory=dict)
    """The variables of that command."""
    tokenizer: str | None = None
    """The folder or hub id of the model, whose tokenizer `vllm bench serve` reads."""
    max_model_len: int | None = None
    log: Path | None = None
    """The engine's log; None where compilation cannot be seen."""
    gpus: tuple[int, ...] | None = ()
    """The cards of the engine by NVML's index; None where they are not known, and all are looked at."""
    family: Callable[[], Sequence[ProcessKey]] | None = None
    """The engine's processes; None where they cannot be told."""
    stall_seconds: float = STALL_SECONDS
    cancel: threading.Event = field(default_factory=threading.Event)
    """Setting it ends whatever is being measured."""


@dataclass(frozen=True)
class Figures:
    """What a client saw of a load. Times are None where no request came to a second token."""

    client: str
    """Who sent the requests: `vllm bench serve 0.32.0`, or nexus_orch."""
    seconds: float
    tokens_per_second: float
    """Output tokens of all requests together."""
    requests: int
    failed: int
    first_token_seconds: float | None = None
    """The median, as are `inter_token_seconds`."""
    first_token_p95_seconds: float | None = None
    inter_token_seconds: float | None = None
    inter_token_p95_seconds: float | None = None
    error: str = ""
    """The first failure in words."""


@dataclass(frozen=True)
class BenchResult:
    """One load on one server, measured after a warm-up."""

    load: Load
    figures: Figures
    tries: int = 1
    """Measurements that were taken; all but the last one were spoilt."""
    spoilt: tuple[str, ...] = ()
    """Why even the last one says nothing: kernels were compiled, or the card was disturbed."""
    notes: tuple[str, ...] = ()
    """What else the reader should know."""
    seed: int = 0
    """The prompts are made from it: another one each time, so that no prefix is cached."""
    date: str = ""

    @property
    def is_spoilt(self) -> bool:
        return bool(self.spoilt)


class MeasureCancelled(Exception):  # noqa: N818 - not an error: somebody wanted it to end
    """The measurement was ended from outside."""
