"""Simple commands of a script: assignments, what the shell does itself, functions, and programs."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nexus_orch.exchange.shell.answers import compute, judge
from nexus_orch.exchange.shell.expand import CALLER, Expander, expanded
from nexus_orch.exchange.shell.output import print_of
from nexus_orch.exchange.shell.parser import parse
from nexus_orch.exchange.shell.state import Call, State, Value
from nexus_orch.exchange.shell.tree import Assignment, Simple
from nexus_orch.exchange.start import has_reference, make_reference, named, shown

if TYPE_CHECKING:
    from nexus_orch.exchange.shell.run import Runner

_ASKS = frozenset(
    {
        *("command", "which", "type", "hash", "grep", "egrep", "pgrep", "curl", "wget", "nc", "lsof", "ping", "diff"),
        *(
            "nvidia-smi",
            "rocm-smi",
            "dpkg",
            "rpm",
            "systemctl",
            "docker",
            "podman",
            "kubectl",
            "python",
            "python3",
            "ls",
        ),
        *("id", "mountpoint", "getent", "ss", "netstat", "timeout", "kill", "cmp", "find", "read", "getopts"),
    }
)
"""Commands that people run for their answer: whether they succeed is not assumed."""
_DECLARES = frozenset({"export", "declare", "local", "readonly", "typeset"})
_ASSIGNED = re.compile(r"([A-Za-z_]\w*)(\+?)=(.*)", re.DOTALL)
_LONGEST_SHOWN = 60
_DEEPEST_CALL = 3
"""Calls of a function by itself that are followed: a script that starts a server needs none."""
_ENDED = "ends the command for a shell (take the comment out, or end the line with a backslash)"


def _value(runner: Runner, assignment: Assignment, state: State) -> Value:
    old = state.variables.get(assignment.name)
    if isinstance(assignment.value, tuple):
        items = expanded(assignment.value, state, print_of)
        return [*(old if isinstance(old, list) else [old] if old else []), *items] if assignment.adds else items
    expander = Expander(state, print_of)
    text = _named(runner, assignment.name, expander.text(assignment.value))
    state.origins.pop(assignment.name, None)
    if (expander.unset or not text) and assignment.name in runner.told:
        return runner.told[assignment.name]
    if not text and not expander.unset and state.opens_empty:
        state.origins[assignment.name] = frozenset({assignment.name})
    if expander.unset and not has_reference(text):
        state.origins[assignment.name] = frozenset(expander.unset - {assignment.name})
    if assignment.index is not None:
        return [*(old if isinstance(old, list) else []), text]
    if assignment.adds and isinstance(old, list):
        return [*old, text]
    return (old if isinstance(old, str) else "") + text if assignment.adds else text


def _named(runner: Runner, name: str, text: str) -> str:
    """The value to set; one that is not known goes by the variable's own name from now on, unless it was told."""
    if has_reference(text) and name in runner.told:
        return runner.told[name]
    return named(text, name)


def follow_simple(runner: Runner, node: Simple, state: State, depth: int) -> list[State]:
    """The states after a command: what it sets is set, what it starts is found."""
    words = expanded(node.words, state, print_of)
    values = {item.name: _value(runner, item, state) for item in node.assignments[:1]}
    for item in node.assignments[1:]:
        values[item.name] = _value(runner, item, replace(state, variables={**state.variables, **values}))
    if not words or words[0] in _DECLARES:
        _set(state, values)
        if words:
            _declare(runner, words, list(values), state)
        holds = None if any(isinstance(value, str) and has_reference(value) for value in values.values()) else True
        return [state.says(holds)]
    return _command(runner, node, _Expanded(words, values), state, depth)


def _set(state: State, values: dict[str, Value]) -> None:
    state.variables |= values
    if state.exports_all:
        state.exported |= values.keys()


def _declare(runner: Runner, words: list[str], names: list[str], state: State) -> None:
    exports = words[0] == "export" or "-x" in words
    removes = "-n" in words
    for word in words[1:]:
        match = _ASSIGNED.fullmatch(word)
        if match is not None:
            old = state.variables.get(match[1], "")
            text = _named(runner, match[1], match[3])
            _set(state, {match[1]: (old if match[2] and isinstance(old, str) else "") + text})
            names.append(match[1])
        elif not word.startswith("-"):
            names.append(word)
    if exports:
        state.exported |= set(names)
    if removes:
        state.exported -= set(names)


@dataclass(frozen=True)
class _Expanded:
    """The words of a command, and the variables that are set for it alone."""

    words: list[str]
    values: dict[str, Value]


def _command(runner: Runner, node: Simple, run: _Expanded, state: State, depth: int) -> list[State]:
    name, rest = run.words[0], run.words[1:]
    if name in state.functions:
        return _call(runner, name, rest, state, depth)
    if name in ("[", "test"):
        return [judge(node.words[1:-1] if name == "[" else node.words[1:], state, is_double=False)]
    if name == "eval":
        return _nested(runner, " ".join(rest), state, node.line, depth)
    if name in ("source", "."):
        return _source(runner, rest, state, depth)
    builtin = _BUILTINS.get(name)
    if builtin is None:
        return [_external(runner, node, run, state)]
    state.says(True)
    builtin(name, rest, state)
    return [state]


def _end(name: str, rest: list[str], state: State) -> None:
    del rest
    if name == "exit":
        state.is_over = True
    else:
        state.is_left = name


def _answer(name: str, rest: list[str], state: State) -> None:
    del rest
    state.says(name != "false")


def _set_options(name: str, rest: list[str], state: State) -> None:
    del name
    state.exports_all |= "-a" in rest or "allexport" in rest
    if "--" in rest:
        state.positionals = rest[rest.index("--") + 1 :]


def _unset(name: str, rest: list[str], state: State) -> None:
    del name
    for word in rest:
        state.variables.pop(word, None)
        state.exported.discard(word)


def _shift(name: str, rest: list[str], state: State) -> None:
    del name
    count = int(rest[0]) if rest and rest[0].isdecimal() and len(rest[0]) < 4 else 1
    if state.positionals is not None:
        state.positionals = state.positionals[count:]


def _ask(name: str, rest: list[str], state: State) -> None:
    """`read` and its like: what they read is not known, and a loop over it ends at once."""
    for word in rest[-1:]:
        if word.isidentifier():
            state.variables[word] = make_reference(word, f"`{name}`")
    state.says(name not in ("read", "getopts"))


def _let(name: str, rest: list[str], state: State) -> None:
    del name
    for word in rest:
        compute(word, state)


def _change_folder(name: str, rest: list[str], state: State) -> None:
    del name
    if rest and not has_reference(rest[-1]) and rest[-1] != "-":
        here = state.variables.get("PWD")
        target = rest[-1]
        is_whole = target.startswith(("/", "~")) or not isinstance(here, str)
        state.variables["PWD"] = target if is_whole else posixpath.normpath(posixpath.join(str(here), target))


_BUILTINS: Mapping[str, Callable[[str, list[str], State], None]] = {
    **dict.fromkeys(("exit", "return", "break", "continue"), _end),
    **dict.fromkeys(("true", ":", "false"), _answer),
    **dict.fromkeys(("read", "mapfile", "readarray", "getopts"), _ask),
    **dict.fromkeys(("cd", "pushd"), _change_folder),
    "set": _set_options,
    "unset": _unset,
    "shift": _shift,
    "let": _let,
}


def _nested(runner: Runner, text: str, state: State, line: int, depth: int) -> list[State]:
    nodes, _ = parse(text, line)
    return runner.run_all(nodes, [state], depth + 1)


def _source(runner: Runner, rest: list[str], state: State, depth: int) -> list[State]:
    """The commands of a file beside the script."""
    text = None
    if rest and not has_reference(rest[0]):
        text = state.files.get(rest[0]) or runner.read(rest[0])
    if text is None:
        if rest and not rest[0].endswith(("/activate", "conda.sh", ".bashrc", ".profile")):
            state.note(f"the variables of {shown(rest[0])}, which was not read")
        return [state.says(None)]
    return _nested(runner, text, state, 1, depth)


def _call(runner: Runner, name: str, rest: list[str], state: State, depth: int) -> list[State]:
    outer, inside = state.positionals, state.inside
    if sum(place.startswith(f"the function {name} ") for place in inside) >= _DEEPEST_CALL:
        return [state.says(None)]
    state.positionals = [word for word in rest if word != CALLER]
    state.inside = (*inside, f"the function {name} ({shown(' '.join(rest))[:_LONGEST_SHOWN]})")
    after = runner.run_all([state.functions[name]], [state], depth + 1)
    for one in after:
        one.positionals, one.inside = outer, inside
        one.is_left = "" if one.is_left == "return" else one.is_left
    return after


def _external(runner: Runner, node: Simple, run: _Expanded, state: State) -> State:
    """A program: what it starts is found, what it writes is kept, whether it succeeds is not known."""
    body = next((redirect.body for redirect in node.redirects if redirect.body is not None), None)
    stdin = None if body is None else Expander(state, print_of).text(body)
    if stdin is not None and run.words[0] in ("cat", "tee"):
        _write(node, run.words, stdin, state)
        return state.says(True)
    kept = [word for word in run.words if word != CALLER]
    if kept and re.match(r"--?[a-zA-Z]", kept[0]):
        text = shown(" ".join(kept))[:_LONGEST_SHOWN]
        state.assumed = (
            *state.assumed,
            f"line {node.line}: {text} belongs to no command: a comment or a line end above it {_ENDED}",
        )
    state.release = runner.pin(kept) or state.release
    plain = {name: text for name, text in state.variables.items() if isinstance(text, str)}
    env = {name: text for name, text in plain.items() if name in state.exported}
    env |= {name: text for name, text in run.values.items() if isinstance(text, str)}
    place = ", in ".join((runner.place or f"line {node.line}", *reversed(state.inside)))
    call = Call(tuple(kept), env, node.line, place, stdin, state.release, dict(state.files), plain)
    starts = tuple(runner.find(call))
    if CALLER in run.words:
        starts = tuple(start.with_notes("the arguments that the script is called with ($@)") for start in starts)
    state.found += starts
    state.is_over |= run.words[0] == "exec" and len(run.words) > 1
    return state.says(None, asks=run.words[0] in _ASKS)


def _write(node: Simple, words: list[str], text: str, state: State) -> None:
    """Keep the file that a here-document is written to."""
    redirects = (one.target for one in node.redirects if one.operator in (">", ">>", ">|"))
    target = next((word for word in redirects if word is not None), None)
    name = words[-1] if words[0] == "tee" else Expander(state, print_of).text(target) if target is not None else ""
    if name:
        state.files[name] = text
