"""systemd units: the command of ExecStart with the variables of the unit."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from nexus_orch.exchange.foreign.containers import parse_port, parse_volume
from nexus_orch.exchange.foreign.shell import Place, find_starts
from nexus_orch.exchange.start import Beside, Container, Start, broken, make_reference
from nexus_orch.exchange.text.secrets import API_KEY_VARIABLE
from nexus_orch.exchange.text.variables import parse_env_file

API_KEY_SECTION = "X-Nexus"
"""A section that systemd ignores by its prefix; it holds what EnvironmentFile cannot tell."""
API_KEY_OPTION = "ApiKeyVariable"

_WORD = re.compile(r"""(?:[^\s"']|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')+""", re.DOTALL)
_PIECE = re.compile(r""""((?:\\.|[^"\\])*)"|'((?:\\.|[^'\\])*)'|((?:\\.|[^"'\\])+)""", re.DOTALL)
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|[0-7]{3}|.)", re.DOTALL)
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "s": " "}
_SPECIFIER = re.compile(r"%(.)")
_SPECIFIERS = {"%": "%", "h": "~"}
_VARIABLE = re.compile(r"\$\$|\$\{(\w+)\}|\$(\w+)")


def parse_unit(text: str, beside: Beside, release: str | None = None) -> list[Start]:
    """The starts of vLLM in a unit's ExecStart lines, or in the container that a Quadlet file describes.

    Raises ConfigError for quotes that are not closed.
    """
    options = list(_options(text))
    env, notes = _environment(options, beside)
    if any(name == "Image" for name, _ in options):
        return [start.with_notes(*notes) for start in _in_quadlet(options, env, beside)]
    key = next((value for name, value in options if name == API_KEY_OPTION), None)
    if key is not None:
        env[API_KEY_VARIABLE] = make_reference(key)
        notes = []  # a file that only holds the API key is explained with it
    folder = next((value for name, value in options if name == "WorkingDirectory"), None)
    if folder is not None:
        beside = Beside({**beside.variables, "PWD": folder.lstrip("-")}, beside.told, beside.read)
    found: list[Start] = []
    for name, value in options:
        if name == "ExecStart" and value:
            words = [_expand(word, env, beside) for word in _split(value.lstrip("@-:+!"))]
            found += find_starts(words, Place(env, "ExecStart", beside, release=release))
    return [start.with_notes(*notes) for start in found]


def _environment(options: Sequence[tuple[str, str]], beside: Beside) -> tuple[dict[str, str], list[str]]:
    """The variables of the unit and of the files that it names, and those files that could not be read."""
    env: dict[str, str] = {}
    notes: list[str] = []
    for name, value in options:
        if name == "Environment":
            for word in _split(value):
                variable, _, given = word.partition("=")
                env[variable] = given.replace("%%", "%")
    for name, value in options:
        if name == "EnvironmentFile":
            file = value.lstrip("-")
            text = beside.read(file)
            if text is None:
                notes.append(f"the variables of EnvironmentFile {file}, which was not read")
            else:
                env |= parse_env_file(text)
    return env, notes


def _in_quadlet(options: Sequence[tuple[str, str]], env: dict[str, str], beside: Beside) -> list[Start]:
    """The server of a container that Podman starts for systemd."""
    said = dict(options)
    many: dict[str, list[str]] = {}
    for name, value in options:
        many.setdefault(name, []).append(_SPECIFIER.sub(lambda match: _SPECIFIERS.get(match[1], match[0]), value))
    container = Container(
        said["Image"].removeprefix("docker.io/"),
        tuple(mount for value in many.get("Volume", ()) for mount in parse_volume(value)),
        tuple(port for value in many.get("PublishPort", ()) for port in parse_port(value)),
        is_shared_network="host" in many.get("Network", ()),
    )
    devices = [
        value.partition("nvidia.com/gpu=")[2] for value in many.get("AddDevice", ()) if "nvidia.com/gpu=" in value
    ]
    if devices and "all" not in devices:
        env["CUDA_VISIBLE_DEVICES"] = ",".join(devices)
    entrypoint = _split(said.get("Entrypoint", ""))
    words = [_expand(word, env, beside) for word in (*entrypoint, *_split(said.get("Exec", "")))]
    place = Place(env, "the container", beside, container)
    starts = find_starts(words, place)
    return starts or ([place.start(words)] if container.is_vllm and not entrypoint else [])


def _options(text: str) -> Iterator[tuple[str, str]]:
    """The NAME=VALUE lines; a backslash at the end of a line continues it."""
    for line in re.sub(r"\\\r?\n(?:[ \t]*[#;][^\n]*\n)*", " ", text).splitlines():
        name, assigned, value = line.strip().partition("=")
        if assigned and not name.startswith(("#", ";", "[")):
            yield name.strip(), value.strip()


def _split(value: str) -> list[str]:
    """The words of a value, without quotes and escapes."""
    rest = _WORD.sub("", value)
    if '"' in rest or "'" in rest:
        raise broken("a quote in the unit is never closed", "close it: systemd would ignore this line")
    return ["".join(_unquoted(piece) for piece in _PIECE.finditer(word[0])) for word in _WORD.finditer(value)]


def _unquoted(piece: re.Match[str]) -> str:
    text = next(part for part in piece.groups() if part is not None) if any(piece.groups()) else ""
    return _ESCAPE.sub(_unescaped, text)


def _unescaped(match: re.Match[str]) -> str:
    code = match[1]
    if code[0] in "xu" and len(code) > 1:
        return chr(int(code[1:], 16))
    if len(code) == 3:
        return chr(int(code, 8))
    return _ESCAPES.get(code, code)


def _expand(word: str, env: Mapping[str, str], beside: Beside) -> str:
    """`$$` and `%%` are plain signs, ${NAME} a variable of the unit."""

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        return "$" if name is None else env.get(name, beside.told.get(name, make_reference(name)))

    return _SPECIFIER.sub(lambda match: _SPECIFIERS.get(match[1], match[0]), _VARIABLE.sub(value, word))
