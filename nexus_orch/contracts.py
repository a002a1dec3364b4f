"""What plugins implement: the protocols behind the hooks of `nexus_orch.hookspecs`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from packaging.specifiers import SpecifierSet

from nexus_orch.errors import Problem
from nexus_orch.types import Choice, Command, EngineFacts, EngineSpec, Facts, Plan, RunSpec


@dataclass(frozen=True)
class Need:
    """What one GPU must hold, in bytes, before a loader decides where the weights go.

    `budget_bytes` is what the engine may use; `weights_bytes` is everything that would be loaded on this GPU, of which
    at most `movable_bytes` (decoder layers) can live in host RAM, layer by layer (`layer_bytes`, in model order).
    `fixed_bytes` is activation, non-torch memory and CUDA graphs; `kv_cache_bytes` is the least that the wanted
    context and concurrency take.
    """

    budget_bytes: int
    weights_bytes: int
    movable_bytes: int
    layer_bytes: tuple[int, ...]
    fixed_bytes: int
    kv_cache_bytes: int
    parameter_bytes: tuple[tuple[int, ...], ...] = ()
    """The parameters of each layer in the engine's order, without what the allocator adds: the grain of offloading."""
    active_layer_bytes: tuple[int, ...] = ()
    """What one token reads of each layer: less than all of it where a layer has routed experts."""
    parameter_names: tuple[tuple[str, ...], ...] = ()
    """The engine's name of each of the `parameter_bytes`, inside its layer ("mlp.experts.w13_weight")."""
    active_parameter_bytes: tuple[tuple[int, ...], ...] = ()
    """What one token reads of each of the `parameter_bytes`."""
    tower_bytes: tuple[int, ...] = ()
    """The parameters of a vision tower on this GPU, in order; from 0.29 on UVA moves them ahead of the layers."""
    context_cache_bytes: int = 0
    """The part of `kv_cache_bytes` without which not even one request of the wanted context can be served."""
    pool_reserved: bool = True
    """Whether the engine counts an offloader's buffers when it sizes the KV cache; else they come on top."""


@dataclass(frozen=True)
class Placement:
    """Where a loader puts the weights, for each GPU in the order of the needs.

    `static_pool_bytes` is device memory that the offload mechanism itself takes. `choices` are the settings that bring
    the placement about (memory.cpu_offload_gib, memory.offload_backend ...), each with its reason.
    """

    offloaded_bytes: tuple[int, ...]
    static_pool_bytes: tuple[int, ...]
    host_bytes: int
    pinned_bytes: int
    choices: tuple[Choice, ...] = ()
    problems: tuple[Problem, ...] = ()
    active_offloaded_bytes: tuple[int, ...] = ()
    """What one token brings over the bus of each GPU; empty when the loader does not say."""
    loading_bytes: int = 0
    """Host RAM that is taken beside `host_bytes` while the weights are loaded, and given back then."""
    copies_bytes: int = 0
    """The part of `host_bytes` that second copies of the weights take, which stay pinned when the loading is over."""
    kv_offload_bytes: int = 0
    """Host RAM for KV blocks over all GPUs, as the engine is asked for it."""
    notes: tuple[str, ...] = ()
    page_table_bytes: tuple[int, ...] = ()
    """Device memory of each GPU that maps the host memory pinned for its weights; empty when the loader does not
    say."""
    idle_bytes: tuple[int, ...] = ()
    """The part of `offloaded_bytes` that no token of text reads: a vision tower."""
    copied_layer_bytes: tuple[tuple[int, ...], ...] = ()
    """What is copied to each GPU ahead of use, layer by layer, 0 for those that stay; empty where nothing is."""


class Loader(Protocol):
    """A way to place the weights of a model. Pure: it decides, it does not act."""

    name: str
    """As in `memory.strategy`."""

    def supports(self, spec: RunSpec, facts: Facts) -> str | None:
        """None when this loader can serve the run, else the reason why it cannot, in one sentence."""

    def offer(self, needs: Sequence[Need], spec: RunSpec, facts: Facts) -> Sequence[Placement]:
        """The ways to place the weights, at least one; of equally good ones the first is taken. The planner predicts
        what each gives and takes the best for the run; what does not fit all the same is reported there, not here."""


@dataclass(frozen=True)
class Rendering:
    """A plan in one vLLM release's own words: `argv` after the launcher (`serve MODEL --flag ...`), and environment."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: frozenset[str] = frozenset()
    """Variables that are never shown, those of `secret_env` among them."""
    secret_env: Mapping[str, str] = field(default_factory=dict)
    """For each variable of the engine that holds a secret, the variable of the user's environment that it is copied
    from when the engine starts; the secret itself is in no record."""
    choices: tuple[Choice, ...] = ()
    """Settings that had to be replaced or dropped, with the reason; they go into the plan that is shown."""
    problems: tuple[Problem, ...] = ()
    said: Mapping[str, str] = field(default_factory=dict)
    """For each option and variable of the rendering that one setting brings about, the key of that setting."""


class Adapter(Protocol):
    """A translator of version-free settings to the flags and variables of a range of vLLM releases. Pure."""

    @property
    def name(self) -> str:
        """As shown in plans."""

    @property
    def versions(self) -> SpecifierSet:
        """The releases that this adapter knows. Plugins must not overlap for one release unless one of them is
        named."""

    def render(self, plan: Plan, engine: EngineFacts) -> Rendering:
        """Never emit a flag that `engine.flags` lacks. A pinned setting that cannot be honoured is a problem."""


class EngineProvider(Protocol):
    """A place where vLLM can run."""

    kind: str
    """As in `engine.kind`."""

    def find(self, spec: EngineSpec, *, cpu: bool) -> EngineFacts | None:
        """The engine that this spec means, with its version and flags read without importing it; None when there is
        none. `cpu` asks for an engine that runs without a GPU. Raises ConfigError when the spec names an engine that
        is broken or not of the wanted version."""

    def command(self, rendering: Rendering, engine: EngineFacts, env: Mapping[str, str]) -> Command:
        """The process to start for this rendering; `env` is the user's `engine.env`."""
