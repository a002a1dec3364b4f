"""Shell scripts and command lines: words, variables and the starts of vLLM among the commands."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from nexus_orch.exchange.foreign.containers import container_of, find_docker_run, parse_docker_run
from nexus_orch.exchange.start import Container, Start, Variables
from nexus_orch.exchange.text.server import find_server_arguments
from nexus_orch.exchange.text.variables import expand
from nexus_orch.exchange.text.words import ShellCommand, Word, split_commands

_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)(\+?)=(.*)", re.DOTALL)
_ARRAY = re.compile(r"\$\{(\w+)\[[@*]\]\}")
_DECLARE = frozenset({"export", "declare", "local", "readonly", "typeset"})
_TALK = frozenset({"echo", "printf", "pkill", "pgrep", "grep", "which", "alias", "trap", "curl", "if", "elif", "while"})
"""Commands that may name vLLM without starting it."""
_CALLER_ARGUMENTS = frozenset({"$@", "$*", "${@}", "${*}"})


def parse_script(
    text: str, place: str = "", env: Variables | None = None, known: Variables | None = None
) -> list[Start]:
    """The starts of vLLM in a shell script or command line. `env` are the environment variables that it begins with,
    `known` others whose values it may use.

    Raises ConfigError for quotes that are not closed.
    """
    shell = _Shell({**(known or {}), **(env or {})}, dict(env or {}))
    return [start for command in split_commands(text) for start in shell.run(command, place)]


def find_starts(words: Sequence[str], env: Variables, place: str, container: Container | None = None) -> list[Start]:
    """The starts of vLLM in the words of one command: its own, one in a container, or one in a quoted command line."""
    arguments = find_server_arguments(words)
    if arguments is not None:
        return [Start(tuple(arguments), env, place, container)]
    run = find_docker_run(words)
    if run is not None:
        parsed = parse_docker_run(run)
        inside = find_starts(parsed.words, parsed.env, place, container_of(parsed))
        starts = inside or ([Start(tuple(parsed.arguments), parsed.env, place, container_of(parsed))] * parsed.is_vllm)
        return [start.with_notes(*parsed.notes) for start in starts]
    nested = [word for word in words if any(blank in word.strip() for blank in " \n") and "vllm" in word]
    starts = [start for word in nested for start in parse_script(word, place, env)]
    if container is None:
        return starts
    return [Start(start.argv, start.env, place, container, notes=start.notes) for start in starts]


@dataclass
class _Shell:
    """The variables of a script while its commands are read, in their order."""

    variables: dict[str, str]
    exported: dict[str, str]
    arrays: dict[str, list[str]] = field(default_factory=dict)
    exports_all: bool = False

    def run(self, command: ShellCommand, place: str) -> Iterator[Start]:
        """Take over what the command sets, and give the starts in it."""
        if command.array is not None:
            self.arrays.setdefault(command.array, []).extend(self._expanded(command.words))
            return
        given, rest = _split_assignments(self._expanded(command.words))
        values = self._assigned(given)
        if not rest:
            self.variables |= values
            self.exported |= {name: value for name, value in values.items() if self._is_exported(name)}
        elif rest[0] in _DECLARE:
            self._declare(rest[0], rest[1:])
        elif rest[0] == "set":
            self.exports_all |= "-a" in rest or "allexport" in rest
        elif rest[0] not in _TALK:
            where = place or f"line {command.line}"
            dropped = [word for word in rest if word in _CALLER_ARGUMENTS]
            kept = [word for word in rest if word not in _CALLER_ARGUMENTS]
            for start in find_starts(kept, {**self.exported, **values}, where):
                yield start.with_notes("the arguments that the script is called with ($@)") if dropped else start

    def _is_exported(self, name: str) -> bool:
        return self.exports_all or name in self.exported

    def _assigned(self, given: Sequence[tuple[str, str, str]]) -> dict[str, str]:
        return {name: (self.variables.get(name, "") if plus else "") + value for name, plus, value in given}

    def _declare(self, how: str, words: Sequence[str]) -> None:
        for word in words:
            match = _ASSIGNMENT.fullmatch(word)
            values: Mapping[str, str] = self._assigned([(match[1], match[2], match[3])]) if match else {}
            self.variables |= values
            if how == "export" or "-x" in words:
                self.exported |= values or {name: self.variables[name] for name in [word] if name in self.variables}

    def _expanded(self, words: Sequence[Word]) -> list[str]:
        found: list[str] = []
        for word in words:
            array = _ARRAY.fullmatch(word.text)
            if array is not None and array[1] in self.arrays:
                found += self.arrays[array[1]]
                continue
            text = expand(word.text, self.variables)
            found += text.split() if word.is_bare and text not in _CALLER_ARGUMENTS else [text]
        return found


def _split_assignments(words: Sequence[str]) -> tuple[list[tuple[str, str, str]], list[str]]:
    """The assignments before a command, those after `env` too, and the command itself."""
    given: list[tuple[str, str, str]] = []
    rest = list(words)
    while rest:
        match = _ASSIGNMENT.fullmatch(rest[0])
        if match is not None:
            given.append((match[1], match[2], match[3]))
        elif rest[0] not in ("env", "/usr/bin/env", "exec", "nohup", "time", "sudo", "command", "-E"):
            break
        rest.pop(0)
    return given, rest
