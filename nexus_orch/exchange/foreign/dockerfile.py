"""Dockerfiles: the server that the last image starts by ENTRYPOINT and CMD."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace

from nexus_orch.exchange.foreign.shell import Place, find_starts
from nexus_orch.exchange.start import Beside, Container, Start
from nexus_orch.exchange.text.server import find_pinned_release
from nexus_orch.exchange.text.variables import interpolate, parse_env_file, split_words

_INSTRUCTION = re.compile(
    r"\s*(FROM|ARG|ENV|RUN|CMD|ENTRYPOINT|WORKDIR|SHELL|EXPOSE|COPY|ADD|USER|LABEL)\s+(.*)", re.DOTALL
)
LOOKS_LIKE = re.compile(r"^\s*FROM\s+\S+[^\n]*\n(?:.*\n)*?\s*(?:RUN|CMD|ENTRYPOINT|ENV|COPY)\s", re.MULTILINE)


def parse_dockerfile(text: str, beside: Beside) -> list[Start]:
    """The start of the image that the file builds."""
    arguments: dict[str, str] = {}
    env: dict[str, str] = {}
    image, release = "", None
    entrypoint: list[str] = []
    command: list[str] = []
    for name, rest in _instructions(text):
        known = {**arguments, **env, **beside.told}
        if name == "FROM":
            image = interpolate(rest.split()[0] if not rest.startswith("--") else rest.split()[-1], known)
            entrypoint, command, env = [], [], {}
        elif name == "ARG":
            key, _, value = rest.partition("=")
            arguments[key.strip()] = value.strip("\"' ")
        elif name == "ENV":
            env |= _variables(interpolate(rest, known))
        elif name == "RUN":
            release = find_pinned_release(interpolate(rest, known).split()) or release
        elif name == "ENTRYPOINT":
            entrypoint, command = _words(rest), []
        elif name == "CMD":
            command = _words(rest)
    container = Container(image)
    place = Place(env, "the image", beside, container, release)
    starts = find_starts([*entrypoint, *command], place)
    if not starts and container.is_vllm and not entrypoint and command:
        starts = [place.start(command)]
    return [replace(start, release=start.release or release) for start in starts]


def _instructions(text: str) -> Iterator[tuple[str, str]]:
    joined = re.sub(r"\\[ \t]*\r?\n(?:[ \t]*#[^\n]*\n)*", " ", text)
    for line in joined.splitlines():
        match = _INSTRUCTION.fullmatch(line)
        if match is not None and match[2].strip():
            yield match[1], match[2].strip()


def _variables(text: str) -> dict[str, str]:
    """`A=1 B="2 3"`, or the old form `A 1`."""
    if "=" not in text.split(maxsplit=1)[0]:
        name, _, value = text.partition(" ")
        return {name: value.strip()}
    return {name: value for word in split_words(text) for name, value in parse_env_file(word).items()}


def _words(text: str) -> list[str]:
    """The list form, or the words of a shell command."""
    if text.startswith("["):
        try:
            items = json.loads(text)
        except (ValueError, RecursionError):
            items = None
        if isinstance(items, list):
            return [str(item) for item in items]
    return ["/bin/sh", "-c", text]
