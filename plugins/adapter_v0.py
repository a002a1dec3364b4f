"""vLLM before 0.8: the V0 engine, the only one with a swap space for preempted requests."""

from __future__ import annotations

from collections.abc import Sequence

from packaging.specifiers import SpecifierSet

from nexus_orch import hookimpl
from nexus_orch.adapt.guards import guard_api_key, guard_cpu_threads
from nexus_orch.adapt.render import TableAdapter
from nexus_orch.adapt.settings import SETTINGS
from nexus_orch.adapt.ways import Way, write_number
from nexus_orch.contracts import Adapter

ADAPTER = TableAdapter(
    name="v0",
    versions=SpecifierSet("<0.8"),
    table={**SETTINGS, "memory.swap_gib": (Way("--swap-space", write=write_number),)},
    guards=(guard_api_key, guard_cpu_threads),
)


@hookimpl
def nexus_adapters() -> Sequence[Adapter]:
    return [ADAPTER]
