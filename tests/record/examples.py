"""A written run: two attempts of a hybrid start, the first one out of memory, the second one serving."""

from __future__ import annotations

from pathlib import Path

from nexus_orch import files
from nexus_orch.record.codec import encode_tagged
from nexus_orch.record.events import AttemptEnded, Created, Entry, Family, Finished, Launched, Planned
from nexus_orch.record.run_folder import (
    RunFolder,
    create_run_folder,
    encode_plan,
    write_command,
    write_plan,
)
from nexus_orch.record.writer import RunWriter
from nexus_orch.types import (
    GIB,
    Choice,
    Command,
    EngineSpec,
    Failed,
    GpuEstimate,
    GpuSample,
    HardwareSpec,
    HostEstimate,
    HostSample,
    Lesson,
    MemorySpec,
    Metric,
    ModelSpec,
    Plan,
    Prediction,
    Probed,
    ProcessKey,
    ProcessSample,
    Ready,
    RunSpec,
    Stage,
    Starting,
    Stopped,
)

START = 1_795_442_400.0
"""2026-11-23 14:00:00 UTC."""

SUPERVISOR = ProcessKey(4000, START - 1)
ENGINE = ProcessKey(4100, START + 20)
WORKER = ProcessKey(4101, START + 25)

SPEC = RunSpec(
    name="qwen32b-hybrid",
    model=ModelSpec(name="qwen32b", path="Qwen/Qwen2.5-32B-Instruct", max_model_len=8192),
    hardware=HardwareSpec(name="rtx4090x2"),
    memory=MemorySpec(strategy="hybrid"),
    engine=EngineSpec(env={"HF_TOKEN": "hf_do_not_tell", "VLLM_LOGGING_LEVEL": "INFO"}),
    origins={"memory.strategy": "command line"},
)


def make_gpu_estimate() -> GpuEstimate:
    return GpuEstimate(
        total_bytes=24 * GIB,
        budget_bytes=int(21.6 * GIB),
        weights_bytes=16 * GIB,
        offloaded_bytes=14 * GIB,
        kv_cache_bytes=3 * GIB,
        activation_bytes=GIB,
        non_torch_bytes=GIB // 2,
        cuda_graph_bytes=0,
        static_pool_bytes=0,
        headroom_bytes=int(1.1 * GIB),
    )


def make_plan(offload_gib: float = 14.0) -> Plan:
    return Plan(
        spec=SPEC,
        fits=True,
        loader="hybrid",
        engine_version="0.32.0",
        model="qwen32b",
        choices=(
            Choice("memory.strategy", "hybrid", "pinned", "set on the command line"),
            Choice("memory.cpu_offload_gib", offload_gib, "derived", "the weights do not fit otherwise"),
        ),
        per_gpu=(make_gpu_estimate(), make_gpu_estimate()),
        host=HostEstimate(30 * GIB, 110 * GIB, 28 * GIB),
        prediction=Prediction(decode_tokens_per_second=4.2, kv_cache_tokens_low=20000, kv_cache_tokens_high=26000),
        kv_cache_tokens=24000,
        max_model_len=8192,
        max_concurrency=2.9,
    )


def make_created(supervisor: ProcessKey = SUPERVISOR, time: float = START) -> Created:
    return Created(
        time=time,
        name=SPEC.name,
        model="qwen32b",
        hardware="rtx4090x2",
        supervisor=supervisor,
        nexus_version="0.1.0",
        strategy="hybrid",
    )


def make_gpu(time: float, index: int, used_gib: float, attempt: int = 2) -> GpuSample:
    return GpuSample(
        time=time,
        attempt=attempt,
        index=index,
        name="NVIDIA GeForce RTX 4090",
        memory_used_bytes=int(used_gib * GIB),
        memory_total_bytes=24 * GIB,
        utilization=0.93,
        temperature_celsius=61.0,
        power_watts=287.0,
    )


def make_host(time: float, ram_gib: float, attempt: int = 2) -> HostSample:
    return HostSample(
        time=time,
        attempt=attempt,
        ram_used_bytes=int(ram_gib * GIB),
        ram_total_bytes=128 * GIB,
        swap_used_bytes=0,
        swap_total_bytes=8 * GIB,
        processes=(
            ProcessSample(4100, "vllm", 2 * GIB, 0.1),
            ProcessSample(4101, "VLLM::Worker_TP0", 17 * GIB, 1.0),
        ),
    )


def write_start(folder: RunFolder, supervisor: ProcessKey = SUPERVISOR, engine: ProcessKey = ENGINE) -> RunWriter:
    """A run up to ready, in two attempts; the writer is left open."""
    writer = RunWriter(folder)
    writer.write(make_created(supervisor))
    _write_failed_attempt(writer)
    plan = make_plan(offload_gib=16.0)
    write_plan(folder, plan)
    write_command(folder, Command(("vllm", "serve"), {"HF_TOKEN": "hf_do_not_tell"}, secrets=frozenset({"HF_TOKEN"})))
    writer.write(Planned(START + 19, 2, encode_plan(plan)))
    writer.write(Launched(START + 20, 2, engine, 8000, "http://127.0.0.1:8000", "local", {"mark": "of-the-engine"}))
    writer.write(Family(START + 26, 2, (engine, WORKER)))
    writer.judge(START + 21, 2, Starting(Stage.STARTING))
    writer.judge(START + 30, 2, Starting(Stage.LOADING, 0.0))
    writer.judge(START + 70, 2, Starting(Stage.PROFILING))
    writer.judge(START + 85, 2, Starting(Stage.WARMING))
    writer.observe(Probed(START + 94, 2, "completion", True, " Paris.", {"tokens_per_second": 4.1}))
    writer.judge(START + 95, 2, Ready({"weights_bytes": 16.2 * GIB, "kv_cache_tokens": 23552.0}))
    for second in range(96, 100):
        writer.observe(make_gpu(START + second, 0, 21.0 + (second == 97)))
        writer.observe(make_gpu(START + second, 1, 20.5))
        writer.observe(make_host(START + second, 40.0))
        writer.observe(Metric(START + second, 2, {"running": 1.0, "generation_tokens_per_second": 4.0 + second / 100}))
    return writer


def _write_failed_attempt(writer: RunWriter) -> None:
    writer.write(Planned(START + 1, 1, encode_plan(make_plan())))
    writer.write(Launched(START + 2, 1, ProcessKey(4050, START + 2), 8000, "http://127.0.0.1:8000"))
    writer.judge(START + 3, 1, Starting(Stage.STARTING))
    writer.judge(START + 8, 1, Starting(Stage.LOADING))
    failed = Failed("weights_oom", ("torch.OutOfMemoryError: CUDA out of memory.",), "offload more of the weights")
    writer.judge(START + 15, 1, failed)
    lesson = Lesson("measured.weights_bytes", 17 * GIB, "engine.log of attempt 1")
    writer.write(AttemptEnded(START + 18, 1, failed, (lesson,)))


def write_stopped_run(runs_dir: Path, started: float = START) -> RunFolder:
    """A whole run with its end."""
    folder = create_run_folder(runs_dir, SPEC, started)
    writer = write_start(folder)
    writer.judge(START + 3600, 2, Stopped("Ctrl-C"))
    writer.write(AttemptEnded(START + 3605, 2, Stopped("Ctrl-C")))
    writer.write(Finished(START + 3606, 130, reason="Ctrl-C"))
    writer.close()
    folder.log.write_bytes(b"".join(b"line %d\n" % number for number in range(100)))
    return folder


def make_line(entry: Entry) -> bytes:
    """The journal's line of an entry."""
    return files.make_line(encode_tagged(entry))
