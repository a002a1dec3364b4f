"""The stable names of what can go wrong with a launch; verdicts, tests and reports use them."""

from __future__ import annotations

from typing import Literal, get_args

Cause = Literal[
    "memory_busy",
    "weights_oom",
    "profile_oom",
    "sampler_oom",
    "no_kv_cache_memory",
    "context_too_long",
    "context_exceeds_model",
    "graph_capture_oom",
    "runtime_oom",
    "host_oom",
    "offload_ignored",
    "offload_unsupported",
    "pinned_memory_unavailable",
    "unrecognized_argument",
    "unsupported_dtype",
    "unsupported_quantization",
    "unsupported_architecture",
    "unsupported_block_size",
    "remote_code_required",
    "model_not_found",
    "weights_missing",
    "tokenizer_missing",
    "tensor_parallel_invalid",
    "not_enough_gpus",
    "cpu_binding",
    "nccl_error",
    "shared_memory",
    "port_in_use",
    "driver_mismatch",
    "illegal_instruction",
    "worker_died",
    "engine_dead",
    "startup_stalled",
    "orphan_holds_memory",
    "unknown",
]

CAUSES: tuple[str, ...] = get_args(Cause)
