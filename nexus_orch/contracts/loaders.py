"""What a plugin implements that offers ways to place a model's weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from nexus_orch.contracts.mechanisms import Mechanism
from nexus_orch.errors import Problem
from nexus_orch.types import Cause, Choice, Facts, RunSpec


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
    the placement about (memory.cpu_offload_gib, memory.offload_backend ...), each with its reason; a key such as
    `engine.env.VLLM_NAME` is a variable of the engine.
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
    mechanism: Mechanism | None = None
    """How what is offloaded comes to the cards. Without it nothing is known of the speed, and a launch is not asked to
    prove anything."""
    needs_eager: str | None = None
    """Why it works without CUDA graphs only, in one sentence; None where it works with them."""
    honours: tuple[str, ...] = ()
    """Pinned settings that it does justice to although none of its choices names them; any other that no choice names
    is refused."""

    @property
    def per_card(self) -> Mapping[str, Sequence[object]]:
        """What has one entry for each GPU, by name; all but the first two may be empty."""
        return {
            "offloaded_bytes": self.offloaded_bytes,
            "static_pool_bytes": self.static_pool_bytes,
            "active_offloaded_bytes": self.active_offloaded_bytes,
            "page_table_bytes": self.page_table_bytes,
            "idle_bytes": self.idle_bytes,
            "copied_layer_bytes": self.copied_layer_bytes,
        }


@dataclass(frozen=True)
class Rule:
    """Settings that contradict each other in a spec for which `broken` is true, whatever the machine. Pure.

    `keys` are the settings, the one that the reader should look at first; `message` says why they contradict each other
    and `remedy` what to write instead.
    """

    keys: tuple[str, ...]
    broken: Callable[[RunSpec], bool]
    message: str
    remedy: str


@dataclass(frozen=True)
class Refusal:
    """Why a strategy cannot serve a run here. `key` is the setting that is the mistake, `remedy` what to do about it,
    `cause` the failure that a launch would end with."""

    reason: str
    """One sentence without a full stop."""
    key: str = "memory.strategy"
    remedy: str = "choose another strategy, or leave memory.strategy unset"
    cause: Cause | None = None


class Loader(Protocol):
    """A way to place the weights of a model: a strategy. Pure: it decides, it does not act.

    A class that names `Loader` as its base inherits the values below.
    """

    name: str
    """As in `memory.strategy`."""
    order: int = 100
    """When no strategy is pinned, the one with the smallest number is tried first: the fastest. Equal ones follow by
    name."""
    profile: str | None = None
    """The profile of the group `memory` that chooses this strategy, if one comes with it (conf/memory/NAME.yaml)."""
    rules: Sequence[Rule] = ()
    """The settings that contradict this strategy where it is pinned."""
    offloads: bool = True
    """Whether it may leave weights in host RAM."""

    def supports(self, spec: RunSpec, facts: Facts) -> Refusal | None:
        """None when this strategy can serve the run with this engine and model, else why it cannot."""

    def offer(self, needs: Sequence[Need], spec: RunSpec, facts: Facts) -> Sequence[Placement]:
        """The ways to place the weights, at least one; of equally good ones the first is taken. The planner predicts
        what each gives and takes the best for the run; what does not fit all the same is reported there, not here."""


def name_strategy(loader: Loader) -> str:
    """The override that chooses this strategy: its profile where there is one, else the setting itself."""
    return f"memory.strategy={loader.name}" if loader.profile is None else f"memory={loader.profile}"
