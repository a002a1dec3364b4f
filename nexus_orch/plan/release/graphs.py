"""CUDA graphs: the sizes that are captured, and what they take."""

from __future__ import annotations

from nexus_orch.plan.model.architecture import Architecture
from nexus_orch.plan.release.generations import Generation
from nexus_orch.plan.release.kept import Batch, measured
from nexus_orch.types import MIB, GpuFacts


def capture_sizes(
    generation: Generation, requests: int, batched_tokens: int, gpu: GpuFacts | None = None
) -> tuple[int, ...]:
    """The batch sizes that are captured by default (config/vllm.py: _set_cudagraph_sizes): 1, 2, 4, steps of 8, from
    256 on 16; from 0.29 on the largest batch of requests and of tokens as well."""
    blackwell = gpu is not None and gpu.compute_capability is not None and gpu.compute_capability[0] == 10
    limit = 1024 if generation.largest_batches and blackwell else 512
    largest = min(2 * requests, limit, batched_tokens)
    step = 8 if generation.fine_graph_sizes else 16
    sizes = {1, 2, 4, *range(8, min(largest, 256) + 1, 8), *range(256 + step, largest + 1, step)}
    if generation.captures_own_sizes:
        sizes |= {size for size in (requests, batched_tokens) if size <= largest}
    return tuple(sorted(sizes))


def cuda_graph_bytes(
    architecture: Architecture, generation: Generation, batch: Batch, gpu: GpuFacts, *, eager: bool
) -> int:
    """Memory of the captured graphs, as the release reserves it where it does; 0 when eager."""
    if eager or generation.name == "CPU":
        return 0
    sizes = capture_sizes(generation, batch.requests, batch.batched_tokens, gpu)
    if generation.name == "V2 runner" and generation.graphs_reserved:
        return _estimated_bytes(architecture, sizes, batch.requests)
    graphs = len(sizes) * (2 if generation.both_graph_kinds else 1)
    constants = measured("cuda_graph_mib_per_layer_and_size")
    each = constants["v2_runner" if generation.name == "V2 runner" else "v1_runner"]
    return int(len(architecture.layers) * graphs * each * MIB)


def _estimated_bytes(architecture: Architecture, sizes: tuple[int, ...], requests: int) -> int:
    """What the second model runner expects graphs to take, and reserves (v1/worker/gpu/cudagraph_utils.py:
    profile_cudagraph_memory, from 0.29): it captures all piecewise graphs and the two largest full ones, reads what is
    free, and takes each further full graph for as much as the second of these. Which part of it depends on the layers
    was measured (data/measured.json)."""
    full = sum(size <= requests for size in sizes)
    constants = measured("cuda_graph_mib_per_layer_and_size")
    captured = len(architecture.layers) * (len(sizes) + min(2, full)) * constants["estimated"]
    each = constants["estimated_full_experts" if architecture.is_moe else "estimated_full"]
    return int((constants["estimated_first"] + captured + max(0, full - 2) * each) * MIB)
