"""What the engine takes of each card beside weights and KV cache: one account for the choice of a parallelism and for
the plan itself."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cached_property

from nexus_orch.plan.asked.inputs import Inputs
from nexus_orch.plan.release.accounting import (
    Doubt,
    Kinds,
    Peak,
    activation_bytes,
    compiling_bytes,
    kv_doubt,
    learn_peak,
)
from nexus_orch.plan.release.generations import Generation
from nexus_orch.plan.release.graphs import cuda_graph_bytes
from nexus_orch.plan.release.kept import (
    Batch,
    fused_exchange_bytes,
    is_unified,
    kept_bytes,
    non_torch_bytes,
    sampler_state_bytes,
    top_k_buffer_bytes,
)
from nexus_orch.types import COMPILED_PEAK, MIB, PASS_PEAK, GpuFacts

FREE_MARGIN_BYTES = 64 * MIB
"""Memory left free beside the budget, for what grows between the plan and the launch."""
NARROW_CACHE_WORKSPACE_BYTES = 394 * MIB
"""FlashInfer's buffer, taken at the first batch, when the KV cache has its memory already (envs.py:
VLLM_FLASHINFER_WORKSPACE_BUFFER_SIZE; v1/attention/backends/flashinfer.py of 0.11.2 and 0.33.0)."""
_COHERENT = re.compile(r"GH200|GB[23]00")
"""Boards whose Linux sees the GPU's memory as its own, and keeps files in it (GH200 with 0.30.0: 1.4 GiB less)."""
PLAIN_METHODS = frozenset({"fp8", "awq", "gptq", "mxfp4"})
"""Formats in which all matrices of a model are stored alike; of others some modules stay as they were."""
GUESS_FACTOR = 3
"""How much wider the range is for an architecture that was made of tensor headers; an assumption, not a measurement."""


def free_bytes(inputs: Inputs, gpu: GpuFacts) -> int:
    """Bytes that are free on a card, as it was last seen."""
    learned = inputs.fixed.quantity(f"machine.free_bytes.{gpu.index}")
    return gpu.free_bytes if learned is None else learned


def budget_bytes(gpu: GpuFacts, utilization: float) -> int:
    """Bytes that the engine may use of a card (vLLM: v1/worker/utils.py, request_memory)."""
    return math.ceil(gpu.total_bytes * utilization)


@dataclass(frozen=True)
class CardAccount:
    """The memory of each card that depends on neither weights nor KV cache. Lists are by card, in the order of the
    ranks; what is measured of a launch (`measured.*`) replaces the estimate of it."""

    inputs: Inputs
    generation: Generation
    gpus: tuple[GpuFacts, ...]
    compiled_embedding_bytes: tuple[int, ...]
    """The embedding of each card's rank where it is compiled; 0 where it is not, or there is none."""
    batch: Batch
    eager: bool

    @cached_property
    def peak(self) -> Peak:
        """Peak memory while vLLM profiles, per card."""
        cache_gib = self.inputs.spec.memory.kv_cache.size_gib
        buffer = top_k_buffer_bytes(self.inputs.architecture, self.generation, self.batch)
        compiling = tuple(
            0 if self.eager else compiling_bytes(embedding, buffer, self.generation, gpu, cache_gib)
            for embedding, gpu in zip(self.compiled_embedding_bytes, self.gpus, strict=True)
        )
        one_pass = activation_bytes(self.inputs.architecture, self.generation, self.batch, self.gpus[0])
        one_pass += self.tower_bytes
        quantity = self.inputs.fixed.quantity
        return learn_peak(
            Peak(one_pass, compiling), quantity(PASS_PEAK), None if self.eager else quantity(COMPILED_PEAK)
        )

    @cached_property
    def graph_bytes(self) -> int:
        """Memory of the captured CUDA graphs on each card; 0 without them."""
        learned = self.inputs.fixed.quantity("measured.cuda_graph_bytes")
        if learned is not None and not self.eager:
            return learned
        return cuda_graph_bytes(self.inputs.architecture, self.generation, self.batch, self.gpus[0], eager=self.eager)

    @property
    def reserved_graph_bytes(self) -> int:
        """What is kept out of the KV cache for graphs: nothing, or all of them and the workspace of the attention
        kernels, which is taken while they are measured."""
        return self.graph_bytes + self._measured_workspace_bytes if self.generation.graphs_reserved else 0

    @property
    def _measured_workspace_bytes(self) -> int:
        """FlashInfer's workspace, where graphs are measured before the KV cache is sized (gpu_model_runner.py:
        profile_cudagraph_memory of 0.20.0 makes the attention backends): 0.39 GiB were reserved for one request to
        Qwen3.6-35B-A3B on an RTX 5090 with 0.20.0. On RTX 3090 it was not seen."""
        learned = self.inputs.fixed.quantity("measured.cuda_graph_bytes")
        capability = self.gpus[0].compute_capability or (0, 0)
        is_measured = self.generation.graphs_reserved and not self.eager and learned is None
        return self._workspace_bytes if is_measured and capability[0] >= 10 else 0

    @cached_property
    def peak_and_graph_bytes(self) -> int:
        """Memory of the profile and of the CUDA graphs together on the fullest card."""
        return max(self.peak.bytes) + self.graph_bytes

    @cached_property
    def other_bytes(self) -> tuple[int, ...]:
        """What stays taken on each card beside weights, KV cache and graphs: memory outside PyTorch, and from 0.27 on
        the sampler's state and the workspace of experts."""
        learned = self.inputs.fixed.quantity("measured.non_torch_bytes")
        return tuple(
            kept + (self._outside_torch_bytes(gpu) if learned is None else learned)
            for kept, gpu in zip(self.kept_bytes, self.gpus, strict=True)
        )

    def _outside_torch_bytes(self, gpu: GpuFacts) -> int:
        architecture, generation = self.inputs.architecture, self.generation
        outside = non_torch_bytes(gpu, generation, len(self.gpus), experts=architecture.is_moe)
        if self.eager or self.inputs.facts.engine.flashinfer is False:
            return outside
        return outside + fused_exchange_bytes(architecture, generation, self.batch, gpu)

    @cached_property
    def kept_bytes(self) -> tuple[int, ...]:
        """What PyTorch keeps on each card after the profile, where that counts against the KV cache."""
        architecture, generation = self.inputs.architecture, self.generation
        kept = {samples: kept_bytes(architecture, generation, self.batch, samples=samples) for samples in (False, True)}
        return tuple(kept[self._samples(card)] for card in range(len(self.gpus)))

    def _samples(self, card: int) -> bool:
        """Whether the card belongs to the last stage, which alone samples."""
        return card >= len(self.gpus) - self.batch.tensor_parallel

    @cached_property
    def fixed_bytes(self) -> tuple[int, ...]:
        """Memory that the engine counts inside its budget of each card, beside weights and KV cache."""
        graphs = self.reserved_graph_bytes
        return tuple(peak + other + graphs for peak, other in zip(self.peak.bytes, self.other_bytes, strict=True))

    @cached_property
    def outside_bytes(self) -> int:
        """Memory that the engine takes on each card on top of its budget, wherever the weights lie."""
        state = 0
        if not self.generation.free_compared:
            state = sampler_state_bytes(self.inputs.architecture, self.generation, self.batch)
        workspace = self._workspace_bytes - self._measured_workspace_bytes
        return (0 if self.generation.graphs_reserved else self.graph_bytes) + workspace + state

    @property
    def _workspace_bytes(self) -> int:
        """Hopper's FlashAttention reads a cache of 8 bits by itself; other cards take FlashInfer for it."""
        capability = self.gpus[0].compute_capability
        needed = self.inputs.kv_dtype_bytes == 1 and (capability is None or capability[0] != 9)
        return NARROW_CACHE_WORKSPACE_BYTES if needed else 0

    @cached_property
    def free_bytes(self) -> tuple[int, ...]:
        """Memory that is free on each card before the run."""
        return tuple(free_bytes(self.inputs, gpu) for gpu in self.gpus)

    def free_share(self, outside_bytes: int) -> float:
        """The largest share of its memory that the engine finds free on every card, beside `outside_bytes` that are
        taken on top and the margin; negative where even these are not free."""
        return min(
            (free - outside_bytes - FREE_MARGIN_BYTES) / gpu.total_bytes
            for free, gpu in zip(self.free_bytes, self.gpus, strict=True)
        )

    @cached_property
    def tower_bytes(self) -> int:
        """Bytes that a vision tower takes while it is profiled; 0 where only language is served. Its blocks are divided
        among the ranks like the others (`--mm-encoder-tp-mode weights`): Qwen3.5-9B on two RTX 5090."""
        inputs = self.inputs
        if not (self.generation.profiles_towers and inputs.serves_images and inputs.passed.profiles_images):
            return 0
        architecture = self.inputs.architecture
        tokens = max(self.batch.batched_tokens, architecture.largest_image_tokens)
        return architecture.image_token_bytes * tokens // self.batch.tensor_parallel

    @property
    def _kinds(self) -> Kinds:
        """What makes this run less sure than a plain one."""
        scheme, gpu = self.inputs.scheme, self.gpus[0]
        weights = self.inputs.whole.total_bytes // len(self.gpus) if scheme.method else 0
        return Kinds(
            machines=len(self.gpus) if is_unified(gpu) else 0,
            is_coherent=_COHERENT.search(gpu.name) is not None,
            has_cuda=gpu.compute_capability is not None,
            is_consumer="GeForce" in gpu.name and not self.eager,
            packs_experts=bool(scheme.method) and self.inputs.architecture.is_moe,
            has_adapters=self.inputs.passed.has_adapters,
            tower_bytes=self.tower_bytes,
            packed_bytes=weights,
            is_mixed=(scheme.method or "") not in PLAIN_METHODS,
            beside_bytes=self.inputs.unsure_bytes(self.batch.tensor_parallel),
        )

    @cached_property
    def doubt(self) -> Doubt:
        """Bytes by which the KV cache's real size may differ from the estimate, of a start that compiles the model."""
        learned = self.inputs.fixed.lessons
        if PASS_PEAK in learned or (COMPILED_PEAK in learned and not self.eager):
            return Doubt(FREE_MARGIN_BYTES, FREE_MARGIN_BYTES)
        doubt = kv_doubt(self.generation, self.peak.pass_bytes - self.tower_bytes, len(self.gpus), self._kinds)
        factor = GUESS_FACTOR if self.inputs.is_guess else 1
        return Doubt(doubt.below * factor, doubt.above * factor)
