"""Each contradiction is told once, with both sides and a remedy, and nothing else is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nexus_orch.compose.rules import RULES, judge_contradictions
from nexus_orch.types import (
    GpuSpec,
    HardwareSpec,
    HostSpec,
    KvCacheSpec,
    LoraSpec,
    MemorySpec,
    ModelSpec,
    RunSpec,
    ServeSpec,
    SpeculativeSpec,
)

BROKEN = {
    "kv folder without RAM": RunSpec("x", memory=MemorySpec(kv_offload_dir="/kv", kv_offload_gib=0)),
    "backend for nothing": RunSpec("x", memory=MemorySpec(offload_backend="prefetch", cpu_offload_gib=0)),
    "offload without a GPU": RunSpec(
        "x", hardware=HardwareSpec(gpu=GpuSpec(count=0)), memory=MemorySpec(cpu_offload_gib=1)
    ),
    "two sizes of the KV cache": RunSpec("x", memory=MemorySpec(kv_cache=KvCacheSpec(max_blocks=9, size_gib=1))),
    "scales of a float KV cache": RunSpec(
        "x", memory=MemorySpec(kv_cache=KvCacheSpec(calculate_scales=True, dtype="bfloat16"))
    ),
    "more ranks than GPUs": RunSpec(
        "x",
        hardware=HardwareSpec(gpu=GpuSpec(count=2), nodes=2),
        serve=ServeSpec(tensor_parallel=4, pipeline_parallel=2),
    ),
    "other cards than are counted": RunSpec("x", hardware=HardwareSpec(gpu=GpuSpec(count=2, devices=(0, 1, 2)))),
    "positions stretched twice": RunSpec(
        "x", model=ModelSpec(rope_scaling={"factor": 2.0}, hf_overrides={"rope_parameters": {"factor": 4.0}})
    ),
    "more adapters on the cards than in RAM": RunSpec(
        "x", model=ModelSpec(lora=LoraSpec(max_loras=4, max_cpu_loras=2))
    ),
    "pieces of no length": RunSpec(
        "x", serve=ServeSpec(speculative=SpeculativeSpec(prompt_lookup_max=2, prompt_lookup_min=3))
    ),
    "a draft on half of the cards": RunSpec(
        "x", serve=ServeSpec(tensor_parallel=4, speculative=SpeculativeSpec(draft_tensor_parallel=2))
    ),
    "a stage without layers": RunSpec("x", serve=ServeSpec(pipeline_parallel=3, pipeline_partition=(20, 12))),
    "fewer tokens than requests": RunSpec("x", serve=ServeSpec(max_num_seqs=64, max_num_batched_tokens=32)),
    "more reserved than there is": RunSpec("x", hardware=HardwareSpec(host=HostSpec(ram_gib=32, reserved_gib=33))),
}

GOOD = [
    RunSpec("nothing pinned"),
    RunSpec("x", memory=MemorySpec(kv_cache=KvCacheSpec(calculate_scales=True, dtype="fp8_e5m2"))),
    RunSpec("x", memory=MemorySpec(kv_cache=KvCacheSpec(calculate_scales=False, dtype="bfloat16"))),
    RunSpec("x", hardware=HardwareSpec(gpu=GpuSpec(count=2), nodes=2), serve=ServeSpec(tensor_parallel=4)),
    RunSpec("x", hardware=HardwareSpec(gpu=GpuSpec(count=0)), serve=ServeSpec(tensor_parallel=2)),
    RunSpec("x", serve=ServeSpec(max_num_seqs=64, max_num_batched_tokens=64)),
    RunSpec("x", hardware=HardwareSpec(gpu=GpuSpec(count=2, devices=(3, 1)))),
    RunSpec("x", serve=ServeSpec(pipeline_partition=(20, 12))),
    RunSpec("x", hardware=HardwareSpec(host=HostSpec(ram_gib=32, reserved_gib=32))),
]


@pytest.mark.parametrize("name", BROKEN)
def test_a_contradiction(name: str) -> None:
    spec = BROKEN[name]
    (problem,) = judge_contradictions(spec)
    assert problem.key is not None
    assert problem.value == spec.get(problem.key)
    assert problem.remedy


@pytest.mark.parametrize("spec", GOOD, ids=repr)
def test_no_contradiction(spec: RunSpec) -> None:
    assert judge_contradictions(spec) == []


def test_every_rule_is_broken_by_one_example_only() -> None:
    assert [sum(rule.broken(spec) for spec in BROKEN.values()) for rule in RULES] == [1] * len(RULES)


def test_both_sides_are_told_with_their_origins() -> None:
    origins = {"memory.offload_backend": "conf/memory/mine.yaml:3", "memory.cpu_offload_gib": "command line"}
    (problem,) = judge_contradictions(replace(BROKEN["backend for nothing"], origins=origins))
    assert problem.message == (
        "there is nothing for the backend to offload: memory.offload_backend against "
        "memory.cpu_offload_gib=0 (command line)"
    )
    assert (problem.key, problem.value, problem.origin) == (
        "memory.offload_backend",
        "prefetch",
        "conf/memory/mine.yaml:3",
    )
    assert problem.remedy == "write memory.cpu_offload_gib=auto, or memory.offload_backend=auto"


def test_values_are_spelled_as_they_are_written_and_what_is_open_is_left_out() -> None:
    spec = RunSpec("x", hardware=HardwareSpec(gpu=GpuSpec(count=1)), serve=ServeSpec(tensor_parallel=3))
    (problem,) = judge_contradictions(spec)
    assert problem.message.endswith("serve.tensor_parallel against hardware.gpu.count=1, hardware.nodes=1")
