"""What forbids a launch although the plan is good: another machine, no engine, an engine of an earlier run."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from nexus_orch.adapt.models import check_gguf
from nexus_orch.errors import ConfigError, NexusError, PlanError, Problem
from nexus_orch.launch.processes.family import EngineRecord
from nexus_orch.launch.processes.orphans import Orphan, find_orphans
from nexus_orch.record.find import find_runs
from nexus_orch.record.read_run import read_run
from nexus_orch.record.run_record import RunRecord
from nexus_orch.session.prepare import Preparation
from nexus_orch.types import GIB, MachineFacts, ProcessKey


def refusal_of(preparation: Preparation) -> NexusError | None:
    """Why this run must not be launched here, None when it may be."""
    if preparation.refusals:
        return ConfigError(*preparation.refusals)
    if not preparation.plan.fits:
        return PlanError(*preparation.plan.problems)
    machine = preparation.facts.machine
    if not machine.is_this_machine:
        return PlanError(_describe_other_machine(machine))
    if not preparation.is_installed:
        return ConfigError(_describe_missing_engine(machine))
    if preparation.facts.model.missing_weights:
        return ConfigError(*preparation.facts.model.missing_weights)
    unreadable = check_gguf(preparation.spec, preparation.facts)
    return None if unreadable is None else ConfigError(unreadable)


def _describe_other_machine(machine: MachineFacts) -> Problem:
    wanted = f"{len(machine.gpus)} x {machine.gpus[0].name}" if machine.gpus else "other hardware"
    return Problem(
        f"this machine does not have {wanted}",
        key="hardware",
        value=machine.name,
        remedy="run it on that machine, or use hardware=auto (what this one has: nexus doctor); "
        "`nexus plan` plans for any hardware",
        cause="not_enough_gpus",
    )


def _describe_missing_engine(machine: MachineFacts) -> Problem:
    kind = "cuda" if machine.gpus else "cpu"
    return Problem(
        "no vLLM engine is installed",
        key="engine",
        remedy=f"`nexus engine install {kind}` makes one; engine.python=PATH uses one of yours",
    )


def read_orphans(runs_dir: Path) -> tuple[Orphan, ...]:
    """Engines of earlier runs on this machine whose supervisor is gone. Raises ConfigError when runs are unreadable."""
    records = (read_run(path) for path in find_runs(runs_dir))
    return find_orphans(record for run in records if (record := engine_record_of(run)) is not None)


def engine_record_of(run: RunRecord) -> EngineRecord | None:
    """What a run's journal tells about its latest engine, None when it never launched one or says how it ended."""
    if run.engine is None or run.exit_code is not None:
        return None
    return EngineRecord(
        run_id=run.id,
        pid=run.engine.pid,
        create_time=run.engine.create_time,
        pgid=run.pgid,
        mark=run.mark,
        family=tuple(ProcessKey(process.pid, process.create_time) for process in run.family),
        supervisor=None if run.supervisor is None else ProcessKey(run.supervisor.pid, run.supervisor.create_time),
    )


def describe_orphans(orphans: Iterable[Orphan]) -> tuple[Problem, ...]:
    """One problem for each engine that was left over."""
    return tuple(
        Problem(
            f"an engine of the earlier run {orphan.run_id} is still there: process "
            f"{', '.join(str(process.key.pid) for process in orphan.processes)}, "
            f"{sum(process.rss_bytes for process in orphan.processes) / GIB:.1f} GiB of RAM",
            remedy=f"nexus stop {orphan.run_id}",
            cause="orphan_holds_memory",
        )
        for orphan in orphans
    )
