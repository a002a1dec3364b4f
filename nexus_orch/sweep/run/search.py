"""The loop of a sweep: ask the search what to do, have it done, until the search is finished or somebody ends it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nexus_orch.errors import ExitCode, LaunchError, Problem
from nexus_orch.plugin_manager import Plugins
from nexus_orch.sweep.expansion.planned import CONCURRENCY, Expansion, plan_points
from nexus_orch.sweep.run.journal import SweepJournal, SweepRecord
from nexus_orch.sweep.run.order import make_task
from nexus_orch.sweep.run.quiet import SweepVoice
from nexus_orch.sweep.run.resume import check_command, clean_up_after, close_open_ends
from nexus_orch.sweep.run.words import describe_end, describe_launch, describe_start, describe_verdicts
from nexus_orch.sweep.run.worker import Decide
from nexus_orch.sweep.types import Begun, Finish, GridPoint, LaunchPoint, SearchDecision, Task
from nexus_orch.types import SweepSpec

MOST_LOST = 3
"""A launcher that loses so many jobs one after another will lose the next one, too."""

LaunchJobs = Callable[[Sequence[Sequence[str]], int], None]
"""Have jobs done: their overrides, and the number of the first one."""


@dataclass(frozen=True)
class SweepOrder:
    """A sweep as the command line asks for it."""

    folder: Path
    base: tuple[str, ...]
    """The overrides that all points share."""
    grid: Mapping[str, Sequence[Any]]
    asked: SweepSpec
    command: tuple[str, ...]
    project: Path | None = None
    project_name: str = ""
    """The project as the journal keeps it."""


@dataclass
class SweepSearch:
    """One sweep, from its first word to its pick."""

    order: SweepOrder
    plugins: Plugins
    launch_jobs: LaunchJobs
    decide: Decide
    voice: SweepVoice
    told: set[int] = field(default_factory=set)
    """Points whose verdict was told."""
    lost: int = 0
    """Jobs, one after another, that ended without a word."""

    def run(self) -> ExitCode:
        """Search. Raises ConfigError for a grid that cannot be searched, InterruptedByEnvironment for a full disk, and
        LaunchError for a launcher that loses every job."""
        journal = SweepJournal(self.order.folder)
        try:
            return self._search(journal)
        except KeyboardInterrupt:  # between two launches: within one, the run sees to it
            if journal.is_there:
                close_open_ends(journal)
                self._tell_resume()
            return ExitCode.INTERRUPTED

    def _search(self, journal: SweepJournal) -> ExitCode:
        task = self._resume(journal) if journal.is_there else self._begin(journal)
        decision = self.decide(task, journal.outcomes(), 0)
        for line in describe_start(task, decision, self.order.folder):
            self.voice.say(line)
        self.told.update(verdict.point for verdict in decision.verdicts)
        while not isinstance(decision.step, Finish):
            code = self._carry_out(task, journal, decision)
            if code is not None:
                self._tell_resume()
                return code
            decision = self.decide(task, journal.outcomes(), 0)
            for line in describe_verdicts(task, decision, self.told):
                self.voice.say(line)
            self.told.update(verdict.point for verdict in decision.verdicts)
        journal.append(is_finished=True)
        for line in describe_end(task, decision, decision.step):
            self.voice.say(line)
        return ExitCode.GOOD if decision.step.pick is not None else ExitCode.LAUNCH_FAILED

    def _tell_resume(self) -> None:
        self.voice.say(f"the same command goes on with this sweep, as does sweep.resume={self.order.folder}")

    def _begin(self, journal: SweepJournal) -> Task:
        order = self.order
        expansion = plan_points(order.base, order.grid, self.plugins, project=order.project)
        task = make_task(expansion, order.asked)
        journal.create(SweepRecord(task, order.command, order.project_name, time.time()))
        return task

    def _resume(self, journal: SweepJournal) -> Task:
        """The points as they were planned then; what is wanted and what it may take are as they are asked for now."""
        record = journal.read()
        check_command(record, journal.folder, self.order.command, self.order.project_name)
        self.voice.say(f"going on with the sweep in {journal.folder}")
        clean_up_after(journal, self.voice.say)
        close_open_ends(journal)
        earlier = record.task
        asked = make_task(Expansion(earlier.points, earlier.goal.concurrency, earlier.loads), self.order.asked)
        if asked != earlier:
            journal.create(replace(record, task=asked))
        return asked

    def _carry_out(self, task: Task, journal: SweepJournal, decision: SearchDecision) -> ExitCode | None:
        """Have the next launch done; the exit code when somebody ended the sweep meanwhile."""
        step = decision.step
        assert isinstance(step, LaunchPoint), f"no engine runs, and the search wants {step}"
        point = task.points[step.point]
        number = sum(isinstance(outcome, Begun) for outcome in journal.outcomes())
        for line in describe_launch(decision, step, point, number):
            self.voice.say(line)
        seen = len(journal.entries())
        journal.append_begun(Begun(point.number, step.is_confirming))
        self.launch_jobs([_overrides_of(point, self.order, task)], number)
        later = journal.entries()[seen + 1 :]
        self.lost = 0 if later else self.lost + 1
        close_open_ends(journal)  # of a job that was lost on its way
        if self.lost >= MOST_LOST:
            raise LaunchError(Problem(f"the launcher has lost {self.lost} jobs one after another", "hydra/launcher"))
        stopped = next((entry for entry in later if entry.stopped), None)
        if stopped is None:
            return None
        self.voice.say(f"stopped: {stopped.stopped}")
        return ExitCode(stopped.exit_code)


def _overrides_of(point: GridPoint, order: SweepOrder, task: Task) -> list[str]:
    """The overrides of a job; each point is planned for the load at which points are compared, as in the expansion."""
    load = () if CONCURRENCY in point.settings else (f"{CONCURRENCY}={task.goal.concurrency}",)
    return [*order.base, *point.overrides, *load]
