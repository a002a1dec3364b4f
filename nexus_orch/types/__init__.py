"""The nouns of nexus_orch: frozen records that every stage and every plugin shares.

Bytes and seconds inside, GiB only at the edges; the unit stands in the name. What is seen of a running engine is made
when it is first asked for: a plan needs none of it, and records take half a millisecond each to make.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from nexus_orch.types.causes import CAUSES, Cause
from nexus_orch.types.command import Command, is_secret_name
from nexus_orch.types.facts import (
    CheckpointFacts,
    Device,
    EngineFacts,
    Facts,
    Flag,
    GpuFacts,
    HostFacts,
    MachineFacts,
    ModelFacts,
    Sourced,
    Storage,
    TensorHeader,
)
from nexus_orch.types.lesson import (
    COMPILED_PEAK,
    COPY_RATE,
    LAYER_READS,
    PASS_PEAK,
    RAM_RATE,
    READ_RATE,
    LayerRead,
    Lesson,
)
from nexus_orch.types.plan import Alternative, Choice, GpuEstimate, HostEstimate, Origin, Plan, Prediction, Proof
from nexus_orch.types.pressure import Finding, PressureKind
from nexus_orch.types.process import ProcessKey
from nexus_orch.types.spec import (
    EngineSpec,
    EvidenceSpec,
    GpuSpec,
    HardwareSpec,
    HostSpec,
    KvCacheSpec,
    LimitsSpec,
    LoraSpec,
    MemorySpec,
    ModelSpec,
    PreloadSpec,
    ProbeSpec,
    RunSpec,
    ServeSpec,
    SpeculativeSpec,
    SweepConstraints,
    SweepSpec,
    WorkloadSpec,
)
from nexus_orch.types.units import GIB, KIB, MIB
from nexus_orch.types.variation import Variation

if TYPE_CHECKING:
    from nexus_orch.types.observation import (
        FOREIGN,
        Emit,
        Exited,
        GpuSample,
        HostSample,
        LogLine,
        Metric,
        MetricsUnread,
        Observation,
        Probed,
        ProcessSample,
        RamProgress,
        Started,
        StopAsked,
        Vanished,
    )
    from nexus_orch.types.verdict import Attempt, Degraded, Failed, Ready, Stage, Starting, Stopped, Verdict

_LATER = ("observation", "verdict")
"""Modules that are imported when one of their names is asked for."""

__all__ = [
    "CAUSES",
    "COMPILED_PEAK",
    "COPY_RATE",
    "FOREIGN",
    "GIB",
    "KIB",
    "LAYER_READS",
    "MIB",
    "PASS_PEAK",
    "RAM_RATE",
    "READ_RATE",
    "Alternative",
    "Attempt",
    "Cause",
    "CheckpointFacts",
    "Choice",
    "Command",
    "Degraded",
    "Device",
    "Emit",
    "EngineFacts",
    "EngineSpec",
    "EvidenceSpec",
    "Exited",
    "Facts",
    "Failed",
    "Finding",
    "Flag",
    "GpuEstimate",
    "GpuFacts",
    "GpuSample",
    "GpuSpec",
    "HardwareSpec",
    "HostEstimate",
    "HostFacts",
    "HostSample",
    "HostSpec",
    "KvCacheSpec",
    "LayerRead",
    "Lesson",
    "LimitsSpec",
    "LogLine",
    "LoraSpec",
    "MachineFacts",
    "MemorySpec",
    "Metric",
    "MetricsUnread",
    "ModelFacts",
    "ModelSpec",
    "Observation",
    "Origin",
    "Plan",
    "Prediction",
    "PreloadSpec",
    "PressureKind",
    "ProbeSpec",
    "Probed",
    "ProcessKey",
    "ProcessSample",
    "Proof",
    "RamProgress",
    "Ready",
    "RunSpec",
    "ServeSpec",
    "Sourced",
    "SpeculativeSpec",
    "Stage",
    "Started",
    "Starting",
    "StopAsked",
    "Stopped",
    "Storage",
    "SweepConstraints",
    "SweepSpec",
    "TensorHeader",
    "Vanished",
    "Variation",
    "Verdict",
    "WorkloadSpec",
    "is_secret_name",
]


def __getattr__(name: str) -> Any:
    for module in _LATER if name in __all__ else ():
        found = vars(import_module(f"nexus_orch.types.{module}"))
        if name in found:
            globals()[name] = found[name]
            return found[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
