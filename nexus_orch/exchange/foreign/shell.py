"""Shell scripts and command lines: the starts of vLLM among the commands that they run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from nexus_orch.exchange.foreign.containers import (
    container_of,
    find_docker_run,
    outside,
    parse_apptainer,
    parse_docker_run,
)
from nexus_orch.exchange.shell.parser import parse
from nexus_orch.exchange.shell.run import Runner
from nexus_orch.exchange.shell.state import Call, State
from nexus_orch.exchange.shell.ways import choose_ways
from nexus_orch.exchange.start import Beside, Container, Start, Variables
from nexus_orch.exchange.text.server import find_pinned_release, find_server_arguments
from nexus_orch.exchange.text.session import commands_of

_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_TALK = frozenset(
    {"echo", "printf", "pkill", "pgrep", "grep", "which", "alias", "trap", "curl", "kill", "man", "log"}
) | {*("chmod", "chown", "cp", "mv", "rm", "ls", "touch", "ln", "mkdir", "scp", "rsync", "sed", "less", "head", "tail")}
"""Commands that may name vLLM without starting it."""
_WRAPPERS = frozenset({"env", "/usr/bin/env", "exec", "nohup", "time", "sudo", "command", "-E", "export", "set"})
SHELLS = frozenset({"sh", "bash", "dash", "zsh", "ash", "ksh"})
_OLD_SERVER = (
    "vllm.entrypoints.api_server is an old server for tests without OpenAI's routes; it is read as `vllm serve`, which "
    "has them"
)
_DEEPEST = 12
_LOGGED = re.compile(r"vLLM API server version v?(\d+\.\d+(?:\.\d+){1,2}(?:\.post\d+)?)(?![\w.+])")
"""What the server said about itself, in a text copied with its output."""


@dataclass(frozen=True)
class Place:
    """Where words stand: their environment, their place for people, and what is around them."""

    env: Variables = field(default_factory=dict)
    name: str = "the command"
    beside: Beside = field(default_factory=Beside)
    container: Container | None = None
    release: str | None = None
    files: Variables = field(default_factory=dict)
    depth: int = 0
    containers: dict[str, Container] = field(default_factory=dict)
    """The containers that were started before, by their names."""

    def start(self, arguments: Sequence[str]) -> Start:
        folder = self.beside.variables.get("PWD", "")
        return Start(
            tuple(arguments), dict(self.env), self.name, self.container, self.release, folder=folder, files=self.files
        )


def parse_script(
    text: str, place: Place, *, positionals: Sequence[str] | None = None, names_lines: bool = True, line: int = 1
) -> list[Start]:
    """The starts of vLLM in a shell script. `positionals` are its arguments, None when nobody knows its caller.

    Raises ConfigError for quotes that are not closed.
    """
    logged = _LOGGED.search(text)
    text = commands_of(text)
    state = State(
        variables={**place.beside.all, **place.env},
        exported=set(place.env),
        positionals=None if positionals is None else list(positionals),
        files=dict(place.files),
        reads=lambda path: _read(path, place),
        release=place.release or (logged[1] if logged is not None else None),
    )
    state.variables.setdefault("0", f"{place.beside.variables.get('PWD', '.')}/script")
    state.variables.setdefault("BASH_SOURCE", state.variables["0"])
    runner = Runner(
        find=lambda call: find_in_call(call, place),
        pin=find_pinned_release,
        read=lambda path: _read(path, place),
        told=dict(place.beside.told),
        place="" if names_lines else place.name,
    )
    starts = choose_ways(runner.run_text(text, state.copy(), line))
    if not starts and not place.depth:
        starts = choose_ways(runner.run_text(text, replace(state, opens_empty=True), line))
    return starts if starts or place.depth else _in_uncalled_functions(text, place, runner, line)


def _in_uncalled_functions(text: str, place: Place, runner: Runner, line: int) -> list[Start]:
    """The starts in functions that the script itself does not call: a library, or part of a longer script."""
    nodes, _ = parse(text, line)
    state = State(variables={**place.beside.all, **place.env}, exported=set(place.env), release=place.release)
    defined = runner.run_all(nodes, [state])
    found: list[Start] = []
    for name, body in (defined[0].functions if defined else {}).items():
        one = defined[0].copy()
        one.found, one.is_over, one.inside = (), False, (f"the function {name}, which the script does not call",)
        found += choose_ways(runner.run_all([body], [one]))
    return found


def find_in_call(call: Call, place: Place) -> list[Start]:
    """The starts of vLLM in one command of a script."""
    here = replace(
        place,
        env=call.env,
        name=call.place,
        release=call.release,
        files=call.files,
        depth=place.depth + 1,
        beside=replace(place.beside, variables={**call.variables, **place.beside.variables, **_folder(call)}),
    )
    return find_starts(call.words, here, stdin=call.stdin)


def _folder(call: Call) -> dict[str, str]:
    return {"PWD": call.variables["PWD"]} if "PWD" in call.variables else {}


def find_starts(words: Sequence[str], place: Place, *, stdin: str | None = None) -> list[Start]:
    """The starts of vLLM in the words of one command: its own, one in a container, or one in a script that it runs."""
    given, rest = split_assignments(words)
    if not rest or rest[0] in _TALK or place.depth > _DEEPEST:
        return []
    place = replace(place, env={**place.env, **given}) if given else place
    run = find_docker_run(rest)
    if run is not None:
        return _find_in_container(run, place)
    if rest[0].rpartition("/")[2] in ("kubectl", "oc") and not {"apply", "create", "replace"}.isdisjoint(rest[1:4]):
        return _find_in_manifest(rest, place, stdin)
    place = _of_named_container(rest, place)
    arguments = find_server_arguments(rest)
    if arguments is not None:
        start = place.start(arguments)
        return [start.with_assumptions(_OLD_SERVER) if "vllm.entrypoints.api_server" in rest else start]
    nested = _nested_script(rest, place, stdin)
    if nested is not None:
        text, positionals = nested
        deeper = replace(place, depth=place.depth + 1)
        return parse_script(text, deeper, positionals=positionals, names_lines=False)
    quoted = [word for word in rest if any(blank in word.strip() for blank in " \n") and "vllm" in word]
    deeper = replace(place, depth=place.depth + 1)
    return [start for word in quoted for start in parse_script(word, deeper, positionals=(), names_lines=False)]


def _of_named_container(words: Sequence[str], place: Place) -> Place:
    """The place of words behind `docker exec NAME`, or behind `apptainer exec IMAGE`: in that container."""
    if words[0].rpartition("/")[2] in ("apptainer", "singularity"):
        container, env = parse_apptainer(words)
        return replace(place, container=container, env={**place.env, **env})
    if "exec" in words[:3]:
        known = next((place.containers[word] for word in words if word in place.containers), None)
        return place if known is None else replace(place, container=known)
    return place


def split_assignments(words: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The variables that are set before a command (`A=1 env B=2 vllm ...`), and the command itself."""
    given: dict[str, str] = {}
    rest = list(words)
    while rest:
        match = _ASSIGNMENT.fullmatch(rest[0])
        if match is not None:
            given[match[1]] = match[2]
        elif rest[0] not in _WRAPPERS:
            break
        rest.pop(0)
    return given, rest


def _find_in_container(run: Sequence[str], place: Place) -> list[Start]:
    parsed = parse_docker_run(run, place.beside.read)
    container = container_of(parsed)
    if parsed.name:
        place.containers[parsed.name] = container
    inside = replace(place, env=parsed.env, container=container, depth=place.depth + 1)
    starts = find_starts(parsed.words, inside)
    if not starts and parsed.is_vllm and not parsed.entrypoint:
        starts = [inside.start(parsed.arguments)]
    return [replace(start.with_notes(*parsed.notes), cards=start.cards or parsed.cards) for start in starts]


def _find_in_manifest(words: Sequence[str], place: Place, stdin: str | None) -> list[Start]:
    """The starts in what `kubectl apply -f FILE` is given: a file of the script's own, one beside it, or its input."""
    from nexus_orch.exchange.foreign.sources import parse_documents  # noqa: PLC0415 - it reads scripts itself

    named = [words[index + 1] for index, word in enumerate(words[:-1]) if word in ("-f", "--filename")]
    texts = [stdin if name == "-" else _read(name, place) for name in named]
    return [
        start for text in texts if text is not None for start in parse_documents(text, "the manifest", place.beside)
    ]


def _nested_script(words: Sequence[str], place: Place, stdin: str | None) -> tuple[str, list[str]] | None:
    """The script that a shell among these words is given, and its arguments."""
    for index, word in enumerate(words):
        name = word.rpartition("/")[2]
        if name in SHELLS:
            return _of_shell(words[index + 1 :], place, stdin)
        is_script = name.endswith(".sh") or (index == 0 and "/" in word)
        if is_script and (text := _read(word, place)) is not None:
            return text, list(words[index + 1 :])
    if stdin is not None and words[0].rpartition("/")[2] in ("ssh", "su", "sbatch", "srun", "sudo"):
        return stdin, []
    return None


def _of_shell(rest: Sequence[str], place: Place, stdin: str | None) -> tuple[str, list[str]] | None:
    for index, word in enumerate(rest):
        if re.fullmatch(r"-\w*c", word) and index + 1 < len(rest):
            return rest[index + 1], list(rest[index + 3 :])
        if not word.startswith(("-", "+")):
            text = _read(word, place)
            return None if text is None else (text, list(rest[index + 1 :]))
    return None if stdin is None else (stdin, [])


def _read(path: str, place: Place) -> str | None:
    """A script: one that the source wrote itself, or a file beside it; paths in a container are those of its host."""
    if path in place.files:
        return place.files[path]
    there = outside(path, place.container)
    if place.container is not None and there == path and path.startswith("/"):
        return None
    return place.beside.read(there)
