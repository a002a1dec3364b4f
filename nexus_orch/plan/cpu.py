"""Plans for vLLM's CPU build: weights, KV cache and processes share the host's RAM."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from nexus_orch.contracts import Refusal
from nexus_orch.errors import Problem
from nexus_orch.plan.answer.evidence import evidence_notes
from nexus_orch.plan.answer.exposure import exposure_notes
from nexus_orch.plan.answer.settings import model_choices, passed_choices, serve_choices
from nexus_orch.plan.asked.inputs import Inputs
from nexus_orch.plan.asked.lora import StageLayers
from nexus_orch.plan.asked.target import LEAST_CONTEXT
from nexus_orch.plan.cards.parallelism import Parallelism
from nexus_orch.plan.estimate.host import name_ram
from nexus_orch.plan.release.generations import default_batching
from nexus_orch.plan.release.kept import measured
from nexus_orch.plan.release.kv_cache import CacheLayout, make_layout
from nexus_orch.releases.memory import cpu_counts_memory
from nexus_orch.types import GIB, MIB, Choice, GpuEstimate, HostEstimate, Plan, Prediction

CPU_BLOCK_SIZE = 128
"""Tokens of a block on the CPU backend by default (platforms/cpu.py)."""
KV_STEP_GIB = 0.25
"""A derived KV cache is a multiple of this, at least 1 GiB where that is free. Before 0.22 it is whole GiB:
VLLM_CPU_KVCACHE_SPACE was read with int() (platforms/cpu.py); since then --kv-cache-memory-bytes counts."""
LARGEST_DERIVED_CONTEXT = 8192
"""A CPU reads long prompts slowly: a longer context must be asked for."""


@dataclass(frozen=True)
class _CpuRun:
    """A run on the CPU: one worker for each rank, all in the same RAM. Bytes are of all workers together."""

    inputs: Inputs
    parallelism: Parallelism

    @property
    def ranks(self) -> int:
        return self.parallelism.tensor_parallel * self.parallelism.pipeline_parallel

    @cached_property
    def weights_bytes(self) -> int:
        parallelism = self.parallelism
        layout = self.inputs.weight_layout(
            parallelism.tensor_parallel, parallelism.pipeline_parallel, whole_segments=False
        )
        whole = StageLayers(self.inputs.architecture.layers, is_first=True, is_last=True)
        beside = self.inputs.beside_bytes(parallelism.tensor_parallel, whole, whole_segments=False)
        return (sum(stage.total_bytes for stage in layout.stages) + beside) * parallelism.tensor_parallel

    @property
    def process_bytes(self) -> int:
        constants = measured("cpu")
        return int((constants["worker_mib"] * self.ranks + constants["other_processes_mib"]) * MIB)

    @property
    def available_bytes(self) -> int:
        host = self.inputs.facts.machine.host
        return max(0, host.ram_available_bytes - host.reserved_bytes)

    @property
    def room_bytes(self) -> int:
        """RAM that is surely left for the KV cache."""
        return self.available_bytes - self.weights_bytes - self.process_bytes - self.doubt_bytes

    @property
    def doubt_bytes(self) -> int:
        """Bytes by which the processes' own memory may be off."""
        return int(float(measured("cpu")["process_doubt"]) * self.process_bytes)

    @property
    def is_borderline(self) -> bool:
        """Whether the verdict flips within the bytes by which the processes may be off."""
        return abs(self.available_bytes - self.required_bytes) < self.doubt_bytes

    @cached_property
    def cache(self) -> CacheLayout:
        """The cache of one worker."""
        inputs = self.inputs
        generation = inputs.generation()
        tokens = inputs.spec.serve.max_num_batched_tokens or default_batching(0, "", generation, self.ranks)[0]
        shape = inputs.cache_shape(generation, tokens, CPU_BLOCK_SIZE, (self.parallelism.tensor_parallel, 1))
        return make_layout((*inputs.architecture.layers, *inputs.draft_layers), shape, generation.cache)

    @property
    def surely_kv_gib(self) -> float:
        """The largest KV cache of each worker that surely fits, in GiB; 0 when none does."""
        return self._whole_steps(self.room_bytes)

    @property
    def surely_long(self) -> int:
        """The longest context whose KV cache surely fits; 0 when none does."""
        room = int(self.surely_kv_gib * GIB)
        return self.cache.longest(self.cache.num_blocks(room), self.inputs.architecture.longest_context)

    @cached_property
    def context(self) -> Choice:
        """The choice of the context: the pinned one, else the model's within what fits and what a CPU can read."""
        limit = self.inputs.architecture.longest_context
        fixed = self.inputs.spec.memory.kv_cache.size_gib
        room = int(fixed * GIB) if fixed is not None else int(self._whole_steps(self.room_bytes) * GIB)
        longest = self.cache.longest(self.cache.num_blocks(room), limit)
        work = self.inputs.spec.workload
        sensible = max(LARGEST_DERIVED_CONTEXT, work.input_tokens + work.output_tokens)
        derived = min(limit, longest, sensible) or min(limit, LEAST_CONTEXT)
        if derived == limit:
            reason = "the model's own limit"
        elif derived == longest:
            reason = "the longest for which the KV cache fits in RAM"
        else:
            reason = f"a CPU reads long prompts slowly (the model's limit is {limit:,})"
        return self.inputs.fixed.choice("model.max_model_len", derived, reason)

    @property
    def _step_gib(self) -> float:
        return KV_STEP_GIB if cpu_counts_memory(self.inputs.facts.engine.version) else 1.0

    def _whole_steps(self, size_bytes: int) -> float:
        """GiB for each worker, in whole steps, when all of them share `size_bytes`."""
        return max(0, size_bytes) // self.ranks // int(self._step_gib * GIB) * self._step_gib

    @cached_property
    def kv_gib(self) -> Choice:
        """The choice of the KV cache's size: GiB for each worker."""
        work = self.inputs.spec.workload
        length = int(self.context.value)
        request = min(length, work.input_tokens + work.output_tokens)
        needed = max(self.cache.request_bytes(length), self.cache.request_bytes(request, max(1, work.concurrency)))
        steps = math.ceil(needed / GIB / self._step_gib) * self._step_gib
        derived = max(steps, min(1.0, self._whole_steps(self.room_bytes)), self._step_gib)
        held = f"{length:,} tokens and workload.concurrency={work.concurrency}"
        reason = f"room for {held}" if derived > steps else f"the least for {held}, in steps of {self._step_gib:g} GiB"
        return self.inputs.fixed.choice("memory.kv_cache.size_gib", derived, reason)

    @property
    def eager(self) -> Choice:
        """The choice not to compile, unless the user asks for it."""
        seconds = measured("cpu")
        reason = (
            f"compiling takes about {seconds['compiled_start_seconds']} s before the first start of a small model is "
            f"ready, against about {seconds['eager_start_seconds']} s without (measured with 135M parameters, 2 cores)"
        )
        return self.inputs.fixed.choice("memory.enforce_eager", True, reason)

    @property
    def kv_bytes(self) -> int:
        return int(float(self.kv_gib.value) * GIB)

    @property
    def num_blocks(self) -> int:
        return self.inputs.spec.memory.kv_cache.max_blocks or self.cache.num_blocks(self.kv_bytes)

    @property
    def required_bytes(self) -> int:
        return self.weights_bytes + self.process_bytes + self.kv_bytes * self.ranks


def make_cpu_plan(inputs: Inputs, parallelism: Parallelism, problems: list[Problem], refusal: Refusal | None) -> Plan:
    """The plan of a run on the CPU; `refusal` is what the pinned strategy says against it."""
    run = _CpuRun(inputs, parallelism)
    problems = [*problems, *_judge_strategy(inputs, refusal), *_judge(run)]
    length = int(run.context.value)
    tokens, concurrency = run.cache.tokens(run.num_blocks, length), run.cache.concurrency(run.num_blocks, length)
    learned = inputs.fixed.quantity("measured.kv_cache_tokens")
    if learned is not None:
        tokens, concurrency = learned, learned / length
    return Plan(
        spec=inputs.fixed.original,
        fits=not problems,
        loader="cpu",
        engine_version=inputs.facts.engine.version,
        model=inputs.facts.model.name,
        choices=_choices(run),
        per_gpu=(_estimate(run),),
        host=HostEstimate(run.required_bytes, run.available_bytes, 0),
        prediction=Prediction(
            kv_cache_tokens_low=tokens,
            kv_cache_tokens_high=tokens,
            borderline=run.is_borderline and all(problem.cause == "host_oom" for problem in problems),
            notes=("the bandwidth of this machine's RAM is not known: no speed is predicted",),
        ),
        kv_cache_tokens=tokens,
        max_model_len=length,
        max_concurrency=round(concurrency, 2),
        problems=tuple(problems),
        notes=(
            *inputs.notes,
            *inputs.facts.machine.notes,
            *inputs.facts.engine.notes,
            *exposure_notes(inputs.spec.serve),
            *evidence_notes(inputs.spec.evidence, inputs.facts),
        ),
    )


def _judge_strategy(inputs: Inputs, refusal: Refusal | None) -> Iterator[Problem]:
    if refusal is not None:
        key = "memory.strategy"
        yield Problem(
            refusal.reason,
            key=key,
            value=inputs.spec.get(key),
            origin=inputs.fixed.problem_origin(key),
            remedy="leave memory.strategy unset",
            cause=refusal.cause,
            is_mistake=True,
        )


def _judge(run: _CpuRun) -> list[Problem]:
    found = []
    if run.required_bytes > run.available_bytes:
        found.append(_too_little_ram(run))
    if run.cache.request_blocks(int(run.context.value)) > run.num_blocks:
        found.append(_too_long(run))
    return found


def _too_little_ram(run: _CpuRun) -> Problem:
    """The problem of too little RAM. Where a pinned size of the KV cache or a pinned context is the cause, it is named,
    with what would fit."""
    inputs, missing = run.inputs, (run.required_bytes - run.available_bytes) / GIB
    (key, value, origin), remedy = name_ram(inputs), f"free {missing:.2f} GiB, or choose a smaller model"
    for pinned, smaller in (("memory.kv_cache.size_gib", run.surely_kv_gib), ("model.max_model_len", run.surely_long)):
        if inputs.fixed.has(pinned) and smaller:
            key, value, origin = pinned, inputs.spec.get(pinned), inputs.fixed.problem_origin(pinned)
            remedy = f"{pinned}={smaller:g} or less, or free {missing:.2f} GiB"
            break
    else:
        remedy += " or a shorter context" if run.room_bytes > 0 else ""
    return Problem(
        f"weights ({run.weights_bytes / GIB:.2f} GiB), KV cache ({run.kv_bytes * run.ranks / GIB:.2f} GiB) and "
        f"processes ({run.process_bytes / GIB:.2f} GiB) take {run.required_bytes / GIB:.2f} GiB of RAM, and "
        f"{run.available_bytes / GIB:.2f} GiB are available",
        key=key,
        value=value,
        origin=origin,
        remedy=remedy,
        cause="host_oom",
    )


def _too_long(run: _CpuRun) -> Problem:
    length = int(run.context.value)
    longest, needed = run.cache.longest(run.num_blocks, length), run.cache.request_bytes(length)
    return Problem(
        f"a context of {length:,} tokens needs {needed / GIB:.2f} GiB of KV cache: with {run.kv_bytes / GIB:g} GiB the "
        f"longest that fits is {longest:,}",
        key="model.max_model_len",
        value=length,
        origin=run.inputs.fixed.problem_origin("model.max_model_len"),
        remedy=f"fits with max_model_len <= {longest:,}, or memory.kv_cache.size_gib={math.ceil(needed / GIB)}",
        cause="context_too_long",
    )


def _choices(run: _CpuRun) -> tuple[Choice, ...]:
    inputs = run.inputs
    found = [
        *model_choices(inputs),
        run.context,
        inputs.fixed.choice("memory.strategy", "cpu", "the engine runs on the CPU: all weights are in host RAM"),
        run.kv_gib,
        run.eager,
        *passed_choices(inputs),
        *run.parallelism.choices,
    ]
    for key in ("serve.max_num_batched_tokens", "serve.max_num_seqs"):
        if inputs.fixed.has(key):
            found.append(inputs.fixed.choice(key, None, ""))
    return tuple(choice for choice in (*found, *serve_choices(inputs)) if choice.value is not None)


def _estimate(run: _CpuRun) -> GpuEstimate:
    """The host's RAM as the single entry of the breakdown."""
    return GpuEstimate(
        total_bytes=run.inputs.facts.machine.host.ram_total_bytes,
        budget_bytes=run.available_bytes,
        weights_bytes=run.weights_bytes,
        offloaded_bytes=0,
        kv_cache_bytes=run.kv_bytes * run.ranks,
        activation_bytes=0,
        non_torch_bytes=run.process_bytes,
        cuda_graph_bytes=0,
        static_pool_bytes=0,
        headroom_bytes=run.available_bytes - run.required_bytes,
    )
