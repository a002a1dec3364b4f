"""What stays taken on a card after the profile, beside the weights: the state of the sampler, the workspace of experts,
and what lies outside PyTorch. Sizes follow from the sources; constants are measured (data/measured.json)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from nexus_orch import data
from nexus_orch.plan.model.architecture import Architecture
from nexus_orch.plan.release.generations import Generation
from nexus_orch.types import KIB, MIB, GpuFacts

ACTIVATION_DTYPE_BYTES = 2

STATE_BYTES_PER_WORD = 4 + 1 / 8 + 1 / 8
"""Of each request and word of the vocabulary: how often it was answered (int32), whether it was asked, whether the
grammar allows it (v1/worker/gpu/sample/penalties.py, v1/worker/gpu/structured_outputs.py of 0.33.0)."""
STATE_BYTES_PER_REQUEST = 3 * 1024 * 4 + 128 * 4 + 1024 * 4 + 129 * 4 + 128 * 4
"""Tables of fixed width of each request (v1/worker/gpu/sample: logit_bias.py, bad_words.py, logprob.py of 0.33.0)."""
MULTIPROCESSORS = 132
"""Multiprocessors of an H100 or H200, of which each gets a row of the top-k buffer; other cards have 30 to 170, and a
row is 0.6 MiB."""
_LARGEST_FUSED_EXCHANGE = {
    (9, 0): {2: 64 * MIB, 4: 2 * MIB, 8: 512 * KIB},
    (10, 0): {2: 64 * MIB, 4: 32 * MIB, 8: 1 * MIB},
    (10, 3): {2: 64 * MIB, 4: 64 * MIB, 8: 4 * MIB},
}
"""The largest all-reduce that FlashInfer fuses, by compute capability and ranks
(compilation/passes/fusion/allreduce_rms_fusion.py of 0.33.0)."""


@dataclass(frozen=True)
class Batch:
    """The shape of a run that decides its activations."""

    batched_tokens: int
    requests: int
    max_model_len: int
    tensor_parallel: int
    drafted: int = 0
    """Tokens that are drafted for each request and step."""
    adapts: bool = False
    """LoRA adapters are served."""
    draft_layers: int = 0
    """Layers of the draft, which has graphs of its own."""


@cache
def measured(section: str) -> Any:
    """One section of the packaged measurements (data/measured.json); each states where its values come from."""
    return data.load("measured.json")[section]


def sampler_state_bytes(architecture: Architecture, generation: Generation, batch: Batch) -> int:
    """What the second model runner keeps for each request of the batch on the cards that sample, the last stage's;
    undivided by tensor parallelism."""
    if generation.name != "V2 runner":
        return 0
    return int(batch.requests * (architecture.vocabulary * STATE_BYTES_PER_WORD + STATE_BYTES_PER_REQUEST))


def top_k_buffer_bytes(architecture: Architecture, generation: Generation, batch: Batch) -> int:
    """The buffer that sampling in place keeps for top-k (v1/sample/ops/topk_topp_triton.py: _TRITON_BUFFER_CACHE)."""
    if generation.sampler != "in_place":
        return 0
    rows = min(MULTIPROCESSORS, batch.requests)
    return min(1 << (rows - 1).bit_length(), MULTIPROCESSORS) * architecture.vocabulary * 4


def routed_bytes(architecture: Architecture, generation: Generation, batch: Batch) -> int:
    """The two workspaces of experts: a row for each expert that a token is routed to; 0 without experts.

    The outputs are as wide as the hidden size on every rank; in the modular kernels so is what lies between
    (TritonExperts.workspace_shapes in layers/fused_moe of 0.25.1), before them it has the experts' width
    (fused_experts_impl).
    """
    widest = 0.0
    for layer, _ in architecture.distinct_layers:
        if layer.experts_per_token:
            width = layer.expert_width / batch.tensor_parallel
            between = max(width, architecture.hidden_size) if generation.whole_segments else width
            widest = max(widest, layer.experts_per_token * (max(2 * width, architecture.hidden_size) + between))
    return int(batch.batched_tokens * widest * ACTIVATION_DTYPE_BYTES)


def kept_bytes(architecture: Architecture, generation: Generation, batch: Batch, *, samples: bool) -> int:
    """What stays in PyTorch's hands after the profile and counts against the KV cache, where the release compares free
    memory. The workspace of experts is kept for good (fused_moe/modular_kernel.py: current_workspace_manager);
    `samples`: the card belongs to the last stage."""
    if not generation.free_compared or generation.name == "CPU":
        return 0
    sampling = 0
    if samples:
        sampling = sampler_state_bytes(architecture, generation, batch)
        sampling += top_k_buffer_bytes(architecture, generation, batch)
    return routed_bytes(architecture, generation, batch) + sampling


def non_torch_bytes(gpu: GpuFacts, generation: Generation, ranks: int, *, experts: bool) -> int:
    """CUDA context growth, NCCL, library workspaces and compiled kernels, as vLLM counts them (`non_torch`).

    From 0.33 on what is taken while the ranks meet comes before vLLM looks at the card: NCCL, all-reduce buffers and
    the handles of cuBLAS. With several ranks hardly anything is left to be taken later.
    """
    constants = measured("non_torch")
    hopper = gpu.compute_capability is not None and gpu.compute_capability >= (9, 0)
    if generation.handles_first and is_hopper(gpu):
        return int(constants["hopper_handles_first_parallel" if ranks > 1 else "hopper_handles_first"] * MIB)
    base = constants["hopper_torch_2_11" if generation.whole_segments else "hopper"] if hopper else constants["other"]
    if generation.whole_segments and not hopper:
        base = constants["other_torch_2_11"]
    parallel = constants["hopper_parallel"] if hopper else constants["other_parallel"]
    kernels = constants["experts_torch_2_11"] if experts and generation.whole_segments else 0
    shared = constants["unified"] if is_unified(gpu) else 0
    return int((base + kernels + shared + (parallel if ranks > 1 else 0)) * MIB)


def fused_exchange_bytes(architecture: Architecture, generation: Generation, batch: Batch, gpu: GpuFacts) -> int:
    """What FlashInfer takes to join all-reduces with the norms after them, while the model is compiled, where it is
    installed (flashinfer/comm/trtllm_ar.py: one buffer of the largest exchange for each rank, and three as large).

    It is part of what several ranks of earlier releases were measured to take (`hopper_parallel`), so that it is
    counted by itself only where the rest comes before vLLM looks at the card.
    """
    if not generation.handles_first or gpu.compute_capability is None:
        return 0
    largest = _LARGEST_FUSED_EXCHANGE.get(gpu.compute_capability, {}).get(batch.tensor_parallel, 0)
    exchange = batch.batched_tokens * architecture.hidden_size * ACTIVATION_DTYPE_BYTES
    return 4 * batch.tensor_parallel * min(largest, exchange)


UNIFIED_CAPABILITIES = frozenset({(8, 7), (11, 0), (12, 1)})
"""Chips whose graphics memory is the host's: Orin, Thor, GB10."""


def is_unified(gpu: GpuFacts) -> bool:
    """Whether the card shares its memory with the host: what the host takes meanwhile counts as taken on the card."""
    return gpu.compute_capability in UNIFIED_CAPABILITIES


def is_hopper(gpu: GpuFacts) -> bool:
    """Whether the card is of the generation of H100 and H200."""
    return gpu.compute_capability is not None and gpu.compute_capability[0] == 9
