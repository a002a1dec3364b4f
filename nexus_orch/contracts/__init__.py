"""What plugins implement: the protocols behind the hooks of `nexus_orch.hookspecs`, and the records that they share."""

from nexus_orch.contracts.adapters import Adapter, Rendering
from nexus_orch.contracts.engines import EngineProvider
from nexus_orch.contracts.loaders import Loader, Need, Placement, Refusal, Rule, name_strategy
from nexus_orch.contracts.mechanisms import Bus, CardPass, CardWork, Mechanism, used_share

__all__ = [
    "Adapter",
    "Bus",
    "CardPass",
    "CardWork",
    "EngineProvider",
    "Loader",
    "Mechanism",
    "Need",
    "Placement",
    "Refusal",
    "Rendering",
    "Rule",
    "name_strategy",
    "used_share",
]
