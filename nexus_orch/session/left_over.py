"""Engines of earlier runs that live on although the process that watched over them is gone.

Which provider can find one again stands in the run's journal: its kind, and the project folder whose plugins offered
it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nexus_orch.contracts import EngineProvider, EngineRecord, LeftEngine, LeftProcess
from nexus_orch.errors import NexusError, PluginError, Problem
from nexus_orch.launch.processes.supervisor import is_supervised
from nexus_orch.plugin_manager import Plugins, load_plugins
from nexus_orch.record.find import find_runs
from nexus_orch.record.read_run import read_run
from nexus_orch.record.run_record import RunRecord
from nexus_orch.types import GIB


@dataclass(frozen=True)
class LeftOver:
    """An engine without a supervisor; `processes` are what lives of it."""

    run_id: str
    engine: LeftEngine
    processes: tuple[LeftProcess, ...]


class EngineFinder:
    """Finds the engines of lost runs; the plugins of a project are loaded once."""

    def __init__(self) -> None:
        self._loaded: dict[Path | None, Plugins] = {}

    def open(self, run: RunRecord) -> LeftOver | None:
        """What a lost run has left of its engine; None when nothing is there. Raises PluginError when no plugin can
        tell: the one that started it is gone, or broken."""
        record = engine_record_of(run)
        engine = None if record is None else self._find_provider(run).reopen(record)
        return None if engine is None else LeftOver(run.id, engine, tuple(engine.list_processes()))

    def is_shipped(self, kind: str) -> bool:
        """Whether a provider of this kind comes with nexus_orch or an installed package, with no project."""
        return kind in self._load(None).engines()

    def _find_provider(self, run: RunRecord) -> EngineProvider:
        """The provider that started the engine: one that is always there, else that of the run's own project."""
        kind = run.provider or ""
        for project in dict.fromkeys((None, Path(run.project) if run.project else None)):
            engines = self._load(project).engines()
            if kind in engines:
                return engines[kind]
        where = f" (it came from {run.project})" if run.project else ""
        raise PluginError(
            Problem(
                f"no plugin offers the engine that the run {run.id} has started{where}",
                "engine.kind",
                kind,
                remedy="bring the plugin back, or end what it started by its own means",
            )
        )

    def _load(self, project: Path | None) -> Plugins:
        if project not in self._loaded:
            self._loaded[project] = load_plugins(project)
        return self._loaded[project]


def engine_record_of(run: RunRecord) -> EngineRecord | None:
    """What a run's journal tells about its latest engine, None when it never launched one or says how it ended."""
    if run.provider is None or run.exit_code is not None:
        return None
    return EngineRecord(run.id, run.provider, run.identity, tuple(run.family))


def read_left_over(runs_dir: Path, plugins: Plugins) -> Iterator[LeftOver | Problem]:
    """What earlier runs on this machine have left over, as far as shipped plugins and those of this project can tell;
    no other code is loaded for it. A problem tells a run whose engine only another project's plugin can look for."""
    finder = EngineFinder()
    for path in find_runs(runs_dir):
        run = read_run(path, is_supervised)
        if run.state != "lost" or run.provider is None:
            continue
        if not finder.is_shipped(run.provider) and run.project != str(plugins.project):
            message = f"an engine of the earlier run {run.id} may still be there: {run.project} brings what can tell"
            yield Problem(message, remedy=f"nexus stop {run.id}", cause="orphan_holds_memory")
            continue
        try:
            left = finder.open(run)
        except NexusError as error:
            yield from error.problems
            continue
        if left is not None:
            yield left


def describe_left_over(found: Iterable[LeftOver | Problem]) -> Iterator[Problem]:
    """One problem for each engine that was left over."""
    for left in found:
        if isinstance(left, Problem):
            yield left
            continue
        yield Problem(
            f"an engine of the earlier run {left.run_id} is still there: process "
            f"{', '.join(str(process.pid) for process in left.processes)}, "
            f"{sum(process.rss_bytes for process in left.processes) / GIB:.1f} GiB of RAM",
            remedy=f"nexus stop {left.run_id}",
            cause="orphan_holds_memory",
        )
