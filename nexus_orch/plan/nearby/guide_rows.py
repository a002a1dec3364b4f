"""The nouns of the guidance tables. Sizes are bytes; machines and models are names of profiles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Machine:
    """A hardware profile by its name, and its cards."""

    name: str
    cards: int
    card_bytes: int


@dataclass(frozen=True)
class SizeRow:
    """The memory that a model in one weight format needs; machines are None where no profile is enough."""

    model: str
    parameters: int
    weights: str
    weights_bytes: int
    least: Machine | None
    comfortable: Machine | None


@dataclass(frozen=True)
class Breakdown:
    """Bytes of one card by what takes them. `kv_cache_bytes` holds one request of each length."""

    model: str
    machine: str
    weights_bytes: int
    kv_cache_bytes: Mapping[str, int]
    activation_bytes: int
    cuda_graph_bytes: int
    non_torch_bytes: int

    @property
    def total_bytes(self) -> int:
        """Bytes of all parts, with one request of the shortest length."""
        fixed = self.weights_bytes + self.activation_bytes + self.cuda_graph_bytes + self.non_torch_bytes
        return fixed + min(self.kv_cache_bytes.values())


@dataclass(frozen=True)
class RecommendedRow:
    """The largest model of a kind that a machine serves from its cards, and the settings with which it does."""

    machine: str
    weights: str
    model: str
    parameters: int
    max_model_len: int
    max_concurrency: float
    decode_tokens_per_second: float | None
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class OffloadRow:
    """A model that is too large for a card, shared with host RAM."""

    machine: str
    model: str
    weights: str
    on_card_bytes: int
    offloaded_bytes: int
    pinned_bytes: int
    host_ram_bytes: int
    max_model_len: int
    decode_tokens_per_second: float | None


@dataclass(frozen=True)
class Guide:
    engine_version: str
    sizes: tuple[SizeRow, ...]
    breakdown: Breakdown | None
    recommended: tuple[RecommendedRow, ...]
    offload: tuple[OffloadRow, ...]
