"""vLLM 0.20 and later: the V1 engine with the second model runner."""

from __future__ import annotations

from collections.abc import Sequence

from nexus_orch import hookimpl
from nexus_orch.adapt.generations import V2
from nexus_orch.contracts import Adapter


@hookimpl
def nexus_adapters() -> Sequence[Adapter]:
    return [V2]
