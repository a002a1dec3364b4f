"""The processes of an engine, whoever started them: what lives of them, and their end."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nexus_orch.contracts import Hurry, LeftProcess, StopReport
from nexus_orch.launch.processes.family import ProcessRecord, list_processes
from nexus_orch.launch.processes.stop import stop_processes


class LeftProcesses:
    """Processes that were written down (`LeftEngine`)."""

    def __init__(self, record: ProcessRecord) -> None:
        self._record = record

    @property
    def record(self) -> ProcessRecord:
        """The processes as they were seen last."""
        return self._record

    def list_processes(self) -> Sequence[LeftProcess]:
        return list_processes(self.record)

    def stop(
        self,
        *,
        stop_seconds: float,
        force: bool = False,
        hurry: Hurry | None = None,
        on_rung: Callable[[str], None] | None = None,
    ) -> StopReport:
        return stop_processes(self.record, stop_seconds=stop_seconds, force=force, hurry=hurry, on_rung=on_rung)
