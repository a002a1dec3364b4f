"""vLLM 0.8 to 0.19: the V1 engine with its first model runner."""

from __future__ import annotations

from collections.abc import Sequence

from packaging.specifiers import SpecifierSet

from nexus_orch import hookimpl
from nexus_orch.adapt.guards import guard_api_key, guard_cpu_threads
from nexus_orch.adapt.render import TableAdapter
from nexus_orch.adapt.settings import SETTINGS
from nexus_orch.contracts import Adapter

ADAPTER = TableAdapter(
    name="v1",
    versions=SpecifierSet(">=0.8,<0.20"),
    table=SETTINGS,
    guards=(guard_api_key, guard_cpu_threads),
)


@hookimpl
def nexus_adapters() -> Sequence[Adapter]:
    return [ADAPTER]
