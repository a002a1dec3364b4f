"""Files of a shape that has no reader of its own: commands and containers are found wherever they stand."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from nexus_orch.errors import ConfigError
from nexus_orch.exchange.foreign.compose_file import parse_compose
from nexus_orch.exchange.foreign.documents import mapping_of, text_of
from nexus_orch.exchange.foreign.kubernetes import Cluster, parse_container
from nexus_orch.exchange.foreign.shell import Place, find_starts, parse_script
from nexus_orch.exchange.start import Beside, Start, make_reference
from nexus_orch.exchange.text.server import find_pinned_release

_VARIABLES = ("env", "envs", "environment", "variables")
"""Keys that hold variables for all that stands beside and below them: workflows, pipelines, jobs."""
_FILLED = re.compile(
    r"(\$?)\{\{\s*(?:(?:env|vars|inputs)\.)?([A-Za-z_]\w*)\s*(?:\|\s*default\(\s*['\"]?([^'\")]*)['\"]?\s*\))?\s*\}\}"
)
"""`${{ env.MODEL }}` of a workflow, `{{ model | default('x') }}` of a playbook."""


@dataclass(frozen=True)
class _Around:
    """What surrounds a value: `env` are variables of its processes, `names` those of the file's own templates."""

    beside: Beside
    env: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    release: str | None = None

    def filled(self, text: str) -> str:
        """The text with the file's own variables; one that has no value is a reference."""

        def value_of(match: re.Match[str]) -> str:
            known = {**self.names, **(self.env if match[1] else {}), **self.beside.told}
            return known.get(match[2], match[3] if match[3] is not None else make_reference(match[2]))

        return _FILLED.sub(value_of, text)

    def within(self, content: Mapping[str, Any]) -> _Around:
        """What surrounds the values of a mapping: its own variables count for them."""
        env = dict(self.env)
        for key in _VARIABLES:
            env |= {name: self.filled(value) for name, value in _variables(content.get(key)).items()}
        names = {name: text_of(value) for name, value in mapping_of(content.get("vars")).items()}
        return replace(self, env=env, names={**self.names, **names})

    def place(self, name: str) -> Place:
        return Place({**self.env, **self.beside.told}, name or "the file", self.beside, release=self.release)


def _variables(value: Any) -> dict[str, str]:
    """NAME: VALUE, or a list of NAME=VALUE."""
    if isinstance(value, dict):
        return {name: text_of(item) for name, item in value.items() if not isinstance(item, (dict, list))}
    items = [text_of(item).partition("=") for item in value] if isinstance(value, list) else []
    return {name: given for name, assigned, given in items if assigned and name.isidentifier()}


def find_anywhere(value: Any, beside: Beside) -> Iterator[Start]:
    """The starts in all texts, lists of words and containers of a document. What is no script is passed over."""
    yield from _find(value, _Around(beside, release=_pinned(value)), "")


def _pinned(value: Any) -> str | None:
    """The release that one of the document's scripts installs."""
    if isinstance(value, str):
        found = [release for line in value.splitlines() if (release := find_pinned_release(line.split()))]
        return found[-1] if found else None
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next((release for item in items if (release := _pinned(item))), None)


def _find(value: Any, around: _Around, place: str) -> Iterator[Start]:
    if isinstance(value, str):
        yield from _in_text(value, around, place)
    elif isinstance(value, list):
        yield from _in_list(value, around, place)
    elif isinstance(value, dict):
        inner = around.within(value)
        starts = _in_container(value, inner, place)
        yield from starts or _each(value, inner, place)


def _in_list(items: list[Any], around: _Around, place: str) -> Iterator[Start]:
    if not items or not all(isinstance(item, (str, int, float)) for item in items):
        yield from _each(dict(enumerate(items)), around, place)
        return
    words = [around.filled(text_of(item)) for item in items]
    if " " in words[0].strip():  # commands that follow each other
        yield from _in_text("\n".join(words), around, place)
        return
    yield from find_starts(words, around.place(place)) or _each(dict(enumerate(items)), around, place)


def _in_container(content: Mapping[str, Any], around: _Around, place: str) -> list[Start]:
    """The starts of a mapping that describes a container: as Kubernetes writes it, or, with its command as one text,
    as compose does."""
    image = _image_of(content, around)
    if not image or not {"args", "command", "entrypoint"} & content.keys():
        return []
    where = place or "the container"
    if isinstance(content.get("command"), str) or any(isinstance(port, str) for port in _list(content.get("ports"))):
        service = {key: _deeply_filled(item, around) for key, item in content.items()}
        service |= {"image": image, "environment": content.get("environment", content.get("env"))}
        found = parse_compose({"services": {where: service}}, around.beside)
        return [replace(start, place=where) for start in found]
    container = {**_deeply_filled(dict(content), around), "image": image}
    return parse_container(where, container, Cluster(around.beside))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _image_of(content: Mapping[str, Any], around: _Around) -> str:
    """The image of a container: a name, or a repository and a tag, as Helm's values have them."""
    image = content.get("image")
    if isinstance(image, str):
        return around.filled(image)
    parts = image if isinstance(image, dict) else content
    repository, tag = text_of(parts.get("repository")), text_of(parts.get("tag"))
    return around.filled(f"{repository}:{tag}" if tag else repository)


def _deeply_filled(value: Any, around: _Around) -> Any:
    if isinstance(value, str):
        return around.filled(value)
    if isinstance(value, list):
        return [_deeply_filled(item, around) for item in value]
    if isinstance(value, dict):
        return {key: _deeply_filled(item, around) for key, item in value.items()}
    return value


def _each(items: Mapping[Any, Any], around: _Around, place: str) -> Iterator[Start]:
    for key, item in items.items():
        yield from _find(item, around, f"{place}.{key}".strip("."))


def _in_text(text: str, around: _Around, place: str) -> Iterator[Start]:
    if "vllm" not in text or not any(blank in text for blank in " \n"):
        return
    try:
        yield from parse_script(around.filled(text), around.place(place), names_lines=False)
    except ConfigError:
        return
