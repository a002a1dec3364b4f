"""The peak that vLLM finds when it profiles a GPU, and how sure the estimate is. Constants are measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from nexus_orch.plan.model.architecture import Architecture
from nexus_orch.plan.release.generations import Generation
from nexus_orch.plan.release.kept import (
    ACTIVATION_DTYPE_BYTES,
    Batch,
    measured,
    routed_bytes,
    top_k_buffer_bytes,
)
from nexus_orch.types import GIB, KIB, MIB, GpuFacts

LONGEST_WHOLE_PROMPT = 32768
"""Beyond this context V0 prefills in chunks by itself, and its profile no longer holds a whole prompt
(engine/arg_utils.py of 0.6 and 0.7)."""

VERIFIED_ROWS = 2
"""Rows of logits that the first model runner makes for each request beside its own where tokens are drafted: one that
is verified and one more (v1/worker/gpu_model_runner.py: _dummy_sampler_run, `num_tokens + num_reqs`; one before
0.11.0). The second model runner makes none."""

REBINDING_FAMILIES = frozenset({"llama", "mistral", "mistral3", "internlm3", "phi3", "nemotron-nas"})
"""Families whose feed-forward block is vLLM's LlamaMLP: it gives the product of gate and up the name of its input,
which is then free before the last matrix (models/llama.py of 0.22.0 to 0.33.0; others, as qwen2.py, keep it).
V0's profile of a Llama shows the fourth copy all the same (0.6.4 on an RTX 3090)."""

NETWORKED = 2.5
"""How much less sure each of several machines with shared memory is than one alone (MiniMax-M2.7 on two GB10 lacked
11.9 GiB)."""

LEAST_OF_COMPILING = 0.85
"""The share of the expected peak of compiling from which on a measured peak is taken for it: 0.91 was the least of four
models (see `compiling_bytes`)."""


def activation_bytes(architecture: Architecture, generation: Generation, batch: Batch, gpu: GpuFacts) -> int:
    """The peak of one profiling pass: the widest feed-forward block, or the sampler over all requests' logits, and the
    workspace of cuBLAS beside either, where that is counted.

    Both are built of the tensors that the code allocates; how many of them live at the peak was fitted
    (data/measured.json, `activation`). Logits are gathered on every rank, so that tensor parallelism does not help.
    From 0.33 on the second model runner gathers the requests' hidden states apart, and what it keeps for top-k is taken
    after the feed-forward block and counts as kept (`nexus_orch.plan.release.kept`): a peak counts above it.
    """
    constants = measured("activation")[generation.sampler]
    tokens = batch.batched_tokens
    if generation.profiles_prompt and batch.max_model_len <= LONGEST_WHOLE_PROMPT:
        tokens = max(tokens, batch.max_model_len)
    hidden = tokens * architecture.hidden_size * ACTIVATION_DTYPE_BYTES
    requests = min(batch.requests, tokens)
    logits = int(
        requests * architecture.vocabulary * constants["bytes_per_logit"] + constants["hidden_copies"] * hidden
    )
    if batch.drafted and generation.name == "V1 runner":
        logits += requests * architecture.vocabulary * VERIFIED_ROWS * ACTIVATION_DTYPE_BYTES
    if generation.handles_first:
        logits += requests * architecture.hidden_size * ACTIVATION_DTYPE_BYTES
    widest = _feed_forward_bytes(architecture, generation, replace(batch, batched_tokens=tokens), hidden)
    widest -= top_k_buffer_bytes(architecture, generation, batch)
    return max(logits, widest) + _workspace_bytes(gpu, generation)


def compiling_bytes(
    embedding_bytes: int, kept_bytes: int, generation: Generation, gpu: GpuFacts, cache_gib: float | None
) -> int:
    """The peak of a start that compiles the model, which is part of the profile, where that is seen. A KV cache whose
    size is given (`cache_gib`) is taken afterwards, in the same memory, and so is what the sampler keeps for top-k
    (`kept_bytes`).

    Kernels are timed with tensors made for it, one of which is as large as the embedding of the rank
    (`benchmark_combo_kernel`: config/compilation.py of vLLM 0.25.1, _inductor/codegen/triton_combo_kernel.py of torch).
    On H200 and H100 with torch 2.11 that held within 25 MiB for Qwen2.5-7B, 14B and Llama-3.1-8B, and within 80 for
    Qwen3-8B and Qwen3-30B-A3B; with vLLM 0.17.1 and torch 2.10 it was not seen. What was compiled is kept, and a later
    start that finds it has more room: one of Qwen3-8B had what the forward pass alone leaves.
    """
    if not generation.times_kernels or not embedding_bytes:
        return 0
    return max(0, embedding_bytes - kept_bytes + _workspace_bytes(gpu, generation) - int((cache_gib or 0) * GIB))


@dataclass(frozen=True)
class Peak:
    """Bytes of a forward pass, and of compiling on each card, which is 0 where nothing is compiled."""

    pass_bytes: int
    compiling_bytes: tuple[int, ...]

    @cached_property
    def bytes(self) -> tuple[int, ...]:
        """Bytes that the profile finds on each card."""
        return tuple(max(self.pass_bytes, compiling) for compiling in self.compiling_bytes)

    @property
    def later_gain_bytes(self) -> int:
        """Bytes that every card has more for the KV cache when a later start finds what was compiled."""
        return min(self.bytes) - self.pass_bytes


def learn_peak(expected: Peak, eager: int | None, compiled: int | None) -> Peak:
    """The expected peak with what starts have measured: an eager one, and one that may have compiled the model. A later
    one has the peak of its pass, which is no promise for the next that compiles."""
    if compiled is None:
        return expected if eager is None else replace(expected, pass_bytes=eager)
    compiling = max(expected.compiling_bytes)
    if not compiling or compiled < LEAST_OF_COMPILING * compiling:
        return replace(expected, pass_bytes=compiled)
    alone = expected.pass_bytes if eager is None else eager
    return Peak(min(alone, compiled), tuple(compiled if each else 0 for each in expected.compiling_bytes))


def _workspace_bytes(gpu: GpuFacts, generation: Generation) -> int:
    """What PyTorch keeps for cuBLAS from the first matrix product on (ATen/cuda/CublasHandlePool.cpp); from 0.33 on
    that is before vLLM looks at the card."""
    if generation.handles_first:
        return 0
    datacenter = gpu.compute_capability is not None and gpu.compute_capability[0] in (9, 10)
    return 32 * MIB if datacenter else 8320 * KIB


def _feed_forward_bytes(architecture: Architecture, generation: Generation, batch: Batch, hidden_bytes: int) -> int:
    """Gate and up together, their product, and the hidden states around them; the workspaces of experts, where they are
    given back (`nexus_orch.plan.release.kept`)."""
    constants = measured("activation")
    rebinds = architecture.model_type in REBINDING_FAMILIES and not generation.profiles_prompt
    copies = constants["rebinding_hidden_copies" if rebinds else "feed_forward_hidden_copies"]
    widest = 0.0
    for layer, _ in architecture.distinct_layers:
        widest = max(widest, 3 * layer.mlp_width / batch.tensor_parallel)
    dense = int(batch.batched_tokens * widest * ACTIVATION_DTYPE_BYTES)
    routed = 0 if generation.free_compared else routed_bytes(architecture, generation, batch)
    return max(dense, routed) + int(copies * hidden_bytes)


@dataclass(frozen=True)
class Doubt:
    """Bytes by which the KV cache may be smaller (`below`) or larger (`above`) than estimated."""

    below: int
    above: int


@dataclass(frozen=True)
class Kinds:
    """What makes a run less sure than a plain one on a card with memory of its own."""

    machines: int = 0
    """Machines whose card shares its memory with the host; 0 where it has its own."""
    is_coherent: bool = False
    """The host keeps files in the card's memory, too (Grace and a GPU on one board)."""
    has_cuda: bool = True
    is_consumer: bool = False
    """A card that people have at home, with CUDA graphs."""
    tower_bytes: int = 0
    """Bytes that a vision tower is planned to take while it is profiled."""
    packed_bytes: int = 0
    """Quantized weights of a rank; 0 where they are plain."""
    is_mixed: bool = False
    """Some of these stay as they were, by a list of names."""
    packs_experts: bool = False
    """Experts are quantized: what their kernels take differs by card and release."""
    has_adapters: bool = False
    """Room for LoRA adapters is not counted."""
    beside_bytes: int = 0
    """What may be more or less of a draft whose shape is not known."""


def kv_doubt(generation: Generation, activation: int, ranks: int, kinds: Kinds) -> Doubt:
    """The range of the estimate: nine of ten launches lie in it. Its widths are sums of what launches of each kind
    missed, set on 123 of them (data/measured.json, `uncertainty`; docs/measurements.md).

    Downwards there is what nobody counts: buffers of NCCL, kernels of experts, another process. Upwards there is what
    is counted and may not be needed: sorting, where FlashInfer samples instead, or images that are not served."""
    constants = measured("uncertainty")
    weights = "mixed_weights_share" if kinds.is_mixed else "packed_weights_share"
    below, above = (
        int(
            sum(_applied(constants[side], generation, ranks, kinds)) * MIB
            + constants[side][weights] * kinds.packed_bytes
            + constants[side]["activation_share"][generation.sampler] * activation
            + constants[side]["tower_share"] * kinds.tower_bytes
        )
        + kinds.beside_bytes
        for side in ("below", "above")
    )
    return Doubt(below, above)


def _applied(constants: Mapping[str, float], generation: Generation, ranks: int, kinds: Kinds) -> Iterator[float]:
    """The MiB of each kind that this run is of."""
    several = max(1, NETWORKED * kinds.machines if kinds.machines > 1 else 1)
    yield constants["base_mib"]
    yield constants["parallel_mib"] if ranks > 1 else 0
    yield constants["unified_mib"] * several if kinds.machines else 0
    yield constants["coherent_mib"] if kinds.is_coherent else 0
    yield 0 if kinds.has_cuda else constants["other_vendor_mib"]
    yield constants["consumer_mib"] if kinds.is_consumer else 0
    yield constants["packed_experts_mib"] if kinds.packs_experts else 0
    yield constants["adapters_mib"] if kinds.has_adapters else 0
    yield constants["early_mib"] if generation.is_early else 0
