"""What vLLM's own words about the card's memory stand for, by the numbers of its log.

From 0.27 on ("Actual usage is X GiB for consumed memory (weights + non-torch), Y GiB for peak activation") X is all
that is taken once the profile is over: weights, an offloader's pool, memory outside PyTorch, the sampler's state, page
tables. Y is the transient peak above it plus what is reserved for CUDA graphs (v1/worker/gpu_worker.py:
determine_available_memory, utils/mem_utils.py: memory_profiling of 0.27.0 to 0.33.0). Before, Y is PyTorch's peak alone
and the memory outside PyTorch is printed by itself.
"""

from __future__ import annotations

from collections.abc import Mapping


def find_peak_bytes(numbers: Mapping[str, float]) -> float | None:
    """The transient peak of the profile alone; None where it was not printed."""
    printed = numbers.get("activation_bytes")
    if printed is None or "consumed_bytes" not in numbers:
        return printed
    return max(0.0, printed - numbers.get("cuda_graph_estimate_bytes", 0.0))


def find_other_bytes(numbers: Mapping[str, float], pool_bytes: float = 0.0) -> float | None:
    """What is taken beside weights, peak, graphs and KV cache; None where it was not printed. `pool_bytes` is an
    offloader's buffer on the card, where the log does not tell it."""
    consumed, weights = numbers.get("consumed_bytes"), numbers.get("weights_bytes")
    if consumed is None or weights is None:
        return numbers.get("non_torch_bytes")
    return max(0.0, consumed - weights - numbers.get("static_pool_bytes", pool_bytes))
