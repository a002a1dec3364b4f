from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from nexus_orch import paths
from nexus_orch.record.find import find_runs
from nexus_orch.record.read_run import read_run
from nexus_orch.session.left_over import EngineFinder

ROOT = Path(__file__).parents[2]


@dataclass
class Supervised:
    """A run in another process. `id` is its run id."""

    id: str
    process: subprocess.Popen[str]

    @property
    def folder(self) -> Path:
        return paths.runs_dir() / self.id

    def kill(self) -> None:
        """Kill the supervisor only, as the out-of-memory killer would."""
        self.process.kill()
        self.process.wait()


@pytest.fixture
def runs() -> Path:
    """The (empty) folder of runs that the commands look into."""
    path = paths.runs_dir()
    path.mkdir(parents=True)
    return path


@pytest.fixture
def supervise(no_process_left: None) -> Iterator[Callable[..., Supervised]]:
    """Start a supervisor with its engine, and wait until it serves."""
    started: list[subprocess.Popen[str]] = []

    def start(behaviour: str = "polite") -> Supervised:
        argv = [sys.executable, "-m", "tests.commands.supervisor", behaviour]
        process = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        run_id = process.stdout.readline().strip()
        assert run_id
        return Supervised(run_id, process)

    yield start
    for process in started:
        process.kill()
        process.communicate()
    for folder in find_runs(paths.runs_dir()):
        left = EngineFinder().open(read_run(folder))
        if left is not None:
            left.engine.stop(stop_seconds=0.0)


@pytest.fixture
def call(capsysbinary: pytest.CaptureFixture[bytes]) -> Callable[..., str]:
    """Run a command in this process and give what it wrote to standard output."""

    def run(module: ModuleType, *arguments: str) -> str:
        parser = argparse.ArgumentParser()
        module.add_arguments(parser)
        assert module.run(parser.parse_args(arguments)) == 0
        return capsysbinary.readouterr().out.decode()

    return run
