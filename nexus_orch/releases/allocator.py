"""PyTorch's allocators, of a card's memory and of pinned memory: what a release does to them."""

from __future__ import annotations

from packaging.version import Version

from nexus_orch.releases.fact import Fact

TORCH_THAT_PINS_EXACTLY = Version("2.13")
"""The first torch with `pinned_max_cached_size_mb` (aten/src/ATen/core/CachingHostAllocator.h)."""

asks_for_exact_torch = Fact(
    f"the release asks for torch {TORCH_THAT_PINS_EXACTLY} or later, which need not round pinned memory up",
    since="0.27.0",
    source="the requirements of the wheel: torch 2.11 in 0.26.0, 2.13 in 0.27.0",
)
resets_allocator = Fact(
    "every other option of the allocator is reset while weights are loaded",
    since="0.21.0",
    before="0.31.0",
    source="v1/worker/gpu_worker.py: _scoped_allocator_max_split, which keeps the other options from 0.31.0 on. Those "
    "of CUDA alone (c10/cuda/CUDAAllocatorConfig.cpp) are kept by torch itself",
)
connector_refuses_segments = Fact(
    "expandable segments are refused beside a KV connector",
    since="0.21.0",
    source="config/vllm.py: _verify_kv_transfer_compat",
)
