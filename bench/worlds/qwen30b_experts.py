"""Qwen3-30B-A3B, a mixture of experts, with weights in host RAM on an H200 of which a part may be used, vLLM 0.25.1.

All figures are launches of bench/data/hybrid_h200.json for qwen3_30b_a3b: reading experts in place (uva) is faster
for one request and moving whole layers (prefetch) hardly depends on eagerness, which is another order of things than
that of a dense model.
"""

from __future__ import annotations

from typing import Any

from bench.worlds.machine import Simulated, Tables

BASE = [
    *("hardware=h200", "model=qwen3_30b_a3b", "memory=hybrid", "engine.version=0.25.1"),
    *("workload.concurrency=4", "workload.input_tokens=128", "workload.output_tokens=16"),
]
GRID: dict[str, list[Any]] = {
    "memory.cpu_offload_gib": [14, 22, 29, 36, 43],
    "memory.gpu_memory_utilization": [0.17, 0.22, 0.27, 0.32, 0.37, 0.42],
    "memory.offload_backend": ["uva", "prefetch"],
    "memory.enforce_eager": [True, False],
    "model.max_model_len": [4096, 16384, 32768],
}
TABLES = Tables(
    total_gib=139.8,
    weights=[(0.0, 56.93), (14.25, 42.68), (28.88, 28.06), (42.75, 14.18)],
    other_gib=0.62,
    batched=[(2048, 0.0), (8192, 0.77)],
    graphs_gib=0.5,
    token_mib=0.0938,
    speeds={
        ("uva", True): {
            1: [(14.25, 11.127), (28.88, 17.865), (42.75, 12.296)],
            16: [(14.25, 53.44), (28.88, 24.798), (42.75, 19.674)],
        },
        ("uva", False): {
            1: [(14.25, 39.895), (28.88, 22.283), (42.75, 15.097)],
            16: [(14.25, 54.93), (28.88, 24.895), (42.75, 13.829)],
        },
        ("prefetch", True): {
            1: [(14.63, 3.378), (29.02, 1.746), (42.75, 1.197)],
            16: [(14.63, 46.0), (29.02, 21.841), (42.75, 14.96)],
        },
        ("prefetch", False): {
            1: [(14.63, 3.433), (29.02, 1.715), (42.75, 1.164)],
            16: [(14.63, 46.23), (29.02, 21.362), (42.75, 14.84)],
        },
    },
    request_tokens=144,
    minutes=[(14.0, 3.3), (43.0, 3.6)],
    defaults={"serve.max_num_batched_tokens": 2048, "serve.max_num_seqs": 16},
)


def make(seed: int) -> Simulated:
    return Simulated(TABLES, GRID, seed, concurrency=4)
