"""What plugins implement: the protocols behind the hooks of `nexus_orch.hookspecs`, and the records that they share."""

from nexus_orch.contracts.adapters import Adapter, Rendering
from nexus_orch.contracts.engines import (
    ByteStream,
    EngineOrder,
    EngineProvider,
    EngineRecord,
    EngineStart,
    Hurry,
    LeftEngine,
    LeftProcess,
    OutputPump,
    RunningEngine,
    StopReport,
)
from nexus_orch.contracts.loaders import Loader, Need, Placement, Refusal, Rule, name_strategy
from nexus_orch.contracts.mechanisms import Bus, CardPass, CardWork, Mechanism, used_share

__all__ = [
    "Adapter",
    "Bus",
    "ByteStream",
    "CardPass",
    "CardWork",
    "EngineOrder",
    "EngineProvider",
    "EngineRecord",
    "EngineStart",
    "Hurry",
    "LeftEngine",
    "LeftProcess",
    "Loader",
    "Mechanism",
    "Need",
    "OutputPump",
    "Placement",
    "Refusal",
    "Rendering",
    "Rule",
    "RunningEngine",
    "StopReport",
    "name_strategy",
    "used_share",
]
