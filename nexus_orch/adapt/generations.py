"""The adapters of the three generations of vLLM: shared tables and guards, each with what is its own.

A plugin that knows one setting or release more begins with one of these: `extend(V2, name="mine", table={...})`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from packaging.specifiers import SpecifierSet

from nexus_orch.adapt.allocator import guard_allocator
from nexus_orch.adapt.guards import guard_api_key, guard_cpu_threads, guard_old_engine
from nexus_orch.adapt.offload_guards import LOAD_STRATEGY_FLAG, guard_load_strategy, guard_model_runner
from nexus_orch.adapt.render import Guard, TableAdapter
from nexus_orch.adapt.settings import SETTINGS
from nexus_orch.adapt.ways import Table, Way, write_number
from nexus_orch.releases.engine import chooses_second_runner, v0_by_default

_GUARDED = {"memory.load_strategy": LOAD_STRATEGY_FLAG}
_EVERYWHERE: tuple[Guard, ...] = (guard_load_strategy, guard_api_key, guard_cpu_threads)
_V1_ENGINE: tuple[Guard, ...] = (guard_model_runner, guard_allocator, *_EVERYWHERE, guard_old_engine)

V0 = TableAdapter(
    name="v0",
    versions=v0_by_default.specifier,
    table={**SETTINGS, "memory.swap_gib": (Way("--swap-space", write=write_number),)},
    guards=_EVERYWHERE,
    guarded=_GUARDED,
)
"""The V0 engine, the only one with a swap space for preempted requests."""

V1 = TableAdapter(
    name="v1",
    versions=SpecifierSet(f">={v0_by_default.before},<{chooses_second_runner.since}"),
    table=SETTINGS,
    guards=_V1_ENGINE,
    guarded=_GUARDED,
)
"""The V1 engine with its first model runner, and in older releases the V0 engine for who asks for it."""

V2 = TableAdapter(
    name="v2",
    versions=chooses_second_runner.specifier,
    table=SETTINGS,
    guards=_V1_ENGINE,
    guarded=_GUARDED,
)
"""The V1 engine with the second model runner, which these releases choose by themselves for some models or all."""


def extend(
    base: TableAdapter, *, name: str, table: Table, versions: str | None = None, guards: Sequence[Guard] = ()
) -> TableAdapter:
    """The adapter `base` under a name of its own, with these ways of settings and these guards on top.

    A setting that `base` knows is replaced. `versions` narrows the releases; None keeps those of `base`.
    """
    return replace(
        base,
        name=name,
        versions=base.versions if versions is None else SpecifierSet(versions),
        table={**base.table, **table},
        guards=(*base.guards, *guards),
    )
