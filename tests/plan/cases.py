"""What the planner's tests and its benchmark plan: 174 model configurations, 34 real launches, and made-up machines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from nexus_orch.contracts import Loader
from nexus_orch.plan.asked.inputs import read_inputs
from nexus_orch.plan.asked.target import make_target
from nexus_orch.plan.make import make_plan
from nexus_orch.plan.release.generations import choose_generation, default_batching
from nexus_orch.types import (
    GIB,
    EngineFacts,
    EngineSpec,
    Facts,
    GpuFacts,
    HostFacts,
    KvCacheSpec,
    LoraSpec,
    MachineFacts,
    MemorySpec,
    ModelFacts,
    ModelSpec,
    Plan,
    RunSpec,
    ServeSpec,
    SpeculativeSpec,
)
from plugins import loader_hybrid, loader_vram_only

_DATA = Path(__file__).parent.parent / "data"

LOADERS: dict[str, Loader] = {
    loader.name: loader for plugin in (loader_vram_only, loader_hybrid) for loader in plugin.nexus_loaders()
}


@cache
def models() -> Mapping[str, Mapping[str, Any]]:
    """Every configuration by its name: `config`, and `expected` counts and bytes."""
    lines = (_DATA / "models.jsonl").read_text(encoding="utf-8").splitlines()
    return {entry["name"]: entry for entry in map(json.loads, lines)}


def config_of(name: str) -> Mapping[str, Any]:
    config: Mapping[str, Any] = models()[name]["config"]
    return config


@cache
def launches() -> tuple[Mapping[str, Any], ...]:
    """The real launches of tests/data/vllm_runs.json."""
    return tuple(json.loads((_DATA / "vllm_runs.json").read_text(encoding="utf-8"))["runs"])


COPY_SHARE = 0.87
"""What a copy reaches of the link's rate that stands beside the launches (`nexus_orch.facts.machine.catalogue`)."""


def make_gpu(**changes: Any) -> GpuFacts:
    """An RTX 4090 that nothing else uses."""
    card = GpuFacts(
        index=0,
        name="RTX 4090",
        total_bytes=int(23.55 * GIB),
        free_bytes=int(23.3 * GIB),
        source="catalogue",
        memory_bandwidth_bytes_per_second=1008e9,
        host_bandwidth_bytes_per_second=25e9,
        compute_capability=(8, 9),
        supports_bf16=True,
        supports_fp8=True,
        fp16_flops=165e12,
    )
    return replace(card, **changes)


def make_facts(
    model: str | Mapping[str, Any],
    *gpus: GpuFacts,
    version: str = "0.32.0",
    ram_gib: float = 64,
    is_wsl: bool = False,
) -> Facts:
    """Facts of a model by name or by its configuration on these cards; without cards, on the CPU engine."""
    name = model if isinstance(model, str) else "some-model"
    config = config_of(model) if isinstance(model, str) else model
    ram = int(ram_gib * GIB)
    cards = tuple(replace(gpu, index=index) for index, gpu in enumerate(gpus))
    return Facts(
        model=ModelFacts(name=name.split("/")[-1].lower(), path=name, config=config, config_source="profile"),
        machine=MachineFacts("test", cards, HostFacts(ram, ram, 0, 0, 8, "profile"), "linux", is_wsl),
        engine=EngineFacts(version, "cuda" if gpus else "cpu", "catalogue"),
    )


def make_spec(settings: Mapping[str, Any] | None = None) -> RunSpec:
    """A spec with these dotted keys pinned on the command line."""
    groups: dict[str, dict[str, Any]] = {
        "model": {},
        "memory": {},
        "serve": {},
        "engine": {},
        "kv_cache": {},
        "speculative": {},
        "lora": {},
    }
    for key, value in (settings or {}).items():
        *_, group, name = key.split(".")
        groups[group][name] = value
    return RunSpec(
        name="test",
        model=ModelSpec(name="m", lora=LoraSpec(**groups["lora"]), **groups["model"]),
        memory=MemorySpec(kv_cache=KvCacheSpec(**groups["kv_cache"]), **groups["memory"]),
        serve=ServeSpec(speculative=SpeculativeSpec(**groups["speculative"]), **groups["serve"]),
        engine=EngineSpec(**groups["engine"]),
        origins=dict.fromkeys(settings or {}, "command line"),
    )


def plan_of(
    model: str | Mapping[str, Any], *gpus: GpuFacts, settings: Mapping[str, Any] | None = None, **facts: Any
) -> Plan:
    return make_plan(make_spec(settings), make_facts(model, *gpus, **facts), LOADERS)


def launch_facts(launch: Mapping[str, Any]) -> Facts:
    """The facts of a real launch."""
    card, config = launch["gpu"], {**config_of(launch["config_of"]), **launch.get("config_changes", {})}
    gpu = make_gpu(
        name=card["name"],
        total_bytes=int(card["total_gib"] * GIB),
        free_bytes=int(card["total_gib"] * GIB),
        memory_bandwidth_bytes_per_second=card["memory_bandwidth_gbs"] * 1e9,
        host_bandwidth_bytes_per_second=card["host_bandwidth_gbs"] * 1e9 * COPY_SHARE,
        compute_capability=tuple(card["compute_capability"]),
        fp16_flops=card["fp16_tflops"] * 1e12,
    )
    return make_facts(config, *[gpu] * card["count"], version=launch["vllm_version"], ram_gib=512)


def plan_launch(launch: Mapping[str, Any]) -> Plan:
    """The plan of a real launch with its own settings; batching that it left open is what the release takes."""
    facts = launch_facts(launch)
    settings = {**launch["settings"], "engine.env": launch["env"]}
    offloads = "memory.cpu_offload_gib" in settings
    settings["memory.strategy"] = "hybrid" if offloads else "vram_only"
    inputs = read_inputs(make_spec(settings), facts, ())
    gpu = facts.machine.gpus[0]
    generation = choose_generation(facts.engine, inputs.architecture, quantized=inputs.scheme.method is not None)
    tokens, requests = default_batching(
        gpu.total_bytes, gpu.name, generation, launch["settings"]["serve.tensor_parallel"]
    )
    settings.setdefault("serve.max_num_batched_tokens", tokens)
    settings.setdefault("serve.max_num_seqs", requests)
    settings.setdefault("model.max_model_len", make_target(inputs).context)
    return make_plan(make_spec(settings), facts, LOADERS)


def kv_gib(plan: Plan) -> float:
    """The KV cache of a card in GiB as the engine reports it: negative where nothing is left."""
    card = plan.per_gpu[0]
    return (card.kv_cache_bytes + card.headroom_bytes) / GIB
