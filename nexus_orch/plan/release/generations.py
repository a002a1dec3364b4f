"""How each generation of vLLM accounts for memory: one record of rules for a release, a model and a device."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

from packaging.version import Version

from nexus_orch.plan.model.architecture import Architecture
from nexus_orch.plan.release.kv_cache import CacheRules
from nexus_orch.types import GIB, EngineFacts
from nexus_orch.types.releases import parse_version

SamplerKind = Literal["sorted", "fused", "greedy"]
"""What the sampler allocates in the profile: a full sort for top-k and top-p, a fused kernel, or an argmax."""


@dataclass(frozen=True)
class Generation:
    """The rules of one release for one model."""

    name: str
    """"V0", "V1 runner", "V2 runner" or "CPU"."""
    default_utilization: float
    sampler: SamplerKind
    graphs_reserved: bool
    """CUDA graphs are estimated and kept out of the KV cache; else they come on top of the budget."""
    both_graph_kinds: bool
    """Graphs are captured piecewise and in full."""
    fine_graph_sizes: bool
    """Capture sizes go in steps of 8 up to 512 (before 0.11.2), not of 16 from 256 on."""
    whole_segments: bool
    """See `nexus_orch.plan.release.weights.allocated_bytes`."""
    largest_batches: bool
    """Cards of 160 GiB and more take 16,384 tokens at once by default (seen in 0.32.0)."""
    profiles_prompt: bool
    """Without chunked prefill the profile runs one prompt of max_model_len tokens (V0)."""
    pool_reserved: bool
    """The prefetch offloader's static pool is counted when the KV cache is sized (from 0.28: free memory is compared);
    before, it comes on top of the budget."""
    times_kernels: bool
    """See `nexus_orch.plan.release.accounting.compiling_bytes`."""
    offload_ignored: bool
    """The V2 runner of 0.22.1 to 0.25.1 ignores every weight offloader without a word."""
    cache: CacheRules


_V2_MOE_FROM_0_25 = frozenset({"deepseek_v2", "deepseek_v3", "qwen2_moe", "granitemoe"})


def has_v2_runner(version: Version, architecture: Architecture, *, quantized: bool) -> bool:
    """Whether this release runs the model on its V2 model runner when VLLM_USE_V2_MODEL_RUNNER is not set
    (vllm/config/vllm.py of 0.22.1, 0.25.1 and 0.30)."""
    if version >= parse_version("0.30"):
        return True
    if version >= parse_version("0.25"):
        return architecture.model_type in _V2_MOE_FROM_0_25 or not (architecture.is_moe or architecture.is_hybrid)
    if version >= parse_version("0.22"):
        return architecture.model_type == "qwen3" and not quantized
    return False


def choose_generation(
    engine: EngineFacts,
    architecture: Architecture,
    *,
    quantized: bool,
    offloading: bool = False,
    v2_runner: bool | None = None,
) -> Generation:
    """The rules for this engine and model. A run that offloads on 0.22.1 to 0.25.1 needs the V1 runner, which the
    adapter sets (VLLM_USE_V2_MODEL_RUNNER=0): it is planned with that runner's rules. `v2_runner` is what the user
    chose himself by that variable."""
    version = parse_version(engine.version)
    if engine.device == "cpu":
        return _cpu(version)
    v0 = version < parse_version("0.8")
    v2 = has_v2_runner(version, architecture, quantized=quantized) if v2_runner is None else v2_runner and not v0
    ignored = v2 and parse_version("0.22") <= version < parse_version("0.28")
    if ignored and offloading:
        v2 = False
    return _gpu(version, v0=v0, v2=v2, ignored=ignored and v2)


@cache
def _gpu(version: Version, *, v0: bool, v2: bool, ignored: bool) -> Generation:
    return Generation(
        name="V0" if v0 else "V2 runner" if v2 else "V1 runner",
        default_utilization=0.92 if version >= Version("0.22") else 0.9,
        sampler=_sampler(version, v2),
        graphs_reserved=version >= Version("0.30") or (version >= Version("0.22") and not v2),
        both_graph_kinds=version >= Version("0.10.2"),
        fine_graph_sizes=version < Version("0.11.2"),
        whole_segments=version >= Version("0.20"),
        largest_batches=version >= Version("0.32"),
        profiles_prompt=v0,
        pool_reserved=version >= Version("0.28"),
        times_kernels=version >= Version("0.20"),
        offload_ignored=ignored,
        cache=_cache_rules(version),
    )


def _sampler(version: Version, v2: bool) -> SamplerKind:
    """Sorted up to 0.15, fused from 0.16 (a Triton kernel for top-k, top-p); the V2 runner up to 0.32 skips top-k and
    top-p while profiling. FlashInfer's sampler (used up to 0.11.0 where it is installed) is fused as well: the plan
    cannot see it and keeps to the safe side."""
    if v2 and version < Version("0.33"):
        return "greedy"
    return "fused" if version >= Version("0.16") else "sorted"


def _cache_rules(version: Version) -> CacheRules:
    return CacheRules(
        hybrid=version >= Version("0.9"),
        even_groups=version >= Version("0.12"),
        null_block=version >= Version("0.30"),
        tokens_by_concurrency=version >= Version("0.22"),
    )


def _cpu(version: Version) -> Generation:
    return Generation(
        name="CPU",
        default_utilization=0.92 if version >= Version("0.22") else 0.9,
        sampler="greedy",
        graphs_reserved=False,
        both_graph_kinds=False,
        fine_graph_sizes=False,
        whole_segments=False,
        largest_batches=False,
        profiles_prompt=False,
        pool_reserved=True,
        times_kernels=False,
        offload_ignored=True,
        cache=_cache_rules(version),
    )


def default_batching(device_bytes: int, device_name: str, generation: Generation, ranks: int) -> tuple[int, int]:
    """max_num_batched_tokens and max_num_seqs that `vllm serve` takes by default (engine/arg_utils.py,
    get_batch_defaults): from 70 GiB on, except A100, 8192 and 1024, else 2048 and 256; CPU by its ranks."""
    if generation.name == "CPU":
        return 2048 * ranks, 128 * ranks
    if generation.name == "V0":
        return 2048, 256
    if device_bytes >= 160 * GIB and generation.largest_batches:
        return 16384, 1024
    if device_bytes >= 70 * GIB and "a100" not in device_name.lower():
        return 8192, 1024
    return 2048, 256
