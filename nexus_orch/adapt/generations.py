"""The adapters of the three generations of vLLM: shared tables and guards, each with what is its own.

A plugin that knows one setting or release more begins with one of these: `extend(V2, name="mine", table={...})`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from packaging.specifiers import SpecifierSet

from nexus_orch.adapt.allocator import guard_allocator
from nexus_orch.adapt.guards import guard_api_key, guard_cpu_threads, guard_old_engine
from nexus_orch.adapt.offload_guards import guard_load_strategy, guard_model_runner
from nexus_orch.adapt.render import Guard, TableAdapter
from nexus_orch.adapt.settings import SETTINGS
from nexus_orch.adapt.ways import Table, Way, write_number

_EVERYWHERE: tuple[Guard, ...] = (guard_load_strategy, guard_api_key, guard_cpu_threads)

V0 = TableAdapter(
    name="v0",
    versions=SpecifierSet("<0.8"),
    table={**SETTINGS, "memory.swap_gib": (Way("--swap-space", write=write_number),)},
    guards=_EVERYWHERE,
)
"""vLLM before 0.8: the V0 engine, the only one with a swap space for preempted requests."""

V1 = TableAdapter(
    name="v1",
    versions=SpecifierSet(">=0.8,<0.20"),
    table=SETTINGS,
    guards=(guard_allocator, *_EVERYWHERE, guard_old_engine),
)
"""vLLM 0.8 to 0.19: the V1 engine with its first model runner, and until 0.10 the V0 engine for who asks for it."""

V2 = TableAdapter(
    name="v2",
    versions=SpecifierSet(">=0.20"),
    table=SETTINGS,
    guards=(guard_model_runner, guard_allocator, *_EVERYWHERE, guard_old_engine),
)
"""vLLM 0.20 and later: the V1 engine with the second model runner, which several releases choose by themselves."""


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
