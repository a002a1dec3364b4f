"""Whether offloaded weights are read in place (UVA) or copied ahead (prefetch): the one that the bus serves sooner."""

from __future__ import annotations

from dataclasses import dataclass

from nexus_orch.types import WorkloadSpec

TOKENS_PER_READ = 190
"""A prefill under UVA reads the offloaded weights again for about every so many tokens (vLLM 0.25.1 on an H100:
8 x 1,024 tokens took 44 times as long as one read of the 6.08 GiB)."""
PREFETCH_GAIN = 1.17
"""How much more of the bus copying gets than reading in place: 8.08 against 7.0 tokens/s for the same 6.08 GiB on an
H100, 53.3 against 45.2 GiB/s on an H200 (vLLM 0.25.1)."""
TIE = 1.1
"""Within a tenth prefetch is taken: batches and prompts that are longer than planned hurt it less."""


@dataclass(frozen=True)
class Traffic:
    """What a mechanism moves for a card: `bytes` once whole, `active_bytes` for one token."""

    bytes: int
    active_bytes: int


def is_prefetch_sooner(work: WorkloadSpec, uva: Traffic, prefetch: Traffic) -> bool:
    """Prefetch moves all its bytes once for each step; UVA those that are used, and again for each tile of a prompt.

    Of routed experts, n tokens use the share 1 - (1 - s)^n, and a tile holds the tokens of one expert.
    """
    requests = max(1, work.concurrency)
    share = min(1.0, uva.active_bytes / max(1, uva.bytes))
    used = 1 - (1 - share) ** requests
    tiles = max(1.0, work.input_tokens * requests * share / TOKENS_PER_READ)
    by_uva = uva.bytes * (tiles + work.output_tokens * used)
    by_prefetch = prefetch.bytes * (1.0 + work.output_tokens)
    return by_prefetch <= by_uva * PREFETCH_GAIN * TIE
