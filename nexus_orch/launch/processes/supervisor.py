"""The supervisors of runs, seen from outside: whether the process that owns a run is still there."""

from __future__ import annotations

import platform

from nexus_orch.launch.processes.family import find_process
from nexus_orch.types import ProcessKey


def is_supervised(supervisor: ProcessKey, host: str) -> bool:
    """Whether a run's supervisor still runs. One on another machine that shares our home counts as running."""
    return is_elsewhere(host) or find_process(supervisor) is not None


def is_elsewhere(host: str) -> bool:
    """Whether this is the name of another machine, whose processes cannot be seen from here."""
    return host not in ("", platform.node())
