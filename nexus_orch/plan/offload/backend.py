"""Whether offloaded weights are read in place (UVA) or copied ahead (prefetch): the one that the bus serves sooner."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nexus_orch.plan.accounting import measured
from nexus_orch.types import WorkloadSpec

TIE = 1.1
"""Within a tenth prefetch is taken: batches and prompts that are longer than planned hurt it less."""


@dataclass(frozen=True)
class Traffic:
    """What a mechanism moves for a card: `bytes` once whole, `active_bytes` for one token."""

    bytes: int
    active_bytes: int


def is_prefetch_sooner(work: WorkloadSpec, uva: Traffic, prefetch: Traffic) -> bool:
    """Prefetch moves all its bytes once for each step; UVA those that are used, and again for each tile of a prompt.
    Copies get more of the bus than reads in place do (data/measured.json, `throughput`).

    Of routed experts, n tokens use the share 1 - (1 - s)^n, and a tile holds the tokens of one expert.
    """
    constants: Mapping[str, float] = measured("throughput")
    requests = max(1, work.concurrency)
    share = min(1.0, uva.active_bytes / max(1, uva.bytes))
    used = 1 - (1 - share) ** requests
    tiles = max(1.0, work.input_tokens * requests * share / constants["uva_tokens_per_read"])
    by_uva = uva.bytes * (tiles + work.output_tokens * used)
    by_prefetch = prefetch.bytes * (1.0 + work.output_tokens)
    return by_prefetch <= by_uva * constants["prefetch_gain"] * TIE
