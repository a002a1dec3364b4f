"""How each generation of vLLM accounts for memory: one record of rules for a release, a model and a device."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

from nexus_orch.plan.model.architecture import Architecture
from nexus_orch.plan.release.kv_cache import CacheRules
from nexus_orch.releases import engine as engines
from nexus_orch.releases import memory
from nexus_orch.releases.lora import captures_without_adapters
from nexus_orch.releases.speculation import graphs_by_draft_width, second_runner_drafts
from nexus_orch.types import GIB, EngineFacts

SamplerKind = Literal["sorted", "fused", "greedy", "in_place", "flashinfer"]
"""What the sampler allocates in the profile: a full sort for top-k and top-p, a fused kernel, an argmax, a copy in
float32 that is worked on in place, or FlashInfer's probabilities beside that copy."""


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
    captures_own_sizes: bool
    """The largest batch is captured even where it lies between the steps."""
    fine_graph_sizes: bool
    """Capture sizes go in steps of 8 up to 512, not of 16 from 256 on."""
    whole_segments: bool
    """See `nexus_orch.plan.release.weights.allocated_bytes`."""
    largest_batches: bool
    """Cards of 160 GiB and more take 16,384 tokens at once by default, and capture graphs of up
    to 1,024 on data-center Blackwell."""
    draft_wide_graphs: bool
    """Graphs are captured for the tokens that are drafted too."""
    graphs_for_adapters: bool
    """Graphs are captured with LoRA adapters and once more without."""
    profiles_prompt: bool
    """Without chunked prefill the profile runs one prompt of max_model_len tokens (V0)."""
    free_compared: bool
    """Everything that is still taken after the profile counts when the KV cache is sized, whoever took it: the prefetch
    offloader's pool, the sampler's state, the workspace of experts. Before, what is not PyTorch's peak or outside
    PyTorch comes on top of the budget."""
    is_early: bool
    """A release of which hardly a launch is known, and those had less room than its rules say."""
    profiles_towers: bool
    """The vision tower is run while memory is profiled."""
    handles_first: bool
    """The handles of cuBLAS and its workspace are there before vLLM looks at the card, so that nobody counts them."""
    times_kernels: bool
    """See `nexus_orch.plan.release.accounting.compiling_bytes`."""
    blocks_for_requests: bool
    """With CUDA graphs, a model with states must have a block of its KV cache for each of max_num_seqs."""
    offload_ignored: bool
    """The model runner ignores every weight offloader without a word."""
    cache: CacheRules


def has_v2_runner(engine: EngineFacts, architecture: Architecture, *, quantized: bool) -> bool:
    """Whether this release runs the model on its V2 model runner when VLLM_USE_V2_MODEL_RUNNER is not set."""
    return engines.has_second_runner(
        engine.version,
        architecture.model_type,
        is_moe=architecture.is_moe,
        is_hybrid=architecture.is_hybrid,
        is_quantized=quantized,
    )


def choose_generation(
    engine: EngineFacts,
    architecture: Architecture,
    *,
    quantized: bool,
    offloading: bool = False,
    v2_runner: bool | None = None,
    method: str | None = None,
    flashinfer_sampler: bool = True,
) -> Generation:
    """The rules for this engine and model. Where the V2 runner ignores offloading, a run that offloads is planned for
    the V1 runner, which the adapter asks for (VLLM_USE_V2_MODEL_RUNNER=0). `v2_runner` is what the user chose himself
    by that variable, `method` that of speculative decoding, which a release may run on the V1 runner alone,
    `flashinfer_sampler` whether FlashInfer samples where it is installed."""
    version = engine.version
    if engine.device == "cpu":
        return _cpu(version)
    v0 = engines.v0_by_default(version)
    v2 = has_v2_runner(engine, architecture, quantized=quantized) if v2_runner is None else v2_runner and not v0
    ignored = v2 and engines.second_runner_ignores_weights(version)
    drafts = method is None or second_runner_drafts(version, method)
    if (ignored and offloading) or not drafts:
        v2 = False
    samples = flashinfer_sampler and engine.flashinfer is not False
    return _gpu(version, v0=v0, v2=v2, ignored=ignored and v2, flashinfer=samples)


@cache
def _gpu(version: str, *, v0: bool, v2: bool, ignored: bool, flashinfer: bool) -> Generation:
    reserves_graphs = memory.second_runner_reserves_graphs if v2 else memory.first_runner_reserves_graphs
    return Generation(
        name="V0" if v0 else "V2 runner" if v2 else "V1 runner",
        default_utilization=_default_utilization(version),
        sampler=_sampler(version, v2, flashinfer),
        graphs_reserved=reserves_graphs(version),
        both_graph_kinds=memory.captures_both_kinds(version),
        captures_own_sizes=memory.captures_own_sizes(version),
        fine_graph_sizes=not memory.captures_wide_steps(version),
        whole_segments=memory.runs_torch_2_11(version),
        largest_batches=memory.takes_largest_batches(version),
        draft_wide_graphs=graphs_by_draft_width(version),
        graphs_for_adapters=captures_without_adapters(version),
        profiles_prompt=v0,
        free_compared=memory.compares_free_memory(version),
        is_early=memory.is_little_known(version),
        profiles_towers=memory.profiles_towers(version),
        handles_first=memory.makes_handles_first(version),
        times_kernels=memory.runs_torch_2_11(version),
        blocks_for_requests=memory.wants_block_for_each_request(version),
        offload_ignored=ignored,
        cache=_cache_rules(version),
    )


def _default_utilization(version: str) -> float:
    return 0.92 if memory.takes_92_percent(version) else 0.9


def _sampler(version: str, v2: bool, flashinfer: bool) -> SamplerKind:
    """FlashInfer's sampler of the first runner (used up to 0.11.0 where it is installed) is fused as well: the plan
    keeps to the safe side."""
    if v2 and not memory.second_runner_profiles_sampler(version):
        return "greedy"
    if v2:
        return "flashinfer" if flashinfer else "in_place"
    return "fused" if memory.samples_fused(version) else "sorted"


def _cache_rules(version: str) -> CacheRules:
    return CacheRules(
        hybrid=memory.groups_layers(version),
        even_groups=memory.evens_groups(version),
        latents=memory.caches_latents(version),
        prefixes_of_states=memory.caches_prefixes_of_states(version),
        state_of_each_block=memory.keeps_state_of_each_block(version),
        batches_in_flight=memory.counts_batches_in_flight(version),
        null_block=memory.keeps_null_block(version),
        tokens_by_concurrency=memory.tells_tokens_by_concurrency(version),
        concurrency_by_bytes=memory.weighs_blocks_by_page(version),
    )


def _cpu(version: str) -> Generation:
    return Generation(
        name="CPU",
        default_utilization=_default_utilization(version),
        sampler="greedy",
        graphs_reserved=False,
        both_graph_kinds=False,
        captures_own_sizes=False,
        fine_graph_sizes=False,
        whole_segments=False,
        largest_batches=False,
        draft_wide_graphs=False,
        graphs_for_adapters=False,
        profiles_prompt=False,
        free_compared=True,
        is_early=False,
        profiles_towers=False,
        handles_first=False,
        times_kernels=False,
        blocks_for_requests=False,
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
