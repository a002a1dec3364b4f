"""Reads spec and facts into what the plan is made of: architecture, data type, weight format and their choices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from nexus_orch.errors import Problem
from nexus_orch.plan.asked.fixed import FixedSettings
from nexus_orch.plan.asked.lora import Lora, StageLayers, read_lora
from nexus_orch.plan.asked.passed import Passed, read_passed
from nexus_orch.plan.asked.speculation import Speculation, VerifyingModel, read_speculation
from nexus_orch.plan.model.architecture import Architecture, Layer
from nexus_orch.plan.model.formats import DTYPE_BYTES, UNQUANTIZED, Scheme
from nexus_orch.plan.model.gguf import choose_gguf_scheme, gguf_notes
from nexus_orch.plan.model.headers import layer_scale
from nexus_orch.plan.model.quantization import choose_scheme
from nexus_orch.plan.model.tensors import choose_architecture
from nexus_orch.plan.release.generations import Generation, choose_generation
from nexus_orch.plan.release.kept import Batch
from nexus_orch.plan.release.kv_cache import CacheShape
from nexus_orch.plan.release.weights import RankWeights, WeightLayout
from nexus_orch.releases.memory import skips_unused_towers
from nexus_orch.releases.models import OBEYS_CACHE_TYPE
from nexus_orch.types import Choice, Facts, Lesson, RunSpec, Variation

BLOCK_MULTIPLE = 8
"""V0 accepted blocks of 8, 16 and 32 tokens; FlashAttention and later releases want multiples of 16."""
LONGER_VARIABLE = "VLLM_ALLOW_LONG_MAX_MODEL_LEN"
MODEL_DTYPES = frozenset({"bfloat16", "float16", "half", "float32", "float"})
_MINIMUM_CAPABILITY = {"fp8": (8, 0), "awq": (7, 5), "gptq": (6, 0), "mxfp4": (8, 0), "compressed-tensors": (7, 5)}
"""The oldest cards that vLLM's kernels for these formats run on (get_min_capability of each quantization config)."""


@dataclass(frozen=True)
class Inputs:
    """The facts and settings of a run that no later decision changes."""

    fixed: FixedSettings
    facts: Facts
    architecture: Architecture
    scheme: Scheme
    dtype: Choice
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    derived_kv_dtype: str | None = None
    """The planner's own choice for keys and values (see `nexus_orch.plan.search.narrow`); None: the model's."""
    speculation: Speculation | None = None
    """The draft of speculative decoding; None where nobody drafts."""

    @property
    def spec(self) -> RunSpec:
        return self.fixed.spec

    @property
    def is_cpu(self) -> bool:
        return self.facts.engine.device == "cpu"

    @property
    def dtype_bytes(self) -> int:
        return DTYPE_BYTES.get(str(self.dtype.value), 2)

    @property
    def kv_dtype_bytes(self) -> int:
        name = self.spec.memory.kv_cache.dtype or self.derived_kv_dtype or self.stored_kv_dtype
        return self.dtype_bytes if name is None else DTYPE_BYTES.get(str(name), 1)

    @cached_property
    def passed(self) -> Passed:
        """What options that are only passed on say about memory."""
        return read_passed(self.spec.serve.extra_args)

    def cache_shape(
        self, generation: Generation, batched_tokens: int, block_size: int, ranks: tuple[int, int]
    ) -> CacheShape:
        """What decides the pages of the KV cache; `ranks` are those of tensor and pipeline parallelism."""
        passed = self.passed
        pinned = self.spec.serve.prefix_caching
        wants = passed.caches_prefixes if pinned is None else pinned
        state_type = passed.state_dtype if passed.state_dtype != "auto" else None
        return CacheShape(
            ranks[0],
            self.kv_dtype_bytes,
            self.dtype_bytes,
            self.spec.memory.kv_cache.block_size or block_size,
            batched_tokens * self._batches_in_flight(generation, ranks[1]),
            self.architecture.attention_heads,
            draft_tokens=0 if self.speculation is None else self.speculation.tokens,
            context_parallel=passed.context_parallel,
            caches_prefixes=generation.cache.prefixes_of_states if wants is None else wants,
            state_mode=passed.state_mode,
            state_element_bytes=DTYPE_BYTES.get(state_type or ""),
        )

    def _batches_in_flight(self, generation: Generation, stages: int) -> int:
        """Batches whose tokens a window holds at once (config/vllm.py: max_concurrent_batches of 0.26.0): one more than
        there are stages, where batches are prepared ahead, which another model's drafts prevent."""
        if not generation.cache.batches_in_flight:
            return 1
        told = self.passed.overlaps_batches
        ahead = (self.speculation is None or not self.speculation.has_model) if told is None else told
        return stages + (1 if ahead and (stages == 1 or generation.name == "V2 runner") else 0)

    def batch(self, batched_tokens: int, requests: int, max_model_len: int, tensor_parallel: int) -> Batch:
        """The shape of the run that decides its activations, with what is drafted."""
        return Batch(
            batched_tokens,
            requests,
            max_model_len,
            tensor_parallel,
            drafted=0 if self.speculation is None else self.speculation.tokens,
            draft_layers=len(self.draft_layers),
            adapts=self.lora is not None,
        )

    @property
    def draft_layers(self) -> tuple[Layer, ...]:
        """Layers of the draft, which keep keys and values beside the model's own, on the last stage."""
        return () if self.speculation is None else self.speculation.layers

    @property
    def serves_images(self) -> bool:
        """Whether the run takes images or videos."""
        return _serves_images(self.spec, self.passed)

    @property
    def data_parallel(self) -> int:
        """Engines side by side, on all machines."""
        return self.spec.serve.data_parallel or self.passed.data_parallel or 1

    @property
    def engines(self) -> int:
        """Those of them that run on this machine."""
        return min(self.data_parallel, self.passed.local_engines or self.data_parallel)

    @cached_property
    def lora(self) -> Lora | None:
        """Room for LoRA adapters; None where the run serves none."""
        return read_lora(self.spec, self.facts.engine.version, self.dtype_bytes)

    def beside_bytes(self, tensor_parallel: int, stage: StageLayers, *, whole_segments: bool) -> int:
        """Bytes of what a rank of a stage loads beside the model's own weights: the draft, which runs on the last one,
        and room for adapters."""
        found, drafting = self.speculation, 0
        if found is not None and stage.is_last:
            drafting = found.weights_bytes(self.dtype_bytes, tensor_parallel, whole_segments=whole_segments)
        room = 0 if self.lora is None else self.lora.card_bytes(self.architecture, stage, tensor_parallel)
        return drafting + room

    def unsure_bytes(self, tensor_parallel: int) -> int:
        """Bytes by which that may be wrong."""
        found = self.speculation
        if found is None:
            return 0
        whole = found.weights_bytes(self.dtype_bytes, tensor_parallel, whole_segments=False)
        return int(found.unsure_share * whole)

    @property
    def is_guess(self) -> bool:
        """Whether the weights or the layers are assumed in part: ranges are wider then."""
        return self.architecture.is_guess or self.scheme.is_guess

    @property
    def stored_kv_dtype(self) -> str | None:
        """The type of keys and values that the checkpoint asks for, where this release obeys it."""
        fact = OBEYS_CACHE_TYPE.get(self.scheme.method or "")
        return self.scheme.kv_cache_dtype if fact is not None and fact(self.facts.engine.version) else None

    def generation(self, *, offloading: bool = False) -> Generation:
        """The accounting rules of this engine for this model."""
        chosen = self.spec.engine.env.get("VLLM_USE_V2_MODEL_RUNNER")
        return choose_generation(
            self.facts.engine,
            self.architecture,
            quantized=self.scheme.method is not None,
            offloading=offloading,
            v2_runner=None if chosen is None else chosen.strip().lower() in ("1", "true"),
            method=None if self.speculation is None else self.speculation.method,
            flashinfer_sampler=self.spec.engine.env.get("VLLM_USE_FLASHINFER_SAMPLER", "1").strip() != "0",
        )

    @cached_property
    def by_estimates(self) -> Inputs:
        """The same run without measured sizes: those hold for one parallelism and one batch."""
        fixed = self.fixed.by_estimates()
        return self if fixed is self.fixed else replace(self, fixed=fixed)

    def varied(self, variation: Variation) -> Inputs:
        """The run with a change that leaves architecture, data type and weight format as they are. Sizes that were
        measured on fewer cards are left out."""
        spec, facts = variation.apply(self.fixed.original, self.facts)
        fixed = FixedSettings(spec, tuple(self.fixed.lessons.values()))
        return replace(self, facts=facts, fixed=fixed.by_estimates() if variation.more_cards else fixed)

    @cached_property
    def checkpoint_scale(self) -> float:
        """Bytes that the checkpoint's quantized layers really take, over the bytes that are computed for them."""
        return layer_scale(self.architecture, self.scheme, self.facts.model.checkpoint)

    @cached_property
    def whole(self) -> RankWeights:
        """The weights of the whole model on one rank."""
        return self.weight_layout(1, 1, whole_segments=False, engines=1).stages[0]

    def weight_layout(
        self,
        tensor_parallel: int,
        pipeline_parallel: int,
        *,
        whole_segments: bool,
        partition: tuple[int, ...] = (),
        expandable: bool = False,
        engines: int | None = None,
    ) -> WeightLayout:
        """How the model is divided; `engines` share its experts, None for as many as the run has."""
        sharing = self.data_parallel if engines is None else engines
        key = (tensor_parallel, pipeline_parallel, whole_segments, partition, expandable, sharing)
        if key not in self._layouts:
            self._layouts[key] = WeightLayout(
                self.architecture,
                self.scheme,
                self.dtype_bytes,
                tensor_parallel,
                pipeline_parallel,
                whole_segments,
                self.checkpoint_scale,
                partition,
                expandable,
                sharing,
                bool(self.spec.serve.expert_parallel or self.passed.expert_parallel),
            )
        return self._layouts[key]

    @cached_property
    def _layouts(self) -> dict[tuple[int, int, bool, tuple[int, ...], bool, int], WeightLayout]:
        """One for each way to divide the model, which a plan tries with many settings."""
        return {}


def read_inputs(spec: RunSpec, facts: Facts, lessons: Sequence[Lesson]) -> Inputs:
    """The inputs of a plan. Raises ConfigError when the model's configuration cannot be read; what merely cannot run
    becomes a problem."""
    fixed = FixedSettings(spec, lessons)
    architecture = _with_served_towers(_stretched(choose_architecture(facts.model), spec), fixed.spec, facts)
    capability = facts.machine.gpus[0].compute_capability if facts.machine.gpus else None
    scheme = _choose_scheme(fixed, facts, architecture, capability)
    dtype, problems = _choose_dtype(fixed, facts, architecture)
    problems += [*_kv_dtype_problems(fixed), *_block_problems(fixed)]
    if isinstance(scheme, Problem):
        problems.append(scheme)
        scheme = UNQUANTIZED
    oldest = _MINIMUM_CAPABILITY.get(scheme.method or "")
    if oldest is not None and capability is not None and capability < oldest:
        problems.append(_too_old(scheme, facts, oldest))
    notes = (*architecture.notes, *scheme.notes, *gguf_notes(facts))
    asked = fixed.spec.serve.speculative
    if not asked.is_asked:
        asked = read_passed(fixed.spec.serve.extra_args).speculative
    speculation = read_speculation(asked, fixed.spec, facts, VerifyingModel(architecture, scheme))
    if speculation is not None:
        problems, notes = [*problems, *speculation.problems], (*notes, *speculation.notes)
    return Inputs(fixed, facts, architecture, scheme, dtype, tuple(problems), notes, speculation=speculation)


def _with_served_towers(architecture: Architecture, spec: RunSpec, facts: Facts) -> Architecture:
    """The architecture without the towers that the engine leaves out, because nothing that they see or hear is allowed.
    The embedding stays apart from what is compiled."""
    if not skips_unused_towers(facts.engine.version) or _serves_images(spec, read_passed(spec.serve.extra_args)):
        return architecture
    return replace(architecture, vision=(), image_token_bytes=0, largest_image_tokens=0)


def _serves_images(spec: RunSpec, passed: Passed) -> bool:
    limits = spec.model.limit_mm_per_prompt
    if spec.model.language_model_only or not passed.serves_images:
        return False
    return limits is None or limits.get("image") != 0 or limits.get("video", 0) != 0


def _stretched(architecture: Architecture, spec: RunSpec) -> Architecture:
    """The architecture with a pinned context beyond its own limit, where vLLM is told to allow it (config/model.py,
    _get_and_verify_max_len)."""
    pinned = spec.model.max_model_len or 0
    is_allowed = spec.engine.env.get(LONGER_VARIABLE, "").strip().lower() in ("1", "true")
    if not is_allowed or pinned <= architecture.longest_context:
        return architecture
    note = (
        f"{LONGER_VARIABLE} allows {pinned:,} tokens, and the model was made for {architecture.longest_context:,}: "
        "beyond them it may answer nonsense"
    )
    return replace(architecture, longest_context=pinned, notes=(*architecture.notes, note))


def _choose_scheme(
    fixed: FixedSettings, facts: Facts, architecture: Architecture, capability: tuple[int, int] | None
) -> Scheme | Problem:
    """The weight format; the tensors of a guessed architecture are taken as they are stored."""
    if architecture.is_stored:
        return UNQUANTIZED
    gguf = choose_gguf_scheme(architecture, facts.model.checkpoint)
    pinned = fixed.spec.model.quantization
    return gguf or choose_scheme(facts.model.config, pinned, capability, facts.engine.version)


def _choose_dtype(fixed: FixedSettings, facts: Facts, architecture: Architecture) -> tuple[Choice, list[Problem]]:
    lacking = [gpu for gpu in facts.machine.gpus if gpu.supports_bf16 is False]
    if facts.engine.device == "cpu":
        derived, reason = "float16", "on CPUs that announce AMX without giving it, workers die of bfloat16"
    elif lacking:
        derived, reason = "float16", f"{lacking[0].name} has no bfloat16"
    elif architecture.checkpoint_dtype == "float16":
        derived, reason = "float16", "the checkpoint is stored in float16"
    else:
        derived, reason = "bfloat16", "the usual type for serving; every card of this run has it"
    choice = fixed.choice("model.dtype", derived, reason)
    return choice, _dtype_problems(fixed, choice, [gpu.name for gpu in lacking])


def _dtype_problems(fixed: FixedSettings, choice: Choice, lacking: list[str]) -> list[Problem]:
    common = {"key": "model.dtype", "value": choice.value, "origin": fixed.problem_origin("model.dtype")}
    if choice.value not in MODEL_DTYPES:
        message = f'model.dtype "{choice.value}" is none of {", ".join(sorted(MODEL_DTYPES))}'
        return [Problem(message, **common, remedy="leave it unset", cause="unsupported_dtype")]
    if choice.value == "bfloat16" and lacking:
        message = f"{lacking[0]} has no bfloat16"
        return [Problem(message, **common, remedy="model.dtype=float16", cause="unsupported_dtype")]
    return []


def _kv_dtype_problems(fixed: FixedSettings) -> list[Problem]:
    name = fixed.spec.memory.kv_cache.dtype
    if name not in ("float32", "float"):
        return []
    return [
        Problem(
            "no release of vLLM keeps its KV cache in float32",
            key="memory.kv_cache.dtype",
            value=name,
            origin=fixed.problem_origin("memory.kv_cache.dtype"),
            remedy="leave it unset: keys and values keep the type of the model",
            cause="unsupported_dtype",
        )
    ]


def _block_problems(fixed: FixedSettings) -> list[Problem]:
    size = fixed.spec.memory.kv_cache.block_size
    if size is None or size % BLOCK_MULTIPLE == 0:
        return []
    return [
        Problem(
            f"attention kernels read blocks of a multiple of {BLOCK_MULTIPLE} tokens",
            key="memory.kv_cache.block_size",
            value=size,
            origin=fixed.problem_origin("memory.kv_cache.block_size"),
            remedy="leave it unset, or use 16, 32, 64 or 128",
            cause="unsupported_block_size",
        )
    ]


def _too_old(scheme: Scheme, facts: Facts, oldest: tuple[int, int]) -> Problem:
    card = facts.machine.gpus[0]
    have = ".".join(map(str, card.compute_capability or ()))
    return Problem(
        f"{scheme.method} weights need a card of compute capability {oldest[0]}.{oldest[1]}; {card.name} has {have}",
        key="model.quantization",
        value=scheme.method,
        remedy="choose the model in another format",
        cause="unsupported_quantization",
    )
