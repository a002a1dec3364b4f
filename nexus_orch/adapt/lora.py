"""The settings of LoRA adapters in the words of each release. Sources: nexus_orch/releases/lora.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nexus_orch.adapt.ways import Table, UnwritableError, Way, write_words
from nexus_orch.releases.lora import lora_ranks, takes_rank_1, takes_rank_128, takes_rank_512


def _write_rank(release: str | None) -> Callable[[Any], str]:
    """A writer of the ranks that `release` takes. The writer raises UnwritableError for others, with the next larger
    one."""
    ranks = lora_ranks(release or "0.0")

    def write(value: Any) -> str:
        if int(value) not in ranks:
            larger = [rank for rank in ranks if rank > int(value)]
            raise UnwritableError(f"takes {', '.join(map(str, ranks))}", larger[0] if larger else ranks[-1])
        return str(int(value))

    return write


LORA: Table = {
    "model.lora.enabled": (Way("--enable-lora", silent=(False,)),),
    "model.lora.max_loras": (Way("--max-loras"),),
    "model.lora.max_lora_rank": (
        Way("--max-lora-rank", write=_write_rank(None), releases=takes_rank_128.earlier),
        Way("--max-lora-rank", write=_write_rank(takes_rank_128.since), releases=takes_rank_512.earlier),
        Way("--max-lora-rank", write=_write_rank(takes_rank_512.since), releases=takes_rank_1.earlier),
        Way("--max-lora-rank", write=_write_rank(takes_rank_1.since)),
    ),
    "model.lora.max_cpu_loras": (Way("--max-cpu-loras"),),
    "model.lora.modules": (Way("--lora-modules", write=write_words),),
    "model.lora.target_modules": (Way("--lora-target-modules", write=write_words),),
    "model.lora.dtype": (Way("--lora-dtype"),),
    "model.lora.fully_sharded": (Way("--fully-sharded-loras", silent=(False,)),),
}
