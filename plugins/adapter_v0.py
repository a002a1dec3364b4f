"""vLLM before 0.8: the V0 engine."""

from __future__ import annotations

from collections.abc import Sequence

from nexus_orch import hookimpl
from nexus_orch.adapt.generations import V0
from nexus_orch.contracts import Adapter


@hookimpl
def nexus_adapters() -> Sequence[Adapter]:
    return [V0]
