"""Engines of earlier runs that live on although the process that watched over them is gone."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from nexus_orch.launch.processes.family import GONE, EngineRecord, find_family, find_process, key_of
from nexus_orch.types import ProcessKey


@dataclass(frozen=True)
class OrphanProcess:
    key: ProcessKey
    name: str
    rss_bytes: int


@dataclass(frozen=True)
class Orphan:
    """An engine without a supervisor. `stop_engine(orphan.record, ...)` ends it."""

    record: EngineRecord
    processes: tuple[OrphanProcess, ...]

    @property
    def run_id(self) -> str:
        return self.record.run_id


def find_orphans(records: Iterable[EngineRecord]) -> tuple[Orphan, ...]:
    """Those of the recorded engines whose supervisor is gone and of which at least one process still lives."""
    orphans = []
    for record in records:
        if record.supervisor is not None and find_process(record.supervisor) is not None:
            continue
        processes = _read_processes(record)
        if processes:
            orphans.append(Orphan(record, processes))
    return tuple(orphans)


def _read_processes(record: EngineRecord) -> tuple[OrphanProcess, ...]:
    found = []
    for _, process in sorted(find_family(record).items()):
        with suppress(*GONE):
            found.append(OrphanProcess(key_of(process), process.name(), process.memory_info().rss))
    return tuple(found)
