"""What vLLM finds when it profiles a GPU: activations, memory outside PyTorch, CUDA graphs. Constants are measured."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

from nexus_orch import data
from nexus_orch.plan.model.architecture import Architecture
from nexus_orch.plan.release.generations import Generation
from nexus_orch.types import GIB, KIB, MIB, GpuFacts

ACTIVATION_DTYPE_BYTES = 2

LONGEST_WHOLE_PROMPT = 32768
"""Beyond this context V0 prefills in chunks by itself, and its profile no longer holds a whole prompt
(engine/arg_utils.py of 0.6 and 0.7)."""

LEAST_OF_COMPILING = 0.85
"""The share of the expected peak of compiling from which on a measured peak is taken for it: 0.91 was the least of four
models (see `compiling_bytes`)."""


@dataclass(frozen=True)
class Batch:
    """The shape of a run that decides its activations."""

    batched_tokens: int
    requests: int
    max_model_len: int
    tensor_parallel: int


@cache
def measured(section: str) -> Any:
    """One section of the packaged measurements (data/measured.json); each states where its values come from."""
    return data.load("measured.json")[section]


def activation_bytes(architecture: Architecture, generation: Generation, batch: Batch, gpu: GpuFacts) -> int:
    """Bytes of the peak of one profiling pass: the widest feed-forward block, or the sampler over all requests' logits,
    and the workspace of cuBLAS beside either.

    Both are built of the tensors that the code allocates; how many of them live at the peak was fitted
    (data/measured.json, `activation`). Logits are gathered on every rank, so that tensor parallelism does not help.
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
    widest = _feed_forward_bytes(architecture, generation, replace(batch, batched_tokens=tokens), hidden)
    return max(logits, widest) + _workspace_bytes(gpu)


def compiling_bytes(embedding_bytes: int, generation: Generation, gpu: GpuFacts, cache_gib: float | None) -> int:
    """Bytes of the peak of a start that compiles the model, which is part of the profile, where that is seen. A KV
    cache whose size is given (`cache_gib`) is taken afterwards, in the same memory.

    Kernels are timed with tensors made for it, one of which is as large as the embedding of the rank
    (`benchmark_combo_kernel`: config/compilation.py of vLLM 0.25.1, _inductor/codegen/triton_combo_kernel.py of torch).
    On H200 and H100 with torch 2.11 that held within 25 MiB for Qwen2.5-7B, 14B and Llama-3.1-8B, and within 80 for
    Qwen3-8B and Qwen3-30B-A3B; with vLLM 0.17.1 and torch 2.10 it was not seen. What was compiled is kept, and a later
    start that finds it has more room: one of Qwen3-8B had what the forward pass alone leaves.
    """
    if not generation.times_kernels or not embedding_bytes:
        return 0
    return max(0, embedding_bytes + _workspace_bytes(gpu) - int((cache_gib or 0) * GIB))


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


def _workspace_bytes(gpu: GpuFacts) -> int:
    """Bytes that PyTorch keeps for cuBLAS from the first matrix product on (ATen/cuda/CublasHandlePool.cpp)."""
    datacenter = gpu.compute_capability is not None and gpu.compute_capability[0] in (9, 10)
    return 32 * MIB if datacenter else 8320 * KIB


def _feed_forward_bytes(architecture: Architecture, generation: Generation, batch: Batch, hidden_bytes: int) -> int:
    """Bytes of gate and up together, their product, and the hidden states around them.

    Of experts, the two workspaces: a row for each expert that a token is routed to. The outputs are as wide as the
    hidden size on every rank; in the modular kernels so is what lies between (TritonExperts.workspace_shapes in
    layers/fused_moe of 0.25.1), before them it has the experts' width (fused_experts_impl).
    """
    copies = measured("activation")["feed_forward_hidden_copies"]
    widest = 0.0
    for layer, _ in architecture.distinct_layers:
        dense = 3 * layer.mlp_width / batch.tensor_parallel
        width = layer.expert_width / batch.tensor_parallel
        between = max(width, architecture.hidden_size) if generation.whole_segments else width
        routed = layer.experts_per_token * (max(2 * width, architecture.hidden_size) + between)
        widest = max(widest, dense, routed if layer.experts_per_token else 0.0)
    return int(batch.batched_tokens * widest * ACTIVATION_DTYPE_BYTES + copies * hidden_bytes)


def non_torch_bytes(gpu: GpuFacts, generation: Generation, ranks: int, *, experts: bool) -> int:
    """Bytes of CUDA context growth, NCCL, library workspaces and compiled kernels, as vLLM counts them
    (`non_torch`)."""
    constants = measured("non_torch")
    hopper = gpu.compute_capability is not None and gpu.compute_capability >= (9, 0)
    base = constants["hopper_torch_2_11" if generation.whole_segments else "hopper"] if hopper else constants["other"]
    if generation.whole_segments and not hopper:
        base = constants["other_torch_2_11"]
    parallel = constants["hopper_parallel"] if hopper else constants["other_parallel"]
    kernels = constants["experts_torch_2_11"] if experts and generation.whole_segments else 0
    return int((base + kernels + (parallel if ranks > 1 else 0)) * MIB)


def capture_sizes(generation: Generation, requests: int, batched_tokens: int) -> int:
    """How many batch sizes are captured by default (config/compilation.py): 1, 2, 4, steps of 8, from 256 on 16."""
    largest = min(2 * requests, 512, batched_tokens)
    if generation.fine_graph_sizes:
        return 3 + largest // 8
    return 3 + min(largest, 256) // 8 + max(0, largest - 256) // 16


def cuda_graph_bytes(architecture: Architecture, generation: Generation, batch: Batch, *, eager: bool) -> int:
    """Bytes of the captured graphs; 0 when eager."""
    if eager or generation.name == "CPU":
        return 0
    graphs = capture_sizes(generation, batch.requests, batch.batched_tokens) * (2 if generation.both_graph_kinds else 1)
    constants = measured("cuda_graph_mib_per_layer_and_size")
    each = constants["v2_runner" if generation.name == "V2 runner" else "v1_runner"]
    return int(len(architecture.layers) * graphs * each * MIB)


@dataclass(frozen=True)
class Doubt:
    """Bytes by which the KV cache may be smaller (`below`) or larger (`above`) than estimated."""

    below: int
    above: int


def kv_doubt(generation: Generation, activation: int, ranks: int) -> Doubt:
    """The range of the estimate. Sorting is assumed where FlashInfer may sample instead, so that it reaches upwards;
    with several ranks NCCL's buffers are the largest unknown."""
    constants = measured("uncertainty")
    base = (constants["base_mib"] + (constants["parallel_mib"] if ranks > 1 else 0)) * MIB
    below = base + constants["activation_share_below"] * activation
    return Doubt(int(below), int(base + constants["activation_share_above"][generation.sampler] * activation))
