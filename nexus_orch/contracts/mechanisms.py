"""What a loader says of the way in which weights that wait in host RAM come to a card: how fast, and how it shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from nexus_orch.types import Proof


class Bus(Protocol):
    """What is known of the way between host RAM and one card."""

    @property
    def copy(self) -> float | None:
        """Bytes per second of a copy from pinned memory; None where nothing is known of this bus."""

    def read_seconds(self, size: int, tokens: int) -> float | None:
        """How long products for so many tokens take to read `size` bytes of weights in place; None where nothing is
        known."""


@dataclass(frozen=True)
class CardPass:
    """One pass of the engine over the layers of one card: its tokens, and which of the weights wait in host RAM."""

    tokens: int
    offloaded_bytes: int
    """All that waits in host RAM for this card."""
    idle_bytes: int
    """The part of it that no token of text reads: a vision tower."""
    expert_bytes: int
    """The part of it that are routed experts."""
    expert_share: float
    """The share of the routed experts that one token chooses; 1 where there are none."""
    layer_bytes: tuple[int, ...]
    """The offloaded bytes layer by layer, spread evenly where the placement does not say."""
    bus: Bus

    @property
    def used_expert_bytes(self) -> float:
        """What the pass reads of the offloaded experts."""
        return self.expert_bytes * used_share(self.expert_share, self.tokens)


@dataclass(frozen=True)
class CardWork:
    """What the same pass takes on the card itself, whatever comes over the bus."""

    in_graph: bool
    """The pass is one CUDA graph."""
    weights_bytes: float
    """The layers' weights that the pass uses, wherever they are."""
    fixed_bytes: int
    """What it reads beside the layers' weights and the caches: embeddings and head."""
    cache_bytes: int
    bytes_per_second: float
    """Of the card's own memory."""
    waiting_seconds: float
    """What its kernels wait for one another."""
    arithmetic_seconds: float
    launch_seconds: float
    """What the processor takes to start the kernels; 0 in a CUDA graph."""
    routing_seconds: float
    """What the small kernels around routed experts take beside what is read in place."""
    layer_seconds: float
    """The least that one layer takes."""

    def memory_seconds(self, elsewhere_bytes: int = 0) -> float:
        """Reading weights and caches from the card's memory, without the `elsewhere_bytes` that are read elsewhere."""
        held = max(0.0, self.weights_bytes - elsewhere_bytes) + self.fixed_bytes + self.cache_bytes
        return held / self.bytes_per_second + self.waiting_seconds


class Mechanism(Protocol):
    """A way in which an engine gets at weights in host RAM. Pure."""

    @property
    def proof(self) -> Proof:
        """How the log of a launch shows that the weights wait in host RAM; it names the mechanism, too."""

    @property
    def way(self) -> str:
        """What it does with the weights, as a plan tells it: "copying ahead"."""

    def moved_bytes(self, each: CardPass) -> int:
        """What the pass brings over the bus, each weight counted once."""

    def bus_seconds(self, each: CardPass) -> float | None:
        """How long the bus is busy with that; None where nothing is known of it."""

    def pass_seconds(self, each: CardPass, work: CardWork) -> float | None:
        """How long the pass takes in all; None where nothing is known of the bus. Only asked for a card for which
        something is offloaded."""


def used_share(share: float, tokens: int) -> float:
    """The share of the experts that so many tokens use when each chooses `share` of them evenly and by itself."""
    return 1 - (1 - share) ** max(1, tokens)
