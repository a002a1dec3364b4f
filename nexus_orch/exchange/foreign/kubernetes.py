"""Kubernetes manifests: the containers that start vLLM, in whatever kind of object they stand."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nexus_orch.exchange.foreign.shell import find_starts
from nexus_orch.exchange.start import Container, Start, make_reference
from nexus_orch.exchange.text.secrets import API_KEY_VARIABLE

_VARIABLE = re.compile(r"\$\$|\$\((\w+)\)")


def parse_manifest(documents: Sequence[Any]) -> list[Start]:
    """The starts of vLLM among the containers of all pods in these documents."""
    return [start for document in documents for place, pod in _pods(document) for start in _parse_pod(place, pod)]


def _pods(value: Any, place: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every mapping that lists containers, with the kind and name of the object around it."""
    if isinstance(value, list):
        for item in value:
            yield from _pods(item, place)
    if not isinstance(value, dict):
        return
    if isinstance(value.get("kind"), str) and isinstance(value.get("metadata"), dict):
        place = f"{value['kind']} {value['metadata'].get('name', '')}".strip()
    if isinstance(value.get("containers"), list):
        yield place, value
        return
    for item in value.values():
        yield from _pods(item, place)


def _parse_pod(place: str, pod: Mapping[str, Any]) -> Iterator[Start]:
    folders = {
        volume["name"]: str(volume["hostPath"].get("path", ""))
        for volume in pod.get("volumes") or ()
        if isinstance(volume, dict) and isinstance(volume.get("hostPath"), dict) and "name" in volume
    }
    for container in pod["containers"]:
        if isinstance(container, dict):
            where = ", ".join(part for part in (place, f"container {container.get('name', '')}".strip()) if part)
            yield from _parse_container(where, container, folders)


def _parse_container(place: str, content: Mapping[str, Any], folders: Mapping[str, str]) -> list[Start]:
    env = _environment(content.get("env"))
    mounts = tuple(
        (folders[mount["name"]], str(mount.get("mountPath", "")))
        for mount in content.get("volumeMounts") or ()
        if isinstance(mount, dict) and mount.get("name") in folders
    )
    container = Container(str(content.get("image", "")), mounts)
    arguments = [_expand(word, env) for word in content.get("args") or ()]
    words = [*(_expand(word, env) for word in content.get("command") or ()), *arguments]
    starts = find_starts(words, env, place, container)
    if not starts and container.is_vllm:
        starts = [Start(tuple(arguments), env, place, container)]
    notes = ["the variables of envFrom, which stand in other objects"] if content.get("envFrom") else []
    return [start.with_notes(*notes) for start in starts]


def _environment(entries: Any) -> dict[str, str]:
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
            env[name] = make_reference(name) if source is not None else _expand(entry.get("value", ""), env)
    return env


def _expand(value: Any, env: Mapping[str, str]) -> str:
    """$(NAME) is a variable of the container, `$$` a plain dollar sign."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return _VARIABLE.sub(lambda match: "$" if match[1] is None else env.get(match[1], make_reference(match[1])), text)
