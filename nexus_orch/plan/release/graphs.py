"""CUDA graphs: the sizes that are captured, and what they take."""

from __future__ import annotations

from nexus_orch.plan.model.architecture import Architecture, round_up
from nexus_orch.plan.release.generations import Generation
from nexus_orch.plan.release.kept import Batch, measured
from nexus_orch.types import MIB, GpuFacts


def capture_sizes(
    generation: Generation, requests: int, batched_tokens: int, gpu: GpuFacts | None = None, drafted: int = 0
) -> tuple[int, ...]:
    """The batch sizes that are captured by default (config/vllm.py: _set_cudagraph_sizes): 1, 2, 4, steps of 8, from
    256 on 16; from 0.29 on the largest batch of requests and of tokens as well.

    Where `drafted` tokens are verified with each request, the largest batch has as many more, and sizes are multiples
    of that (config/compilation.py: adjust_cudagraph_sizes_for_spec_decode)."""
    blackwell = gpu is not None and gpu.compute_capability is not None and gpu.compute_capability[0] == 10
    limit = 1024 if generation.largest_batches and blackwell else 512
    width = 1 + drafted
    largest = min(2 * requests * (width if generation.draft_wide_graphs else 1), limit, batched_tokens)
    step = 8 if generation.fine_graph_sizes else 16
    sizes = {1, 2, 4, *range(8, min(largest, 256) + 1, 8), *range(256 + step, largest + 1, step)}
    if generation.captures_own_sizes:
        sizes |= {size for size in (requests, batched_tokens) if size <= largest}
    if width > 1:
        sizes = {whole for size in sizes if (whole := round_up(size, width)) <= largest} or {width}
    return tuple(sorted(sizes))


def cuda_graph_bytes(
    architecture: Architecture, generation: Generation, batch: Batch, gpu: GpuFacts, *, eager: bool
) -> int:
    """Memory of the captured graphs, as the release reserves it where it does; 0 when eager."""
    if eager or generation.name == "CPU":
        return 0
    sizes = capture_sizes(generation, batch.requests, batch.batched_tokens, gpu, batch.drafted)
    layers = len(architecture.layers) + batch.draft_layers
    if generation.name == "V2 runner" and generation.graphs_reserved:
        sizes *= 2 if batch.adapts and generation.graphs_for_adapters else 1
        return _estimated_bytes(layers, sizes, batch.requests * (1 + batch.drafted), experts=architecture.is_moe)
    graphs = len(sizes) * (2 if generation.both_graph_kinds else 1)
    graphs *= 2 if batch.adapts and generation.graphs_for_adapters else 1
    constants = measured("cuda_graph_mib_per_layer_and_size")
    each = constants["v2_runner" if generation.name == "V2 runner" else "v1_runner"]
    return int(layers * graphs * each * MIB)


def _estimated_bytes(layers: int, sizes: tuple[int, ...], requests: int, *, experts: bool) -> int:
    """What the second model runner expects graphs to take, and reserves (v1/worker/gpu/cudagraph_utils.py:
    profile_cudagraph_memory, from 0.29): it captures all piecewise graphs and the two largest full ones, reads what is
    free, and takes each further full graph for as much as the second of these. Which part of it depends on the layers
    was measured (data/measured.json)."""
    full = sum(size <= requests for size in sizes)
    constants = measured("cuda_graph_mib_per_layer_and_size")
    captured = layers * (len(sizes) + min(2, full)) * constants["estimated"]
    each = constants["estimated_full_experts" if experts else "estimated_full"]
    return int((constants["estimated_first"] + captured + max(0, full - 2) * each) * MIB)
