"""vLLM 0.8 to 0.19: the V1 engine with its first model runner."""

from __future__ import annotations

from collections.abc import Sequence

from nexus_orch import hookimpl
from nexus_orch.adapt.generations import V1
from nexus_orch.contracts import Adapter


@hookimpl
def nexus_adapters() -> Sequence[Adapter]:
    return [V1]
