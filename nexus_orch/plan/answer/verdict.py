"""Says why a plan does not fit: problems with numbers, each under the name that the engine's failure would get."""

from __future__ import annotations

import math

from nexus_orch.errors import Problem
from nexus_orch.plan.asked.inputs import Inputs
from nexus_orch.plan.estimate.settled import Settled
from nexus_orch.types import GIB


def judge_context(inputs: Inputs) -> list[Problem]:
    """The problem of a pinned context beyond the model's own limit, which no memory can mend."""
    pinned, limit = inputs.spec.model.max_model_len, inputs.architecture.longest_context
    if pinned is None or pinned <= limit:
        return []
    return [
        Problem(
            f"max_model_len {pinned:,} exceeds what the model was made for ({limit:,} tokens)",
            key="model.max_model_len",
            value=pinned,
            origin=inputs.fixed.problem_origin("model.max_model_len"),
            remedy=f"model.max_model_len={limit}, or a rope scaling that extends it "
            """(serve.extra_args=["--hf-overrides", '{"rope_scaling": ...}'])""",
            cause="context_exceeds_model",
        )
    ]


def judge_memory(settled: Settled, remedy: str) -> list[Problem]:
    """The first problem on the way from an empty card to a served context."""
    busy = _judge_free(settled)
    if busy:
        return busy
    for card in range(len(settled.draft.gpus)):
        found = _judge_card(settled, card, remedy)
        if found is not None:
            return [found]
    if not settled.holds_size:
        return [_too_large_cache(settled, remedy)]
    if settled.lacks_states:
        return [_too_many_requests(settled)]
    if not settled.fits_context:
        return [_too_long(settled, remedy)]
    return []


def _judge_free(settled: Settled) -> list[Problem]:
    """The problem of each card with less free memory than the engine is told to take, for which it refuses to start
    (v1/worker/utils.py: request_memory)."""
    draft, found = settled.draft, []
    for card, gpu in enumerate(draft.gpus):
        free, wanted = draft.account.free_bytes[card], settled.budgets[card]
        if free < wanted:
            possible = draft.free_utilization(draft.outside_bytes(settled.placement))
            found.append(
                Problem(
                    f"GPU {gpu.index} ({gpu.name}) has {free / GIB:.2f} GiB free, and "
                    f"gpu_memory_utilization={settled.utilization.value:g} takes {wanted / GIB:.2f} GiB",
                    key="memory.gpu_memory_utilization",
                    value=settled.utilization.value,
                    origin=draft.inputs.fixed.problem_origin("memory.gpu_memory_utilization"),
                    remedy=f"end what else runs on the card, or memory.gpu_memory_utilization={possible:g}",
                    cause="memory_busy",
                )
            )
    return found


def _judge_card(settled: Settled, card: int, remedy: str) -> Problem | None:
    """The first problem of one card while weights are loaded, the model is profiled and the KV cache is sized."""
    draft, gpu = settled.draft, settled.draft.gpus[card]
    weights = draft.kept_bytes(card, settled.placement)
    free, fixed = draft.account.free_bytes[card], draft.account.fixed_bytes[card]
    where = f"GPU {gpu.index} ({gpu.name})"
    if weights + draft.other_bytes(card, settled.placement) > free:
        message = f"{weights / GIB:.2f} GiB of weights do not fit on {where}, which has {free / GIB:.2f} GiB free"
        return Problem(message, key="memory.strategy", remedy=remedy, cause="weights_oom")
    if weights + fixed > free:
        message = (
            f"on {where}, {weights / GIB:.2f} GiB of weights and {fixed / GIB:.2f} GiB of activations and workspaces "
            f"exceed the {free / GIB:.2f} GiB that are free"
        )
        return Problem(message, key="memory.strategy", remedy=remedy, cause="profile_oom")
    cache = draft.caches[draft.stage_of(card)]
    if settled.kv[card] < cache.block_bytes or settled.kv[card] <= 0:
        message = (
            f"on {where}, weights ({weights / GIB:.2f} GiB) and activations ({fixed / GIB:.2f} GiB) leave no room "
            f"for a KV cache in the {settled.budgets[card] / GIB:.2f} GiB that the engine may use"
        )
        return Problem(message, key="memory.gpu_memory_utilization", remedy=remedy, cause="no_kv_cache_memory")
    return None


def _too_large_cache(settled: Settled, remedy: str) -> Problem:
    """The problem of a pinned cache size for which there is no room: the engine would run out of memory when it
    allocates it."""
    inputs, room = settled.draft.inputs, min(settled.room_bytes) / GIB
    sure = math.floor((min(settled.room_bytes) - settled.draft.account.doubt.below) / GIB * 10) / 10
    return Problem(
        f"weights, activations and workspaces leave {room:.2f} GiB for the KV cache of a card",
        key="memory.kv_cache.size_gib",
        value=inputs.spec.memory.kv_cache.size_gib,
        origin=inputs.fixed.problem_origin("memory.kv_cache.size_gib"),
        remedy=f"memory.kv_cache.size_gib={sure:g} or less" if sure > 0 else remedy,
        cause="no_kv_cache_memory",
    )


def _too_many_requests(settled: Settled) -> Problem:
    """The problem of a model with states whose batch has more requests than the KV cache has blocks."""
    inputs, blocks = settled.draft.inputs, settled.num_blocks
    return Problem(
        f"vLLM {inputs.facts.engine.version} wants a block of the KV cache for the state of each of max_num_seqs = "
        f"{settled.draft.requests:,} requests before it captures CUDA graphs, and {blocks:,} blocks are there",
        key="serve.max_num_seqs",
        value=settled.draft.requests,
        origin=inputs.fixed.problem_origin("serve.max_num_seqs"),
        remedy=f"serve.max_num_seqs={max(1, blocks * 9 // 10)}, or memory.enforce_eager=true",
        cause="no_kv_cache_memory",
    )


def _too_long(settled: Settled, remedy: str) -> Problem:
    draft = settled.draft
    pinned, length = draft.inputs.spec.model.max_model_len, settled.needed_context
    needed = max(cache.request_bytes(length) for cache in draft.caches)
    have = max(0, min(settled.kv))
    what = "a context" if pinned is not None else "a request (workload.input_tokens + output_tokens)"
    key = "model.max_model_len" if pinned is not None else "workload.input_tokens"
    return Problem(
        f"{what} of {length:,} tokens needs {needed / GIB:.2f} GiB of KV cache on a card, and {have / GIB:.2f} GiB are "
        f"left: the longest that surely fits is {settled.surely_longest:,}",
        key=key,
        value=length,
        origin=draft.inputs.fixed.problem_origin(key),
        remedy=remedy,
        cause="context_too_long",
    )
