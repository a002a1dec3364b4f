"""argv to command. A `NexusError` becomes one message and one exit code; what a command does, only its module knows."""

from __future__ import annotations

import argparse
import gc
import importlib
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from nexus_orch import __version__
from nexus_orch.errors import ConfigError, ExitCode, NexusError, Problem, render_problems
from nexus_orch.streams import find_output_failure, open_closed_streams, silence_output
from nexus_orch.suggest import suggest_or_list

SHOWN_PROBLEMS = 25
"""More problems of one command line are counted and not listed: nobody reads thousands of them."""


@dataclass(frozen=True)
class CommandEntry:
    """A command of `nexus`: the module that implements it, loaded only when it is called.

    The module has `add_arguments(parser)` and `run(args) -> int`. Commands and sub-commands take their options before,
    between and after the overrides. Of a `nested` command `add_arguments` gives the parsers of its sub-commands by
    their names, or None when the command sorts its words itself.
    """

    module: str
    summary: str
    nested: bool = False


COMMANDS: dict[str, CommandEntry] = {
    "plan": CommandEntry("nexus_orch.commands.plan", "say what will fit and how fast it will be; launches nothing"),
    "run": CommandEntry("nexus_orch.commands.run", "the same as nexus-run"),
    "ps": CommandEntry("nexus_orch.commands.ps", "list the runs of this machine, orphans too"),
    "logs": CommandEntry("nexus_orch.commands.logs", "show or follow the engine's log of a run"),
    "stop": CommandEntry("nexus_orch.commands.stop", "stop a run, or what an ended supervisor left behind"),
    "report": CommandEntry("nexus_orch.commands.report", "what was planned and what happened in a run"),
    "bench": CommandEntry("nexus_orch.commands.bench", "measure how fast a running server answers at given loads"),
    "sweep-report": CommandEntry("nexus_orch.commands.sweep_report", "what a sweep found; its pick as a profile"),
    "calibrate": CommandEntry("nexus_orch.commands.calibrate", "measure a few launches and compare with the plan"),
    "diagnose": CommandEntry("nexus_orch.commands.diagnose", "name the cause and the remedy in any vLLM log"),
    "import": CommandEntry("nexus_orch.commands.import_profile", "make a profile of a vLLM command", nested=True),
    "export": CommandEntry("nexus_orch.commands.export", "a plan as shell script, compose, systemd or Kubernetes file"),
    "doctor": CommandEntry("nexus_orch.commands.doctor", "check this machine: cards, memory, engines, models"),
    "engine": CommandEntry("nexus_orch.commands.engine", "install, list and inspect vLLM environments", nested=True),
    "model": CommandEntry("nexus_orch.commands.model", "fetch and list the models nexus_orch brings", nested=True),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `nexus`."""
    # What a command reads at its start is kept to its end: looking for garbage in it is a tenth of the start-up time.
    gc.set_threshold(50_000)
    arguments = list(sys.argv[1:] if argv is None else argv)
    return guard(lambda: _dispatch(arguments))


def main_run(argv: Sequence[str] | None = None) -> int:
    """Entry point of `nexus-run`."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return guard(lambda: _run(arguments))


def guard(action: Callable[[], int]) -> int:
    """Run an action; whatever a user can cause ends as a message on stderr and an exit code, never as a traceback."""
    open_closed_streams()
    try:
        code = int(action())
        sys.stdout.flush()
    except NexusError as error:
        _say(_render_error(error))
        return int(error.exit_code)
    except KeyboardInterrupt:
        return int(ExitCode.INTERRUPTED)
    except BrokenPipeError:  # the reader of our output went away (`nexus plan | head`)
        silence_output()
        return int(ExitCode.GOOD)
    except OSError:
        failure = find_output_failure()
        if failure is None:
            raise  # not the output's: a bug of ours
        silence_output()
        _say(f"error: the output cannot be written: {failure.strerror}\n    remedy: make room, or write it elsewhere")
        return int(ExitCode.ENVIRONMENT)
    return code


def _render_error(error: NexusError) -> str:
    problems = error.problems
    if len(problems) == 1:
        return f"error: {error}"
    text = f"error: {len(problems)} problems\n{render_problems(problems[:SHOWN_PROBLEMS])}"
    left = len(problems) - SHOWN_PROBLEMS
    return text if left <= 0 else f"{text}\nand {left:,} more: mend these first"


def _say(text: str) -> None:
    with suppress(OSError):  # the terminal is gone; the exit code still tells
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


def _run(arguments: list[str]) -> int:
    from nexus_orch.commands import run  # noqa: PLC0415 - Hydra is imported only for the commands that need it

    return run.main(arguments)


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        sys.stdout.write(_overview())
        return ExitCode.GOOD if arguments else ExitCode.CONFIG
    if arguments[0] in ("-V", "--version"):
        sys.stdout.write(f"nexus_orch {__version__}\n")
        return ExitCode.GOOD
    name, rest = arguments[0], arguments[1:]
    if name == "run":
        return _run(rest)
    entry = COMMANDS.get(name)
    if entry is None:
        raise ConfigError(
            Problem(f"unknown command '{name}'", remedy=suggest_or_list(name, list(COMMANDS), before="nexus "))
        )
    module = importlib.import_module(entry.module)
    parser = argparse.ArgumentParser(prog=f"nexus {name}", description=entry.summary, allow_abbrev=False)
    subcommands = module.add_arguments(parser) or {}
    if rest and rest[0] in subcommands:  # argparse does not mix the words of a sub-command by itself
        chosen = argparse.Namespace(subcommand=rest[0])
        return int(module.run(subcommands[rest[0]].parse_intermixed_args(rest[1:], chosen)))
    return int(module.run(parser.parse_args(rest) if entry.nested else parser.parse_intermixed_args(rest)))


def _overview() -> str:
    width = max(map(len, COMMANDS))
    rows = "\n".join(f"  {name:<{width}}  {entry.summary}" for name, entry in COMMANDS.items())
    return (
        "usage: nexus COMMAND [OPTIONS] [OVERRIDES]\n\n"
        "Plans, launches, proves and recovers large language models on vLLM.\n\n"
        f"{rows}\n\n"
        "  nexus COMMAND --help   tells more about one of them\n"
        "  nexus-run hardware=rtx4090x2 model=qwen32b memory=hybrid   serves a model\n"
    )
