"""Plan: what will happen, with a reason for everything that the user did not pin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from nexus_orch.errors import Problem
from nexus_orch.types.spec import RunSpec

Origin = Literal["pinned", "derived", "learned"]
ENGINE_MOST_REQUESTS = 256
"""Requests at once where serve.max_num_seqs is left to the engine: its smallest default on GPUs."""


@dataclass(frozen=True)
class Choice:
    """One setting of the run. `key` is the configuration key, `reason` one sentence."""

    key: str
    value: Any
    origin: Origin
    reason: str


@dataclass(frozen=True)
class GpuEstimate:
    """Memory of one GPU (of the host, as the single entry of a CPU engine), in bytes.

    `budget` is what the engine may use (total x gpu_memory_utilization); `weights` what stays on the device and
    `offloaded` what does not; `headroom` is the budget's rest after all others, negative when it does not fit.
    `page_table` is the part of `non_torch` that maps the offloaded weights' pinned host memory, `kept` the part that
    PyTorch holds: the sampler's state and the workspace of experts, which releases from 0.27 on count so.
    """

    total_bytes: int
    budget_bytes: int
    weights_bytes: int
    offloaded_bytes: int
    kv_cache_bytes: int
    activation_bytes: int
    non_torch_bytes: int
    cuda_graph_bytes: int
    static_pool_bytes: int
    headroom_bytes: int
    page_table_bytes: int = 0
    kept_bytes: int = 0
    index: int | None = field(default=None, compare=False)
    """The card's number, NVML's where it is in this machine; None for the CPU. Equal cards differ in it."""


@dataclass(frozen=True)
class HostEstimate:
    """Host RAM in bytes: what the run takes at most, what there is, and how much of it must be pinned."""

    required_bytes: int
    available_bytes: int
    pinned_bytes: int
    weights_bytes: int = 0
    """Offloaded weights as the engine counts them."""
    rounding_bytes: int = 0
    """What pinning them takes beyond that."""
    copies_bytes: int = 0
    """Second copies made while loading that stay pinned (prefetch)."""
    loading_bytes: int = 0
    """Copies while the weights are loaded, given back afterwards."""
    process_bytes: int = 0
    kv_offload_bytes: int = 0
    """KV blocks outside the cards."""
    rule_of_thumb_bytes: int = 0
    """What the rule of thumb (twice the model) would ask for; 0 where it was not looked at."""
    rule_of_thumb_swap_bytes: int = 0
    """The swap space that it would ask for: a fifth of the model."""

    @property
    def parts(self) -> tuple[tuple[str, int], ...]:
        """Names and bytes of what the run takes, as far as a part is a percent of it."""
        parts = (
            ("weights", self.weights_bytes),
            ("their rounding to powers of two", self.rounding_bytes),
            ("second copies that stay pinned", self.copies_bytes),
            ("copies while loading", self.loading_bytes),
            ("processes", self.process_bytes),
            ("KV blocks", self.kv_offload_bytes),
        )
        return tuple((name, size) for name, size in parts if size and size * 100 >= self.required_bytes)


@dataclass(frozen=True)
class Proof:
    """How the engine's log shows that weights are in host RAM as planned, and what follows when it shows the opposite.

    The log of a rank is asked for the quantity `offloaded_bytes`, by the patterns that nexus_orch knows and by
    `patterns`: regular expressions over a line's message whose groups are named as the quantities of
    `nexus_orch.judge.log.measured.RankMeasured` with a unit (`offloaded_gib`, `static_pool_mib`).
    """

    mechanism: str
    """The name of the way in which the weights come to the cards (uva, prefetch ...)."""
    since: str | None = None
    """The first release whose log tells it. Before, the weights that stay on the card must show it."""
    patterns: tuple[str, ...] = ()
    asked: str | None = None
    """The setting, in GiB for each card, that the engine fills up with whole parameters: what is offloaded may then lie
    between it and the plan's own figure."""
    instead: tuple[tuple[str, Any], ...] = ()
    """The settings of another way, which is tried once when the engine did not do what was planned and the user left
    them open."""
    remedy: str = ""
    """What to do when other amounts were offloaded than were planned."""


@dataclass(frozen=True)
class Alternative:
    """Another run near the planned one, which the planner tried out and which fits."""

    change: str
    """What is different, as overrides ("memory.kv_cache.dtype=fp8") or in words ("1 more card")."""
    overrides: tuple[str, ...]
    """What to add to the command line."""
    effect: str
    """What it brings and what it costs."""
    loader: str
    max_model_len: int
    max_concurrency: float
    kv_cache_tokens: int
    decode_tokens_per_second: float | None
    offloaded_bytes: int
    """Weights in host RAM, over all cards."""


@dataclass(frozen=True)
class Prediction:
    """What the run will do. None where nothing is known well enough to say."""

    decode_tokens_per_second: float | None = None
    """One request alone."""
    time_to_first_token_seconds: float | None = None
    """One request alone, with a prompt of workload.input_tokens."""
    requests_at_once: int = 1
    """Requests of the workload that are served together: workload.concurrency, or fewer when the cache holds fewer."""
    tokens_per_second: float | None = None
    """Those requests together, prompts included, when they come at once."""
    kv_cache_tokens_low: int | None = None
    kv_cache_tokens_high: int | None = None
    borderline: bool = False
    """The verdict flips inside the range of the estimate."""
    alternatives: tuple[Alternative, ...] = ()
    """The nearest runs that fit when this one does not, or that are better for workload.objective; the best first."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """`choices` holds every setting of the run, pinned ones too; `settings` is the same as a mapping."""

    spec: RunSpec
    fits: bool
    loader: str
    engine_version: str
    model: str
    choices: tuple[Choice, ...]
    per_gpu: tuple[GpuEstimate, ...]
    host: HostEstimate
    prediction: Prediction
    kv_cache_tokens: int
    max_model_len: int
    max_concurrency: float
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = field(default=())
    is_refused: bool = False
    """Whether what is asked for cannot be had, whatever fits."""
    proof: Proof | None = None
    """How the launch must show that weights are in host RAM; None where all of them stay on the cards, or the loader
    does not say."""

    @cached_property
    def settings(self) -> Mapping[str, Any]:
        """The version-free settings by configuration key; an adapter translates them for the engine."""
        return {choice.key: choice.value for choice in self.choices}

    @property
    def mistakes(self) -> tuple[Problem, ...]:
        """The problems that no memory would mend: mistakes of the configuration, not a lack."""
        return tuple(
            problem for problem in self.problems if problem.is_mistake or problem.cause == "offload_unsupported"
        )

    @property
    def most_requests(self) -> int:
        """Requests that the engine serves at once however large its KV cache is."""
        return int(self.settings.get("serve.max_num_seqs") or ENGINE_MOST_REQUESTS)

    def choice(self, key: str) -> Choice | None:
        return next((choice for choice in self.choices if choice.key == key), None)
