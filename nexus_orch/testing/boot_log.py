"""What a start of `vllm serve` prints, stage by stage.

The wording is that of real starts: vLLM 0.25.1 on an H100 (Qwen2.5-7B, V1 engine) and 0.32.0 on a CPU; only names, pids
and sizes are filled in.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from nexus_orch.testing.engine import FakeEngine
from nexus_orch.testing.options import Options

GRAPHS = 51
SHARDS = 4


@dataclass(frozen=True)
class BootStep:
    """Text to print (line ends included) in a stage of the start, before a pause."""

    stage: str
    text: str


@dataclass(frozen=True)
class Voices:
    """The processes that speak in the log, by their pids."""

    server_pid: int
    core_pid: int

    def server(self, source: str, message: str, level: str = "INFO") -> str:
        return _line("APIServer", self.server_pid, level, source, message)

    def core(self, source: str, message: str, level: str = "INFO") -> str:
        return _line("EngineCore", self.core_pid, level, source, message)


def _line(process: str, pid: int, level: str, source: str, message: str) -> str:
    return f"({process} pid={pid}) {level} {time.strftime('%m-%d %H:%M:%S')} [{source}] {message}\n"


def make_banner(engine: FakeEngine, options: Options, voices: Voices) -> Iterator[BootStep]:
    """Before EngineCore exists."""
    given = {"model_tag": options.model, "model": options.model}
    given |= {name.removeprefix("--").replace("-", "_"): value for name, value in options.values.items()}
    for line in (
        "",
        "       █     █     █▄   ▄█",
        f" ▄▄ ▄█ █     █     █ ▀▄▀ █  version {engine.version}",
        f"  █▄█▀ █     █     █     █  model   {options.model}",
        "   ▀▀  ▀▀▀▀▀ ▀▀▀▀▀ ▀     ▀",
        "",
    ):
        yield BootStep("starting", voices.server("api_utils.py:339", line))
    yield BootStep("starting", voices.server("api_utils.py:273", f"non-default args: {given}"))
    yield BootStep("starting", voices.server("model.py:619", "Resolved architecture: Qwen2ForCausalLM"))
    yield BootStep("starting", voices.server("model.py:1776", f"Using max model len {options.max_model_len}"))


def make_boot_log(engine: FakeEngine, options: Options, voices: Voices) -> Iterator[BootStep]:
    """From the first word of EngineCore until the server listens."""
    start = (
        f"Initializing a V1 LLM engine (v{engine.version}) with config: model='{options.model}', "
        f"max_seq_len={options.max_model_len}, enforce_eager={options.is_eager}, device_config={engine.device}"
    )
    yield BootStep("starting", voices.core("core.py:114", start))
    yield from _make_loading(engine, options, voices)
    yield from (
        _make_cpu_cache(engine, options, voices) if engine.device == "cpu" else _make_cache(engine, options, voices)
    )
    yield BootStep(
        "warming", voices.core("core.py:337", "init engine (profile, create kv cache, warmup model) took 3.10 s")
    )
    yield BootStep("warming", voices.server("api_server.py:612", "Supported tasks: ['generate']"))
    url = f"http://{options.host}:{options.port}"
    yield BootStep("warming", voices.server("api_server.py:616", f"Starting vLLM server on {url}"))
    yield BootStep("warming", f"INFO:     Started server process [{voices.server_pid}]\n")
    yield BootStep("warming", "INFO:     Waiting for application startup.\n")


READY = "INFO:     Application startup complete.\n"


def _make_loading(engine: FakeEngine, options: Options, voices: Voices) -> Iterator[BootStep]:
    yield BootStep("loading", voices.core("model_runner.py:281", "Loading model from scratch..."))
    yield BootStep("loading", "\n")
    for done in range(SHARDS + 1):
        percent = 100 * done // SHARDS
        bar = f"{percent:3d}% Completed | {done}/{SHARDS} [00:00<00:00, 2.00it/s]"
        yield BootStep("loading", f"\rLoading safetensors checkpoint shards: {bar}")
    yield BootStep("loading", "\n\n" + voices.core("default_loader.py:501", "Loading weights took 0.02 seconds"))
    if engine.device == "cpu":
        return
    backend = options.values.get("--offload-backend", "uva")
    is_deaf = engine.offload_ignored or engine.offloads_only not in (None, backend)
    offloaded_gib = 0.0 if is_deaf else float(options.values.get("--cpu-offload-gb", 0)) * engine.offload_share
    if offloaded_gib:
        message = f"Total CPU offloaded parameters: {offloaded_gib:.2f}"
        yield BootStep("loading", voices.core("uva.py:110", message))
    if backend == "prefetch" and not is_deaf:
        sizes = f"Total GPU memory saved: {6.5268 * engine.offload_share:.4f} GB, Static buffer pool: 0.4662 GB"
        message = f"[PrefetchOffloader] Initialized 14 modules. {sizes}"
        yield BootStep("loading", voices.core("prefetch.py:301", message))
    message = f"Model loading took {engine.weights_gib - offloaded_gib:.2f} GiB and 1.559388 seconds"
    yield BootStep("loading", voices.core("model_runner.py:302", message))


def _make_cache(engine: FakeEngine, options: Options, voices: Voices) -> Iterator[BootStep]:
    if not options.is_eager:
        yield BootStep("profiling", voices.core("monitor.py:53", "torch.compile took 17.65 s in total"))
    yield BootStep("profiling", voices.core("monitor.py:81", "Initial profiling/warmup run took 0.47 s"))
    message = f"Available KV cache memory: {engine.kv_cache_gib:.2f} GiB"
    yield BootStep("profiling", voices.core("gpu_worker.py:538", message))
    message = f"GPU KV cache size: {engine.kv_cache_tokens:,} tokens"
    yield BootStep("profiling", voices.core("kv_cache_utils.py:2146", message))
    yield BootStep("profiling", voices.core("kv_cache_utils.py:2147", _concurrency(engine, options)))
    if options.is_eager:
        return
    yield BootStep("capturing", f"(EngineCore pid={voices.core_pid}) ")
    for done in range(0, GRAPHS + 1, 3):
        percent = 100 * done // GRAPHS
        bar = f"{percent:3d}%|{'█' * (percent // 10):10s}| {done}/{GRAPHS} [00:01<00:01, 22.68it/s]"
        yield BootStep("capturing", f"\rCapturing CUDA graphs (FULL): {bar}")
    message = "\n" + voices.core("model_runner.py:722", "Graph capturing finished in 5 secs, took 0.89 GiB")
    yield BootStep("capturing", message)


def _make_cpu_cache(engine: FakeEngine, options: Options, voices: Voices) -> Iterator[BootStep]:
    message = f"Explicitly set ({engine.kv_cache_gib:.1f}/{engine.total_gib:.2f}) GiB for KV cache on node 0."
    yield BootStep("profiling", voices.core("cpu_worker.py:260", message))
    message = f"CPU KV cache size: {engine.kv_cache_tokens:,} tokens, {_concurrency(engine, options)}"
    yield BootStep("profiling", voices.core("kv_cache_utils.py:2327", message))


def _concurrency(engine: FakeEngine, options: Options) -> str:
    length = options.max_model_len
    return f"Maximum concurrency for {length:,} tokens per request: {engine.kv_cache_tokens / length:.2f}x"


def make_shutdown_log(voices: Voices) -> str:
    """What a server prints that was told to stop."""
    server = voices.server
    return "".join(
        (
            server("launcher.py:100", "[shutdown] API server: shutdown triggered"),
            voices.core("core.py:1214", "[shutdown] EngineCore: trigger received signal=SIGTERM"),
            server("launcher.py:149", "[shutdown] API server: shutting down FastAPI HTTP server"),
            "INFO:     Shutting down\n",
            "INFO:     Waiting for application shutdown.\n",
            "INFO:     Application shutdown complete.\n",
        )
    )
