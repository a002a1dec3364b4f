"""The base of engine providers whose engines are children of this process: how they are started and found again.

Light to import: a plan asks a provider for its engine, and starts nothing.
"""

from __future__ import annotations

from nexus_orch.contracts import EngineProvider, EngineRecord, EngineStart, LeftEngine, RunningEngine


class LocalProcesses(EngineProvider):
    """Starts and finds processes of this machine; what they are is left to `find` and `command`."""

    def start(self, start: EngineStart) -> RunningEngine:
        from nexus_orch.launch.processes.process import start_child  # noqa: PLC0415 - only a launch needs it

        return start_child(start)

    def reopen(self, record: EngineRecord) -> LeftEngine | None:
        from nexus_orch.launch.processes.family import find_family, read_record  # noqa: PLC0415 - only lost runs need it
        from nexus_orch.launch.processes.left import LeftProcesses  # noqa: PLC0415

        processes = read_record(record)
        return None if processes is None or not find_family(processes) else LeftProcesses(processes)
