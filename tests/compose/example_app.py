"""The smallest application over `run_app`: prints what it was given as JSON lines. Run by the tests, and by readers:

python -m tests.compose.example_app -m hardware=cpu model.max_model_len=1024,2048
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from nexus_orch.compose.app import run_app
from nexus_orch.compose.job import JobInfo, JobOutcome
from nexus_orch.errors import ExitCode, NexusError
from nexus_orch.plugin_manager import load_plugins
from nexus_orch.types import RunSpec


def work(spec: RunSpec, job: JobInfo) -> JobOutcome:
    """The task: a model of 13 tokens does not fit, all others score their length."""
    length = spec.model.max_model_len or 0
    _say(job=job.number, mode=job.mode, name=spec.name, length=length, overrides=job.overrides)
    if length == 13:
        return JobOutcome(ExitCode.DOES_NOT_FIT)
    return JobOutcome(ExitCode.GOOD, float(length))


def tell_bad_point(error: NexusError, job: JobInfo) -> JobOutcome:
    """A point without a valid spec is told, and the sweep goes on."""
    _say(job=job.number, bad=[problem.message for problem in error.problems])
    return JobOutcome(error.exit_code)


def main(argv: Sequence[str]) -> int:
    """Returns the exit code, and lets no mistake of the user out as a traceback."""
    try:
        result = run_app(argv, work, on_bad_point=tell_bad_point, judge=load_plugins().judge)
    except NexusError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    if not result.printed_only:
        _say(mode=result.mode, exit_code=result.exit_code, sweep_dir=result.sweep_dir and str(result.sweep_dir))
    return result.exit_code


def _say(**facts: object) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
