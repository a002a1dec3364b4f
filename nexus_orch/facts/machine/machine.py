"""The machine of a run: its cards and its host, measured here or described by a hardware profile."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from nexus_orch.facts.machine.gpus import read_gpus
from nexus_orch.facts.machine.host import is_wsl, read_host
from nexus_orch.types import HardwareSpec, MachineFacts


def read_machine(spec: HardwareSpec, origins: Mapping[str, str]) -> MachineFacts:
    """What is true about one node of this hardware. Raises ConfigError for a card that nobody knows.

    `gpu.count` 0 is the CPU engine; without a model and a count NVML is asked, and a machine without cards gives a
    note with the reason. A profile that names a card is measured when such cards are here, else taken from the
    catalogue, with `is_this_machine` False; it is then assumed to run Linux, the only system that vLLM uses cards on.
    """
    cards = read_gpus(spec.gpu, origins)
    is_here = cards.is_this_machine
    host = read_host(spec.host, origins, is_this_machine=is_here, is_assumption=spec.gpu.model is not None)
    return MachineFacts(
        name=spec.name,
        gpus=cards.gpus,
        host=host.facts,
        platform=sys.platform if is_here else "linux",
        is_wsl=is_here and is_wsl(),
        is_this_machine=is_here,
        notes=(*cards.notes, *host.notes),
        driver_version=cards.driver_version,
        visible_gpus=cards.visible,
    )
