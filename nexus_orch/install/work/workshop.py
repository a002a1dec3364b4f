"""The folder in which something is installed: its journal, its log, its temporary files, and pip at work in it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nexus_orch.errors import Problem
from nexus_orch.install.work.child import ChildResult, make_child_env, run_child
from nexus_orch.install.work.failures import InstallError, judge_failure
from nexus_orch.install.work.journal import Journal
from nexus_orch.install.work.progress import Reporter
from nexus_orch.install.work.steps import record_child
from nexus_orch.types import GIB

TEMPORARY = "tmp"
INDEX_VARIABLE = "NEXUS_PIP_EXTRA_INDEX"
PIP_RETRIES = "8"
"""pip's own default is 5; it waits 0.25 s x 2^n between them, so that 8 outlast about a minute without network."""


@dataclass(frozen=True)
class Workshop:
    """`indexes` are package indexes that are asked besides those of pip's own configuration; they are never stored."""

    path: Path
    reporter: Reporter
    indexes: tuple[str, ...] = ()

    @property
    def journal(self) -> Journal:
        return Journal(self.path / "install.jsonl")

    @property
    def log(self) -> Path:
        """All output of pip and of the other tools."""
        return self.path / "install.log"

    @property
    def temporary(self) -> Path:
        return self.path / TEMPORARY

    def run(self, what: str, argv: Sequence[str], extra_env: Mapping[str, str] | None = None) -> ChildResult:
        """Run a tool to its end. Raises InstallError, with the reason, when it fails; `what` says what it should do."""
        result = self.attempt(argv, extra_env)
        self.judge(what, result)
        return result

    def judge(self, what: str, result: ChildResult) -> None:
        """Raises InstallError when the tool failed."""
        if result.returncode != 0:
            raise InstallError(judge_failure(what, result.returncode, result.lines, str(self.log)))

    def attempt(self, argv: Sequence[str], extra_env: Mapping[str, str] | None = None) -> ChildResult:
        """Run a tool to its end, whatever that is."""
        shutil.rmtree(self.temporary, ignore_errors=True)
        self.temporary.mkdir(parents=True)
        env = make_child_env(os.environ, self.temporary) | dict(extra_env or {})
        env.setdefault("PIP_RETRIES", PIP_RETRIES)
        journal = self.journal
        return run_child(argv, env, self.log, self.reporter.output, lambda pid: record_child(journal, pid))

    def pip(self, python: Path, *arguments: str) -> list[str]:
        """The command line of pip in the environment of `python`, with the user's indexes.

        An index given here is asked besides those of pip's configuration: on the command line the option adds.
        """
        indexes = [part for index in self.indexes for part in ("--extra-index-url", index)]
        return [str(python), "-I", "-m", "pip", *arguments, "--disable-pip-version-check", *indexes]

    def check_disk(self, needed_bytes: int) -> None:
        """Raises InstallError when the disk lacks room for what is still to come."""
        existing = next(folder for folder in (self.path, *self.path.parents) if folder.is_dir())
        missing = needed_bytes - measure_tree(self.path) - shutil.disk_usage(existing).free
        if missing > 0:
            message = f"the disk has too little room: {needed_bytes / GIB:.1f} GiB are needed"
            remedy = f"free {missing / GIB:.1f} GiB, or move everything with NEXUS_HOME=DIR"
            raise InstallError(Problem(message, "folder", self.path, remedy=remedy))


def choose_indexes(given: Sequence[str], environment: Mapping[str, str]) -> tuple[str, ...]:
    """The extra package indexes: those of the command line, else those of NEXUS_PIP_EXTRA_INDEX (white space between
    several)."""
    return tuple(given) or tuple(environment.get(INDEX_VARIABLE, "").split())


def measure_tree(folder: Path) -> int:
    """Bytes of all files below a folder; 0 when there is none. Links are not followed."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(parent) / name).lstat().st_size
            except OSError:
                continue  # It was removed in the meantime.
    return total
