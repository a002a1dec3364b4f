"""The fake engine itself: it fails as it is told to, recovers with the right options, and is as light as promised."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from nexus_orch.contracts import EngineOrder, Rendering
from nexus_orch.launch.server.ports import is_free
from nexus_orch.testing import FakeEngine, make_settings_plan, write_fake_plugin
from nexus_orch.testing.engine import VARIABLE, parse_behaviour
from nexus_orch.testing.options import Options, parse_options
from nexus_orch.types import EngineSpec, RunSpec
from nexus_orch.types.causes import Cause
from tests.launch.engines import Watched
from tests.plan.cases import make_facts

pytestmark = pytest.mark.slow

Start = Callable[..., Watched]


def test_behaviour_survives_the_environment() -> None:
    engine = FakeEngine(fails="profile_oom", cured_by=("--enforce-eager",), boot_seconds=2.5, ignores=("SIGINT",))
    assert parse_behaviour(engine.env) == engine
    assert parse_behaviour({}) == FakeEngine()


def test_a_misspelt_behaviour_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown fields: boot_second"):
        parse_behaviour({VARIABLE: json.dumps({"boot_second": 1})})


def test_the_command_line_is_vllms() -> None:
    command = FakeEngine().command(8123, "org/model", "--enforce-eager", "--max-model-len=4096")
    argv = ("serve", "org/model", "--host", "127.0.0.1", "--port", "8123", "--enforce-eager", "--max-model-len=4096")
    assert command.argv[-len(argv) :] == argv
    options = parse_options(argv)
    assert options == Options(
        "org/model",
        {"--host": "127.0.0.1", "--port": "8123", "--enforce-eager": "true", "--max-model-len": "4096"},
    )
    assert (options.port, options.max_model_len, options.is_eager) == (8123, 4096, True)


@pytest.mark.parametrize(
    ("cause", "evidence", "before"),
    [
        ("weights_oom", "Failed to load model - not enough GPU memory", "Model loading took"),
        ("profile_oom", "CUDA out of memory", "Available KV cache memory"),
        ("no_kv_cache_memory", "No available memory for the cache blocks", "Available KV cache memory"),
        ("graph_capture_oom", "CUDA out of memory", "Graph capturing finished"),
        ("sampler_oom", "occurred when warming up sampler with 256 dummy requests", "init engine"),
        ("host_oom", "died unexpectedly (exit code: -9)", "Model loading took"),
    ],
)
def test_failures_of_a_start(cause: Cause, evidence: str, before: str, start: Start, free_port: int) -> None:
    watched = start(FakeEngine(fails=cause).command(free_port))
    assert watched.wait_for_exit().returncode == 1
    texts = [line.text for line in watched.lines]
    assert any(evidence in text for text in texts)
    assert not any(before in text for text in texts)
    assert is_free("127.0.0.1", free_port)


@pytest.mark.parametrize(("cause", "evidence"), [("runtime_oom", "out of memory"), ("illegal_instruction", "code: -4")])
def test_failures_of_the_first_request(cause: Cause, evidence: str, start: Start, free_port: int) -> None:
    watched = start(FakeEngine(fails=cause).command(free_port))
    watched.wait_until_ready()
    assert _complete(free_port) == 500
    assert watched.wait_for_exit().returncode == 0  # as vLLM 0.32.0: an orderly end
    assert any(evidence in line.text for line in watched.lines)


@pytest.mark.parametrize(
    ("engine", "bad", "good", "evidence"),
    [
        (
            FakeEngine(fails="graph_capture_oom", cured_by=("--enforce-eager",)),
            (),
            ("--enforce-eager",),
            "out of memory",
        ),
        (
            FakeEngine(max_context=5000),
            ("--max-model-len", "8192"),
            ("--max-model-len", "4992"),
            "the estimated maximum model length is 4992",
        ),
        (
            FakeEngine(free_gib=40, total_gib=80),
            ("--gpu-memory-utilization", "0.9"),
            ("--gpu-memory-utilization", "0.5"),
            "Free memory on device cuda:0 (40.00/80.00 GiB) on startup is less than desired",
        ),
    ],
)
def test_the_right_options_cure_it(  # noqa: PLR0917
    engine: FakeEngine, bad: tuple[str, ...], good: tuple[str, ...], evidence: str, start: Start, free_port: int
) -> None:
    failed = start(engine.command(free_port, "m", *bad))
    assert failed.wait_for_exit().returncode == 1
    assert any(evidence in line.text for line in failed.lines)
    start(engine.command(free_port, "m", *good)).wait_until_ready()


def test_an_option_that_this_release_does_not_know(start: Start, free_port: int) -> None:
    engine = FakeEngine(unknown_options=("--swap-space",))
    watched = start(engine.command(free_port, "m", "--swap-space", "4"))
    assert watched.wait_for_exit().returncode == 2
    watched.wait_for_line("vllm: error: unrecognized arguments: --swap-space")


def test_offload_is_told_unless_it_is_ignored(start: Start, free_port: int) -> None:
    options = ("--cpu-offload-gb", "8.5")
    honest = start(FakeEngine().command(free_port, "m", *options))
    honest.wait_for_line("Total CPU offloaded parameters: 8.50")
    honest.wait_for_line("Model loading took 5.79 GiB")
    honest.stop()
    ignoring = start(FakeEngine(offload_ignored=True).command(free_port, "m", *options))
    ignoring.wait_until_ready()
    assert not any("offloaded" in line.text for line in ignoring.lines)
    ignoring.wait_for_line("Model loading took 14.29 GiB")


def test_a_port_that_is_taken(start: Start, free_port: int) -> None:
    start(FakeEngine().command(free_port)).wait_until_ready()
    second = start(FakeEngine().command(free_port))
    assert second.wait_for_exit().returncode == 1
    second.wait_for_line("OSError: [Errno 98] Address already in use")


def test_a_stalled_start_says_nothing_more_and_can_be_stopped(start: Start, free_port: int) -> None:
    watched = start(FakeEngine(stall_at="profiling").command(free_port))
    watched.wait_for_line("Model loading took")
    watched.stop()
    assert watched.wait_for_exit().returncode == 0
    assert not any("KV cache" in line.text for line in watched.lines)


def test_it_dies_after_so_many_requests(start: Start, free_port: int) -> None:
    watched = start(FakeEngine(dies_after_requests=2).command(free_port))
    watched.wait_until_ready()
    assert [_complete(free_port), _complete(free_port)] == [200, 200]
    assert watched.wait_for_exit().returncode == 0
    watched.wait_for_line("Worker proc VllmWorker-0 died unexpectedly (exit code: -9)")


def test_it_dies_with_its_core(start: Start, free_port: int) -> None:
    watched = start(FakeEngine().command(free_port))
    watched.wait_until_ready()
    os.kill(watched.wait_for_family(2)[1].pid, signal.SIGKILL)
    watched.wait_for_line("EngineDeadError")
    assert watched.wait_for_exit().returncode == 0


def test_metrics_count_what_was_generated(start: Start, free_port: int) -> None:
    start(FakeEngine().command(free_port, "org/model")).wait_until_ready()
    _complete(free_port, max_tokens=5)
    with urllib.request.urlopen(f"http://127.0.0.1:{free_port}/metrics") as answer:
        text = answer.read().decode()
    assert 'vllm:generation_tokens_total{engine="0",model_name="org/model"} 5.0' in text
    for name in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc", "prefix_cache_hits_total"):
        assert f"vllm:{name}{{" in text


def test_on_the_cpu_it_speaks_like_the_cpu_engine(start: Start, free_port: int) -> None:
    watched = start(FakeEngine(device="cpu", version="0.32.0", kv_cache_gib=1.0).command(free_port))
    watched.wait_until_ready()
    watched.wait_for_line("CPU KV cache size: 1,071,136 tokens, Maximum concurrency")
    assert not any("Model loading took" in line.text or "Capturing" in line.text for line in watched.lines)


def test_a_project_can_use_it_as_an_engine(tmp_path: Path, start: Start, free_port: int) -> None:
    path = write_fake_plugin(tmp_path, FakeEngine(max_context=4096))
    assert path == tmp_path / "plugins" / "engine_fake.py"
    spec = importlib.util.spec_from_file_location("engine_fake", path)
    assert spec is not None
    assert spec.loader is not None
    plugin = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(plugin)
    (provider,) = plugin.nexus_engines()
    engine = provider.find(RunSpec("run", engine=EngineSpec(version="0.19.1")), cpu=False)
    assert (provider.kind, engine.version, engine.device, engine.source) == ("fake", "0.19.1", "cuda", "installed")
    assert engine.flag("--max-model-len") is not None
    assert provider.find(RunSpec("run"), cpu=True).device == "cpu"
    rendering = Rendering(argv=("serve", "org/model", "--port", str(free_port), "--max-model-len", "4096"))
    facts = replace(make_facts("Qwen/Qwen2.5-0.5B-Instruct"), engine=engine)
    command = provider.command(EngineOrder(rendering, facts, make_settings_plan({}, env={"EXTRA": "1"})))
    watched = start(command)
    watched.wait_for_line("version 0.19.1")
    watched.wait_until_ready()
    assert command.env["EXTRA"] == "1"


def test_it_imports_nothing_heavy() -> None:
    code = "import sys, nexus_orch.testing.server; print(*sys.modules)"
    modules = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    assert not modules & {"httpx", "psutil", "hydra", "omegaconf", "asyncio", "jsonschema", "rich", "pynvml", "numpy"}


def _complete(port: int, max_tokens: int = 4) -> int:
    """The status of one completion."""
    body = json.dumps({"prompt": "Paris is", "max_tokens": max_tokens}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/completions", data=body)
    try:
        with urllib.request.urlopen(request) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
