"""What can go wrong for a user: problems with key, value, origin and remedy, and the exit code they lead to.

Every error that a user can cause or meet is a `NexusError`. The command line turns it into one message and one exit
code; nothing else in the project prints an error or calls `sys.exit`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

_PLAIN_WORD = re.compile(r"[A-Za-z_][\w./-]*")
_WORDS_OF_YAML = frozenset({"true", "false", "null", "yes", "no", "on", "off", "nan", "inf"})


class ExitCode(IntEnum):
    """Exit codes of `nexus` and `nexus-run` (a public contract)."""

    GOOD = 0
    CONFIG = 2
    DOES_NOT_FIT = 3
    LAUNCH_FAILED = 4
    ENVIRONMENT = 5
    INTERRUPTED = 130


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, told so that the reader can mend it.

    `origin` is where the value was written (a file with its line, "command line", "default"); `cause` is one of the
    stable cause names of `nexus_orch.types.CAUSES` when the problem is one of them. `is_mistake` marks a problem of a
    plan that no memory would mend: what was asked for cannot be had.
    """

    message: str
    key: str | None = None
    value: object = None
    origin: str | None = None
    remedy: str | None = None
    cause: str | None = None
    is_mistake: bool = False


class NexusError(Exception):
    """An error with a remedy. `problems` holds all that was found, not only the first."""

    exit_code: ExitCode = ExitCode.LAUNCH_FAILED

    def __init__(self, *problems: Problem | str) -> None:
        self.problems: tuple[Problem, ...] = tuple(
            problem if isinstance(problem, Problem) else Problem(problem) for problem in problems
        )
        super().__init__(render_problems(self.problems))


class ConfigError(NexusError):
    """The configuration is wrong: nothing was launched."""

    exit_code = ExitCode.CONFIG


class PluginError(ConfigError):
    """A plugin is missing, broken or contradicts another one."""


class PlanError(NexusError):
    """The plan does not fit this machine: nothing was launched."""

    exit_code = ExitCode.DOES_NOT_FIT


class LaunchError(NexusError):
    """The engine was launched and failed for good."""

    exit_code = ExitCode.LAUNCH_FAILED


class InterruptedByEnvironment(NexusError):  # noqa: N818 - it names what happened, as KeyboardInterrupt does
    """The machine took something away: the terminal closed, the session was ended, the disk filled up."""

    exit_code = ExitCode.ENVIRONMENT


def render_problems(problems: tuple[Problem, ...]) -> str:
    """All problems as plain text, one block each: message, then key = value (origin), then the remedy."""
    return "\n".join(_render_problem(problem) for problem in problems)


def render_value(value: object) -> str:
    """A value as one writes it on the command line and in YAML: true, null, [experts,mlp], {name:1}. Text as it is."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "null"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_render_item, value))}]"
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{name}:{_render_item(item)}' for name, item in value.items())}}}"
    return str(value)


def _render_item(value: object) -> str:
    """A value inside another one: text that would not come back as itself stands in quotes."""
    if not isinstance(value, str) or (_PLAIN_WORD.fullmatch(value) and value not in _WORDS_OF_YAML):
        return render_value(value)
    return "'" + value.replace("'", "\\'") + "'"


def _render_problem(problem: Problem) -> str:
    lines = [problem.message]
    if problem.key is not None:
        value = "" if problem.value is None else f" = {render_value(problem.value)}"
        origin = "" if problem.origin is None else f"  ({problem.origin})"
        lines.append(f"    {problem.key}{value}{origin}")
    elif problem.origin is not None:
        lines.append(f"    in {problem.origin}")
    if problem.remedy is not None:
        lines.append(f"    remedy: {problem.remedy}")
    return "\n".join(lines)
