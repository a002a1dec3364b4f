"""Kubernetes manifests: the containers that start vLLM, in whatever kind of object they stand."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from nexus_orch.exchange.foreign.documents import count_of, mapping_of, mappings, text_of, texts
from nexus_orch.exchange.foreign.shell import Place, find_starts
from nexus_orch.exchange.start import Beside, Container, Start, make_reference
from nexus_orch.exchange.text.secrets import API_KEY_VARIABLE

_DEEPEST = 100
_VARIABLE = re.compile(r"\$\$|\$\((\w+)\)")


def parse_manifest(documents: Sequence[Any], beside: Beside) -> list[Start]:
    """The starts of vLLM among the containers of all pods in these documents."""
    return [
        replace(start, nodes=_nodes_of(document))
        for document in documents
        for place, pod in _pods(document)
        for start in _parse_pod(place, pod, beside)
    ]


def _nodes_of(document: Any) -> int:
    """The pods of one server: the size of a LeaderWorkerSet's groups."""
    group = mapping_of(mapping_of(mapping_of(document).get("spec")).get("leaderWorkerTemplate"))
    return count_of(group.get("size")) or 1


def _pods(value: Any, place: str = "", depth: int = 0) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every mapping that lists containers, with the kind and name of the object around it."""
    if depth > _DEEPEST:
        return
    if isinstance(value, list):
        for item in value:
            yield from _pods(item, place, depth + 1)
    if not isinstance(value, dict):
        return
    if isinstance(value.get("kind"), str) and isinstance(value.get("metadata"), dict):
        place = f"{value['kind']} {value['metadata'].get('name', '')}".strip()
    if isinstance(value.get("containers"), list):
        yield place, value
        return
    for item in value.values():
        yield from _pods(item, place, depth + 1)


def _parse_pod(place: str, pod: Mapping[str, Any], beside: Beside) -> Iterator[Start]:
    folders = {
        str(volume["name"]): str(volume["hostPath"].get("path", ""))
        for volume in mappings(pod.get("volumes"))
        if isinstance(volume.get("hostPath"), dict) and "name" in volume
    }
    for container in mappings(pod["containers"]):
        where = ", ".join(part for part in (place, f"container {container.get('name', '')}".strip()) if part)
        yield from parse_container(where, container, folders, beside)


def parse_container(place: str, content: Mapping[str, Any], folders: Mapping[str, str], beside: Beside) -> list[Start]:
    """The starts of one container; `folders` are those of the host by the names of their volumes."""
    env = parse_environment(content.get("env"), beside)
    mounts = tuple(
        (folders[str(mount["name"])], str(mount.get("mountPath", "")))
        for mount in mappings(content.get("volumeMounts"))
        if str(mount.get("name")) in folders
    )
    container = Container(str(content.get("image") or ""), mounts)
    arguments = [expand(word, env, beside) for word in texts(content.get("args"))]
    command = [expand(word, env, beside) for word in texts(content.get("command"))]
    here = Place(env, place, beside, container)
    starts = find_starts([*command, *arguments], here)
    if not starts and container.is_vllm and not command:
        starts = [here.start(arguments)]
    notes = ["the variables of envFrom, which stand in other objects"] if content.get("envFrom") else []
    count = cards_of(content.get("resources"))
    return [replace(start.with_notes(*notes), cards=start.cards or count) for start in starts]


def cards_of(resources: Any) -> int | None:
    """The count of cards that a container asks for."""
    for part in ("limits", "requests"):
        given = resources.get(part) if isinstance(resources, dict) else None
        for name, count in given.items() if isinstance(given, dict) else ():
            if name.endswith("/gpu") and (number := count_of(count)) is not None:
                return number
    return None


def parse_environment(entries: Any, beside: Beside) -> dict[str, str]:
    """The variables; the API key is known by the name that it has in its secret."""
    env: dict[str, str] = {}
    for entry in entries if isinstance(entries, list) else ():
        if not isinstance(entry, dict) or "name" not in entry:
            continue
        name = str(entry["name"])
        source = entry.get("valueFrom")
        secret = source.get("secretKeyRef") if isinstance(source, dict) else None
        if name == API_KEY_VARIABLE and isinstance(secret, dict) and str(secret.get("key", "")).isidentifier():
            env[name] = make_reference(str(secret["key"]))
        else:
            env[name] = make_reference(name) if source is not None else expand(entry.get("value"), env, beside)
    return env


def expand(value: Any, env: Mapping[str, str], beside: Beside) -> str:
    """$(NAME) is a variable of the container, `$$` a plain dollar sign."""

    def value_of(match: re.Match[str]) -> str:
        name = match[1]
        return "$" if name is None else beside.told.get(name, env.get(name, make_reference(name)))

    return _VARIABLE.sub(value_of, text_of(value))
