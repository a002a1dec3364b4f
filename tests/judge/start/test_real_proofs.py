"""Plans of launches that were really made, proved by their logs: what is set beside what, and how far it may be off."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from nexus_orch.compose.run import compose_run
from nexus_orch.judge.start.offload import judge_offload, make_expected
from nexus_orch.judge.start.proof import make_proof
from nexus_orch.judge.start.verdict import RunState
from nexus_orch.plan.make import make_plan
from nexus_orch.plugin_manager import load_plugins
from nexus_orch.session.prepare import read_facts
from nexus_orch.types import HostSample, Plan, ProcessSample
from tests.judge.histories import ATTEMPT, History
from tests.judge.logs import lines_of
from tests.plan.cases import LOADERS

SHARED = (
    "hardware=h200",
    "hardware.host.ram_gib=250",
    "engine.version=0.25.1",
    "model.dtype=bfloat16",
    "model.max_model_len=2048",
    "memory.enforce_eager=true",
    "serve.max_num_seqs=16",
    "serve.max_num_batched_tokens=2048",
)
MOST = 0.1
"""The bound of the task: a plan that is further off has not told the truth."""


@dataclass(frozen=True)
class Launch:
    """A launch of bench/data/hybrid_h200.json. The samples are those of its journal at the moment when it was ready."""

    overrides: tuple[str, ...]
    rss_bytes: tuple[int, ...]
    """Of the API server, the resource tracker and the engine core."""
    offloads: bool = True


LAUNCHES: Mapping[str, Launch] = {
    "q14_uva": Launch(
        (
            "model=qwen14b",
            "memory=hybrid",
            "memory.gpu_memory_utilization=0.156",
            "memory.offload_backend=uva",
            "memory.cpu_offload_gib=13.76",
        ),
        (1_209_638_912, 16_965_632, 28_992_884_736),
    ),
    "q14_prefetch": Launch(
        (
            "model=qwen14b",
            "memory=hybrid",
            "memory.gpu_memory_utilization=0.106",
            "memory.offload_backend=prefetch",
            "memory.cpu_offload_gib=21.5",
        ),
        (1_201_545_216, 16_928_768, 45_059_293_184),
    ),
    "q30a3b_experts": Launch(
        (
            "model=qwen3_30b_a3b",
            "memory=hybrid",
            "memory.gpu_memory_utilization=0.5",
            "memory.offload_backend=uva",
            "memory.cpu_offload_gib=28.4",
            "memory.offload_params=[w13_weight,w2_weight]",
        ),
        (1_193_881_600, 17_068_032, 44_773_060_608),
    ),
    "q30a3b_experts_first": Launch(
        (
            "model=qwen3_30b_a3b",
            "memory=hybrid",
            "memory.gpu_memory_utilization=0.159",
            "memory.offload_backend=uva",
            "memory.cpu_offload_gib=42.65",
        ),
        (1_203_617_792, 16_932_864, 64_621_273_088),
    ),
    "q30a3b_experts_prefetched": Launch(
        (
            "model=qwen3_30b_a3b",
            "memory=hybrid",
            "memory.gpu_memory_utilization=0.261",
            "memory.offload_backend=prefetch",
            "memory.cpu_offload_gib=28.43",
            "memory.offload_params=[experts]",
        ),
        (1_203_200_000, 16_830_464, 45_231_714_304),
    ),
    "q30a3b_graphs": Launch(
        (
            "model=qwen3_30b_a3b",
            "memory=hybrid",
            "memory.enforce_eager=false",
            "memory.gpu_memory_utilization=0.362",
            "memory.kv_cache.size_gib=6",
            "memory.offload_backend=uva",
            "memory.cpu_offload_gib=14.22",
        ),
        (1_183_535_104, 17_039_360, 22_356_537_344),
    ),
    "q32_no_offload": Launch(
        ("model=qwen32b", "memory=vram_only", "memory.gpu_memory_utilization=0.494"),
        (1_200_316_416, 16_912_384, 1_771_569_152),
        offloads=False,
    ),
}


def _plan(launch: Launch) -> Plan:
    spec = compose_run((*SHARED, *launch.overrides), project=None)
    facts, _ = read_facts(spec, load_plugins(None))
    return make_plan(spec, facts, LOADERS)


def _watch(name: str, launch: Launch, plan: Plan) -> RunState:
    """The launch as its session saw it: each line of its log, then a look at the host."""
    history = History().started().log(*lines_of(f"0.25.1-h200-{name}"))
    processes = tuple(ProcessSample(pid, "engine", rss, 0.0) for pid, rss in enumerate(launch.rss_bytes, start=1))
    history.observations.append(HostSample(history.now, ATTEMPT, 180 << 30, 252 << 30, 0, 0, processes))
    return history.state(make_expected(plan))


@pytest.mark.parametrize("name", LAUNCHES)
def test_the_plan_of_a_real_launch_is_proved(name: str) -> None:
    launch = LAUNCHES[name]
    plan = _plan(launch)
    assert plan.fits, plan.problems
    state = _watch(name, launch, plan)
    assert judge_offload(state.reading, make_expected(plan)) is None
    proof = {line.name: line for line in make_proof(plan, state.numbers, state.footprint) if line.planned}
    wanted = {"weights on the device", "KV cache", "concurrency"}
    wanted |= {"weights in host RAM", "host RAM"} if launch.offloads else set()
    wanted |= {"offload buffer"} if name in ("q14_prefetch", "q30a3b_experts_prefetched") else set()
    off = {line.name: line.difference for line in proof.values() if line.name in wanted}
    assert off.keys() == wanted
    assert all(error is not None and abs(error) < MOST for error in off.values()), off


def test_the_log_of_a_launch_without_offload_does_not_prove_one() -> None:
    """The plan of the half that UVA moves, with the log of an engine that kept all on the card."""
    launch = LAUNCHES["q14_uva"]
    plan = _plan(launch)
    failed = judge_offload(_watch("q32_no_offload", launch, plan).reading, make_expected(plan))
    assert failed is not None and failed.cause == "offload_ignored"
    assert "13.84 GiB of each card were planned" in failed.evidence[0]


def test_experts_leave_first_and_are_planned_to_the_last_digit() -> None:
    plan = _plan(LAUNCHES["q30a3b_experts_first"])
    choice = plan.choice("memory.offload_params")
    assert choice is not None
    assert (choice.value, choice.origin) == (("experts",), "derived")
    state = _watch("q30a3b_experts_first", LAUNCHES["q30a3b_experts_first"], plan)
    assert state.numbers["kv_cache_tokens"] == pytest.approx(plan.kv_cache_tokens, rel=0.002)
    assert state.numbers["offloaded_bytes"] == pytest.approx(plan.per_gpu[0].offloaded_bytes, rel=0.001)
