"""What plugins implement: the protocols behind the hooks of `nexus_orch.hookspecs`, and the records that they share."""

from nexus_orch.contracts.adapters import Adapter, Rendering
from nexus_orch.contracts.engines import EngineProvider
from nexus_orch.contracts.loaders import Loader, Need, Placement, Refusal, Rule, name_strategy

__all__ = [
    "Adapter",
    "EngineProvider",
    "Loader",
    "Need",
    "Placement",
    "Refusal",
    "Rendering",
    "Rule",
    "name_strategy",
]
