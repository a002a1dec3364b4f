"""Contradictions inside one RunSpec: pinned values that cannot hold together, whatever the machine. Pure.

What contradicts a strategy is that strategy's to say (`Loader.rules`). What depends on the machine, the model or the
engine is the planner's and the adapters' to judge.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nexus_orch.contracts import Rule
from nexus_orch.errors import Problem, render_value
from nexus_orch.types import RunSpec


def judge_contradictions(spec: RunSpec) -> list[Problem]:
    """One problem for each rule of `RULES` that the spec breaks."""
    return judge_rules(RULES, spec)


def judge_rules(rules: Iterable[Rule], spec: RunSpec) -> list[Problem]:
    """One problem for each of these rules that the spec breaks."""
    return [_make_problem(rule, spec) for rule in rules if rule.broken(spec)]


def _make_problem(rule: Rule, spec: RunSpec) -> Problem:
    first, *others = rule.keys
    said = [key for key in others if spec.get(key) is not None]
    against = ", ".join(f"{key}={render_value(spec.get(key))}{_render_origin(spec, key)}" for key in said)
    return Problem(
        f"{rule.message}: {first} against {against}", first, spec.get(first), spec.origin(first), rule.remedy
    )


def _render_origin(spec: RunSpec, key: str) -> str:
    origin = spec.origin(key)
    return "" if origin is None else f" ({origin})"


def _more(value: float | None, bound: float = 0.0) -> bool:
    return value is not None and value > bound


def _gpus(spec: RunSpec) -> int | None:
    count = spec.hardware.gpu.count
    return None if count is None else count * spec.hardware.nodes


def _ranks(spec: RunSpec) -> int:
    return (spec.serve.tensor_parallel or 1) * (spec.serve.pipeline_parallel or 1)


def _exceeds(values: Sequence[float | None]) -> bool:
    low, high = values
    return low is not None and high is not None and low > high


RULES: tuple[Rule, ...] = (
    Rule(
        ("memory.kv_offload_dir", "memory.kv_offload_gib"),
        lambda spec: spec.memory.kv_offload_dir is not None and spec.memory.kv_offload_gib == 0,
        "KV blocks reach the folder through host RAM",
        "write memory.kv_offload_gib=auto, or memory.kv_offload_dir=auto",
    ),
    Rule(
        ("memory.offload_backend", "memory.cpu_offload_gib"),
        lambda spec: spec.memory.offload_backend is not None and spec.memory.cpu_offload_gib == 0,
        "there is nothing for the backend to offload",
        "write memory.cpu_offload_gib=auto, or memory.offload_backend=auto",
    ),
    Rule(
        ("memory.cpu_offload_gib", "hardware.gpu.count"),
        lambda spec: spec.hardware.gpu.count == 0 and _more(spec.memory.cpu_offload_gib),
        "without a GPU there is nothing to offload from",
        "write memory.cpu_offload_gib=auto",
    ),
    Rule(
        ("memory.kv_cache.max_blocks", "memory.kv_cache.size_gib"),
        lambda spec: spec.memory.kv_cache.max_blocks is not None and spec.memory.kv_cache.size_gib is not None,
        "both fix the size of the KV cache",
        "keep one of them",
    ),
    Rule(
        ("memory.kv_cache.calculate_scales", "memory.kv_cache.dtype"),
        lambda spec: (
            spec.memory.kv_cache.calculate_scales is True
            and not (spec.memory.kv_cache.dtype or "fp8").startswith("fp8")
        ),
        "only an fp8 KV cache has scales",
        "write memory.kv_cache.dtype=fp8, or memory.kv_cache.calculate_scales=auto",
    ),
    Rule(
        ("model.hf_overrides", "model.rope_scaling"),
        lambda spec: (
            spec.model.rope_scaling is not None
            and not {"rope_scaling", "rope_parameters"}.isdisjoint(spec.model.hf_overrides or {})
        ),
        "both stretch the positions",
        "keep one of them",
    ),
    Rule(
        ("model.lora.max_cpu_loras", "model.lora.max_loras"),
        lambda spec: _exceeds((spec.model.lora.max_loras, spec.model.lora.max_cpu_loras)),
        "adapters of a step lie in host RAM, too",
        "raise the first, or lower the second",
    ),
    Rule(
        ("serve.speculative.prompt_lookup_min", "serve.speculative.prompt_lookup_max"),
        lambda spec: _exceeds((spec.serve.speculative.prompt_lookup_min, spec.serve.speculative.prompt_lookup_max)),
        "the shortest piece that ngram looks for is longer than the longest",
        "lower the first, or raise the second",
    ),
    Rule(
        ("serve.speculative.draft_tensor_parallel", "serve.tensor_parallel"),
        lambda spec: (
            spec.serve.tensor_parallel is not None
            and spec.serve.speculative.draft_tensor_parallel not in (None, 1, spec.serve.tensor_parallel)
        ),
        "a draft is shared by one GPU or by as many as share the model",
        "write serve.speculative.draft_tensor_parallel=auto",
    ),
    Rule(
        ("serve.tensor_parallel", "serve.pipeline_parallel", "hardware.gpu.count", "hardware.nodes"),
        lambda spec: bool(_gpus(spec)) and _ranks(spec) > (_gpus(spec) or 0),
        "the ranks outnumber the GPUs",
        "lower the parallelism, or raise hardware.gpu.count",
    ),
    Rule(
        ("hardware.gpu.devices", "hardware.gpu.count"),
        lambda spec: (
            spec.hardware.gpu.count is not None
            and len(spec.hardware.gpu.devices or ()) not in (0, spec.hardware.gpu.count)
        ),
        "as many cards must be named as are counted",
        "leave out one of them",
    ),
    Rule(
        ("serve.pipeline_partition", "serve.pipeline_parallel"),
        lambda spec: (
            spec.serve.pipeline_parallel is not None
            and len(spec.serve.pipeline_partition or ()) not in (0, spec.serve.pipeline_parallel)
        ),
        "each pipeline stage has its number of layers",
        "leave out one of them",
    ),
    Rule(
        # vLLM 0.32.0, vllm/config/scheduler.py: max_num_batched_tokens must be at least max_num_seqs
        ("serve.max_num_seqs", "serve.max_num_batched_tokens"),
        lambda spec: _exceeds((spec.serve.max_num_seqs, spec.serve.max_num_batched_tokens)),
        "each running request takes at least one token of a step",
        "raise serve.max_num_batched_tokens to at least serve.max_num_seqs",
    ),
    Rule(
        ("hardware.host.reserved_gib", "hardware.host.ram_gib"),
        lambda spec: _exceeds((spec.hardware.host.reserved_gib, spec.hardware.host.ram_gib)),
        "more RAM is reserved than there is",
        "lower hardware.host.reserved_gib",
    ),
)
