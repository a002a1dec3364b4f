"""Qwen2.5-7B, all of it on a card, for many requests at once: what batches, graphs and memory are worth.

Speeds with 1 and 16 requests are the launches of bench/data/hybrid_h200.json for qwen7b without offload; that with 64
is q7_default of tests/data/vllm_runs.json (4,676 tokens/s on an H100; the eager one follows its launches' ratio with
16). Sizes are those of A8_qwen2.5-7b_v1_graph and H0_nooffload_v1_eager there: 14.29 GiB of weights, 2.44 GiB beside
them and 0.58 GiB of graphs with 8,192 batched tokens.
"""

from __future__ import annotations

from typing import Any

from bench.worlds.machine import Simulated, Tables

BASE = [
    *("hardware=h100_80g", "model=qwen7b", "memory=vram_only", "engine.version=0.25.1"),
    *("workload.concurrency=64", "workload.input_tokens=256", "workload.output_tokens=64"),
]
GRID: dict[str, list[Any]] = {
    "memory.gpu_memory_utilization": [0.22, 0.24, 0.28, 0.34],
    "model.max_model_len": [4096, 8192, 16384, 32768],
    "memory.enforce_eager": [True, False],
    "serve.max_num_seqs": [16, 32, 64, 128, 256],
    "serve.max_num_batched_tokens": [2048, 4096, 8192],
}
TABLES = Tables(
    total_gib=79.18,
    weights=[(0.0, 14.29)],
    other_gib=0.75,
    batched=[(2048, 0.0), (4096, 0.55), (8192, 1.69)],
    graphs_gib=0.58,
    token_mib=0.0547,
    speeds={
        ("-", True): {1: [(0.0, 60.05)], 16: [(0.0, 856.8)], 64: [(0.0, 2950.0)]},
        ("-", False): {1: [(0.0, 211.05)], 16: [(0.0, 2708.7)], 64: [(0.0, 4676.1)]},
    },
    request_tokens=320,
    minutes=[(0.0, 1.4)],
    defaults={"memory.cpu_offload_gib": 0, "memory.offload_backend": "-"},
)


def make(seed: int) -> Simulated:
    return Simulated(TABLES, GRID, seed, concurrency=64)
