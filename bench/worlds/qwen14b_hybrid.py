"""Qwen2.5-14B with a part of its weights in host RAM: an H200 of which a fifth may be used, vLLM 0.25.1.

Weights, KV cache and speeds are the launches of bench/data/hybrid_h200.json for qwen14b (1 request of 32 and 16
tokens, 16 requests of 128 and 16 to 96 tokens); minutes of a start from its `ready_seconds`. Memory beside weights
and KV cache is what those launches left over; its growth with batched tokens is that of the H100 launches in
tests/data/vllm_runs.json (1.29 GiB with 8,192 tokens on the second model runner).
"""

from __future__ import annotations

from typing import Any

from bench.worlds.machine import Simulated, Tables

BASE = [
    *("hardware=h200", "model=qwen14b", "memory=hybrid", "engine.version=0.25.1"),
    *("workload.concurrency=16", "workload.input_tokens=128", "workload.output_tokens=32"),
]
GRID: dict[str, list[Any]] = {
    "memory.gpu_memory_utilization": [0.12, 0.15, 0.18, 0.21],
    "memory.cpu_offload_gib": [7, 10, 14, 17, 21],
    "memory.offload_backend": ["uva", "prefetch"],
    "memory.enforce_eager": [True, False],
    "model.max_model_len": [2048, 8192, 16384],
    "serve.max_num_seqs": [8, 16, 64],
}
TABLES = Tables(
    total_gib=139.8,
    weights=[(0.0, 27.57), (7.05, 20.51), (13.84, 13.70), (16.52, 11.01), (20.89, 6.64)],
    other_gib=0.52,
    batched=[(2048, 0.0), (8192, 0.77)],
    graphs_gib=0.9,
    token_mib=0.1875,
    speeds={
        ("uva", True): {
            1: [(7.05, 5.985), (13.84, 2.998), (16.52, 2.436), (20.89, 1.906)],
            16: [(7.05, 77.244), (13.84, 31.667), (16.52, 25.832), (20.89, 20.764)],
        },
        ("uva", False): {
            1: [(7.05, 6.049), (13.84, 3.267), (20.89, 2.19)],
            16: [(7.05, 68.2), (13.84, 24.854), (20.89, 9.282)],
        },
        ("prefetch", True): {
            1: [(7.18, 6.977), (14.36, 3.021), (21.53, 2.06)],
            16: [(7.18, 100.011), (14.36, 51.879), (21.53, 34.343)],
        },
        ("prefetch", False): {
            1: [(7.18, 6.666), (13.84, 3.529), (21.02, 2.294)],
            16: [(7.18, 96.0), (13.84, 49.167), (21.02, 27.53)],
        },
    },
    request_tokens=160,
    minutes=[(0.0, 0.7), (7.0, 1.4), (14.0, 2.0), (21.0, 1.8)],
    defaults={"serve.max_num_batched_tokens": 2048},
)


def make(seed: int) -> Simulated:
    return Simulated(TABLES, GRID, seed, concurrency=16)
