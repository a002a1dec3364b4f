"""What a run asks of its door."""

from __future__ import annotations

from dataclasses import dataclass, field

from nexus_orch.types.units import MIB


@dataclass(frozen=True)
class HouseRules:
    """As the run's keys say it."""

    most_body_bytes: int = 10 * MIB
    api_key: str | None = field(default=None, repr=False)
    """What clients must show, and what the engine is shown."""
    continues: bool = False
    """Whether broken streams go on after a restart."""
