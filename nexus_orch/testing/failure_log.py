"""What vLLM prints when something goes wrong. The messages are those of its sources (0.25.1 to 0.32.0), shortened."""

from __future__ import annotations

from dataclasses import dataclass

from nexus_orch.testing.boot_log import Voices
from nexus_orch.testing.engine import FakeEngine
from nexus_orch.testing.options import Options
from nexus_orch.types.causes import Cause

DEFAULT_UTILIZATION = 0.92
"""Of vLLM from 0.22.1 on."""

BLOCK = 16


START_FAILED = 1
DIED_SERVING = 0
"""vLLM 0.32.0 shuts down in good order when its engine has died, and ends with 0 (measured on the CPU engine)."""


@dataclass(frozen=True)
class Failure:
    """`text` is printed when `stage` has been reached; with `kills_core`, the core is killed by that signal before."""

    cause: Cause
    stage: str
    text: str
    kills_core: int = 0


_STAGES: dict[Cause, str] = {
    "weights_oom": "loading",
    "host_oom": "loading",
    "profile_oom": "profiling",
    "no_kv_cache_memory": "profiling",
    "context_too_long": "profiling",
    "sampler_oom": "warming",
    "graph_capture_oom": "capturing",
    "memory_busy": "starting",
    "runtime_oom": "request",
    "illegal_instruction": "request",
}


def choose_failure(engine: FakeEngine, options: Options, voices: Voices) -> Failure | None:
    """The failure that this behaviour meets with these options, None when all goes well."""
    utilization = float(options.values.get("--gpu-memory-utilization", DEFAULT_UTILIZATION))
    cured = any(name in options.values for name in engine.cured_by)
    cause: Cause | None = None if cured else engine.fails
    if engine.free_gib is not None and utilization * engine.total_gib > engine.free_gib:
        cause = "memory_busy"
    elif cause is None and engine.most_gib is not None and options.kv_cache_gib > engine.most_gib:
        cause = "no_kv_cache_memory"
    elif cause is None and engine.max_context is not None and options.max_model_len > engine.max_context:
        cause = "context_too_long"
    if cause is None:
        return None
    stage = _STAGES.get(cause)
    if stage is None:
        raise ValueError(f"the fake engine cannot fail as {cause}; it can as {', '.join(_STAGES)}")
    if cause == "host_oom":
        return Failure(cause, stage, render_core_death(voices, 9) + _init_failed(voices), kills_core=9)
    if cause == "illegal_instruction":
        return Failure(cause, stage, render_core_death(voices, 4) + _engine_dead(voices), kills_core=4)
    message = _message(cause, engine, options, utilization)
    if stage == "request":
        return Failure(cause, stage, _traceback(message, voices, "encountered a fatal error") + _engine_dead(voices))
    return Failure(cause, stage, _traceback(message, voices, "failed to start") + _init_failed(voices))


def render_unrecognized(options: tuple[str, ...]) -> str:
    """What argparse prints, before it ends the process with 2."""
    return (
        "usage: vllm [-h] [-v]\n            {chat,complete,serve,launch,bench,collect-env,run-batch}\n            ...\n"
        f"vllm: error: unrecognized arguments: {' '.join(options)}\n"
    )


def render_port_in_use() -> str:
    """The end of the traceback of a server that cannot bind."""
    return (
        "Traceback (most recent call last):\n"
        '  File "site-packages/vllm/entrypoints/launchers/launcher.py", line 348, in create_server_socket\n'
        "    sock.bind(addr)\nOSError: [Errno 98] Address already in use\n"
    )


def render_core_death(voices: Voices, signal_number: int) -> str:
    """What EngineCore prints when its worker was killed."""
    died = f"Worker proc VllmWorker-0 died unexpectedly (exit code: {-signal_number}), shutting down executor."
    return voices.core("multiproc_executor.py:315", died, "ERROR")


def render_death_while_serving(voices: Voices, signal_number: int) -> str:
    """What is printed when EngineCore's worker is killed while the server runs, up to the server's orderly end."""
    return (
        render_core_death(voices, signal_number)
        + _traceback("RuntimeError: Executor failed.", voices, "encountered a fatal error")
        + _engine_dead(voices)
    )


def _traceback(message: str, voices: Voices, what: str) -> str:
    lines = (
        f"EngineCore {what}.",
        "Traceback (most recent call last):",
        '  File "/opt/venv/lib/python3.12/site-packages/vllm/v1/engine/core.py", line 1200, in run_engine_core',
        message,
    )
    return "".join(voices.core("core.py:1231", line, "ERROR") for line in lines)


def _init_failed(voices: Voices) -> str:
    return (
        f"(APIServer pid={voices.server_pid}) Traceback (most recent call last):\n"
        f"(APIServer pid={voices.server_pid}) RuntimeError: Engine core initialization failed. "
        "See root cause above. Failed core proc(s): {}\n"
    )


def _engine_dead(voices: Voices) -> str:
    dead = "EngineDeadError: EngineCore encountered an issue. See stack trace (above) for the root cause."
    return (
        voices.server("async_llm.py:906", "AsyncLLM output_handler failed.", "ERROR")
        + voices.server("async_llm.py:906", f"vllm.v1.engine.exceptions.{dead}", "ERROR")
        + "INFO:     Shutting down\nINFO:     Waiting for application shutdown.\n"
        "INFO:     Application shutdown complete.\n"
    )


def _message(cause: Cause, engine: FakeEngine, options: Options, utilization: float) -> str:
    out_of_memory = (
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 270.00 MiB. GPU 0 has a total capacity of "
        f"{engine.total_gib:.2f} GiB of which 103.06 MiB is free. Including non-PyTorch memory, this process has "
        f"{engine.total_gib - 0.2:.2f} GiB memory in use."
    )
    if cause == "weights_oom":
        return f"Failed to load model - not enough GPU memory. (original error: {out_of_memory})"
    if cause == "sampler_oom":
        return (
            "RuntimeError: CUDA out of memory occurred when warming up sampler with 256 dummy requests. Please try "
            "lowering `max_num_seqs` or `gpu_memory_utilization` when initializing the engine."
        )
    if cause == "no_kv_cache_memory":
        return (
            "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization` when "
            "initializing the engine."
        )
    if cause == "context_too_long":
        context = engine.max_context or options.max_model_len // 2
        need_gib = engine.kv_cache_gib * options.max_model_len / context
        return (
            f"ValueError: To serve at least one request with the model's max seq len ({options.max_model_len}), "
            f"({need_gib:.2f} GiB KV cache is needed, which is larger than the available KV cache memory "
            f"({engine.kv_cache_gib:.2f} GiB). Based on the available memory, the estimated maximum model length is "
            f"{context // BLOCK * BLOCK}. Try increasing `gpu_memory_utilization` or decreasing `max_model_len` when "
            "initializing the engine."
        )
    if cause == "memory_busy":
        free_gib = engine.total_gib / 4 if engine.free_gib is None else engine.free_gib
        return (
            f"ValueError: Free memory on device cuda:0 ({free_gib:.2f}/{engine.total_gib:.2f} GiB) on startup is less "
            f"than desired GPU memory utilization ({utilization}, {utilization * engine.total_gib:.2f} GiB). Decrease "
            "GPU memory utilization or reduce GPU memory used by other processes."
        )
    return out_of_memory
