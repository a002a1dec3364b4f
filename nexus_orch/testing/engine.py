"""FakeEngine: how a fake `vllm serve` behaves, and the command that starts it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from nexus_orch.types.causes import Cause
from nexus_orch.types.command import Command

VARIABLE = "NEXUS_FAKE"
"""The environment variable that carries the behaviour as JSON, so that the command line stays vLLM's own."""


@dataclass(frozen=True)
class FakeEngine:
    """The behaviour of one fake engine; the defaults make a server that boots at once and answers.

    A process that is started with this behaviour does what `vllm serve` does as far as a supervisor sees it: the same
    log lines, child processes, routes, metrics, exit codes. Sizes are only printed, nothing is allocated.
    """

    version: str = "0.25.1"
    device: Literal["cuda", "cpu"] = "cuda"
    weights_gib: float = 14.29
    kv_cache_gib: float = 57.21
    kv_cache_tokens: int = 1_071_136
    total_gib: float = 79.18

    boot_seconds: float = 0.0
    """Spread over the stages of the start."""
    stall_at: str | None = None
    """A stage (loading, profiling, capturing, warming) at which it stops for ever without a word."""
    port_delay_seconds: float = 0.0
    """It says that it is ready and listens only then."""

    fails: Cause | None = None
    """What goes wrong: weights_oom, profile_oom, sampler_oom, no_kv_cache_memory, graph_capture_oom, runtime_oom (at
    the first request), illegal_instruction (likewise), host_oom (the core is killed while loading)."""
    cured_by: tuple[str, ...] = ()
    """Options ("--enforce-eager") with which that does not happen."""
    max_context: int | None = None
    """With a larger --max-model-len it fails as `context_too_long` and says this length."""
    free_gib: float | None = None
    """With a --gpu-memory-utilization that asks for more it fails as `memory_busy`."""
    unknown_options: tuple[str, ...] = ()
    """Options that this release does not know: it fails as `unrecognized_argument` with exit code 2."""
    offload_ignored: bool = False
    """It takes the offload options without a word and without an effect."""
    offloads_only: str | None = None
    """The one backend (uva, prefetch) that has an effect; the other is taken without a word."""
    offload_share: float = 1.0
    """How much of what the options ask for it really offloads."""

    health: Literal["honest", "early", "always"] = "honest"
    """early: 200 as soon as the port is open, long before it is ready; always: 200 with a dead engine, too."""
    completions: Literal["good", "error", "hang", "empty", "wordless"] = "good"
    """wordless: tokens that are no text, as random weights make them."""
    completion_seconds: float = 0.0
    """How long the first token of each answer takes."""
    tokens_per_second: float | None = None
    """None sends all tokens at once."""
    chat_template: bool = True
    preemptions_per_second: float = 0.0
    """Told by its metrics, with `waiting` requests and `kv_cache_usage`, while it is short of KV cache."""
    waiting: int = 0
    busy: int = 0
    """Requests that its metrics say are running while it is short, beside those that really are."""
    kv_cache_usage: float | None = None
    """None is a hundredth for each request that runs."""
    short_seconds: float | None = None
    """For so long after it was ready it is short; None is for ever."""
    enough_gib: float | None = None
    """With a --kv-cache-memory-bytes from so many GiB on it is never short."""
    most_gib: float | None = None
    """With a --kv-cache-memory-bytes of more GiB it fails as `no_kv_cache_memory`."""
    hangs_after_requests: int | None = None
    """Completions after so many get no answer, and stay among those that run; /health is well."""
    dies_after_requests: int | None = None
    """After so many completions the core is killed."""
    dies_of: str | None = None
    """A request with this text in it makes the core fail."""

    ignores: tuple[str, ...] = ()
    """Signals ("SIGINT", "SIGTERM") that the main process does not heed."""
    core_ignores: tuple[str, ...] = ()
    """Signals that the EngineCore process does not heed; it ends all the same when the main process is gone."""
    core_outlives: bool = False
    """EngineCore stays when the main process is gone, until it is signalled."""
    core_holds_port: bool = False
    """EngineCore inherits the listening socket."""
    core_escapes: bool = False
    """EngineCore leaves process group and session and gives itself another parent."""
    core_unwatched: bool = False
    """The main process does not notice the end of EngineCore, and serves on."""
    workers: int = 0
    """Children of EngineCore; they end with it unless `core_outlives`."""

    flood_mb_per_second: float = 0.0
    """Lines printed from the start on, in 1e6 bytes per second, for `flood_seconds`."""
    flood_seconds: float = 0.0
    world: str | None = None
    """A file that simulates a machine (`nexus_orch.testing.world`), which then says how starts end, how fast it is and
    which requests fail."""
    world_seed: int = 0
    world_settings: Mapping[str, Any] = field(default_factory=dict)
    """The point of the world's grid at which it runs; the plugin of `write_fake_plugin` takes it from the run."""
    noise: bool = False
    """Prints colours, broken UTF-8, a line of 100 kB and control characters, too."""

    @property
    def env(self) -> dict[str, str]:
        """The environment that makes `python -m nexus_orch.testing` behave so."""
        return {VARIABLE: json.dumps(asdict(self))}

    def command(self, port: int, model: str = "fake/model", *options: str, host: str = "127.0.0.1") -> Command:
        """The command that starts it: `serve MODEL --host ... --port ...` and further options of vLLM."""
        argv = (*self.launcher(), "serve", model, "--host", host, "--port", str(port), *options)
        return Command(argv=argv, env=self.env)

    @staticmethod
    def launcher() -> tuple[str, ...]:
        """What stands in the place of the program `vllm`."""
        return (sys.executable, "-m", "nexus_orch.testing")


def parse_behaviour(environ: Mapping[str, str]) -> FakeEngine:
    """The behaviour in an environment; a plain FakeEngine without one. Raises ValueError for unknown fields."""
    given: dict[str, Any] = json.loads(environ.get(VARIABLE, "{}"))
    known = {field.name for field in fields(FakeEngine)}
    if unknown := given.keys() - known:
        raise ValueError(f"{VARIABLE} has unknown fields: {', '.join(sorted(unknown))}")
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    return FakeEngine(**values)
