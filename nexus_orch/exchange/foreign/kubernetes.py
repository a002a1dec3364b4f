"""Kubernetes manifests: the containers that start vLLM, in whatever kind of object they stand."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from nexus_orch.exchange.foreign.documents import count_of, mapping_of, mappings, text_of, texts
from nexus_orch.exchange.foreign.shell import SHELLS, Place, find_starts
from nexus_orch.exchange.start import Beside, Container, Start, make_reference
from nexus_orch.exchange.text.secrets import API_KEY_VARIABLE

_DEEPEST = 100
_VARIABLE = re.compile(r"\$\$|\$\((\w+)\)|\$\{([A-Za-z_]\w*)\}")


@dataclass(frozen=True)
class Cluster:
    """What stands around a container: files and variables beside the manifest, the ConfigMaps in it by their names,
    and the folders of the host by the names of their volumes."""

    beside: Beside
    maps: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    folders: Mapping[str, str] = field(default_factory=dict)
    texts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """The files in volumes that are made of a ConfigMap, by the names of the volumes."""


def parse_manifest(documents: Sequence[Any], beside: Beside) -> list[Start]:
    """The starts of vLLM among the containers of all pods in these documents."""
    maps = {
        text_of(mapping_of(one.get("metadata")).get("name")): {
            name: text_of(value) for name, value in mapping_of(one.get("data")).items()
        }
        for one in mappings(list(documents))
        if one.get("kind") == "ConfigMap"
    }
    found: list[Start] = []
    for document in documents:
        size = _size_of_group(document)
        known = {"LWS_GROUP_SIZE": str(size), "LWS_WORKER_INDEX": "0"} if size is not None else {}
        cluster = Cluster(replace(beside, variables={**known, **beside.variables}), maps)
        for place, pod in _pods(document):
            found += [replace(start, nodes=size or 1) for start in _parse_pod(place, pod, cluster)]
    return found


def _size_of_group(document: Any) -> int | None:
    """The pods of one server in a LeaderWorkerSet; the first of a group is its leader."""
    group = mapping_of(mapping_of(mapping_of(document).get("spec")).get("leaderWorkerTemplate"))
    return count_of(group.get("size"))


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


def _parse_pod(place: str, pod: Mapping[str, Any], cluster: Cluster) -> Iterator[Start]:
    folders = {
        text_of(volume["name"]): text_of(volume["hostPath"].get("path"))
        for volume in mappings(pod.get("volumes"))
        if isinstance(volume.get("hostPath"), dict) and "name" in volume
    }
    texts_ = {
        text_of(volume.get("name")): cluster.maps[text_of(mapping_of(volume.get("configMap")).get("name"))]
        for volume in mappings(pod.get("volumes"))
        if text_of(mapping_of(volume.get("configMap")).get("name")) in cluster.maps
    }
    selected = [text_of(value) for key, value in mapping_of(pod.get("nodeSelector")).items() if "gpu" in key]
    told = [f"the manifest asks for these cards: {name}; name them with hardware=NAME" for name in selected]
    for container in mappings(pod["containers"]):
        where = ", ".join(part for part in (place, f"container {text_of(container.get('name'))}".strip()) if part)
        for start in parse_container(where, container, replace(cluster, folders=folders, texts=texts_)):
            yield start.with_assumptions(*told)


def parse_container(place: str, content: Mapping[str, Any], cluster: Cluster) -> list[Start]:
    """The starts of one container."""
    beside = cluster.beside
    loaded, notes = _loaded_environment(content.get("envFrom"), cluster)
    env = {**loaded, **parse_environment(content.get("env"), beside, cluster.maps)}
    mounts = tuple(
        (cluster.folders[text_of(mount["name"])], text_of(mount.get("mountPath")))
        for mount in mappings(content.get("volumeMounts"))
        if text_of(mount.get("name")) in cluster.folders
    )
    container = Container(text_of(content.get("image")), mounts)
    known = {**{name: value for name, value in beside.variables.items() if name.startswith("LWS_")}, **env}
    given = [*texts(content.get("command")), *texts(content.get("args"))]
    for_shell = bool(given) and given[0].rpartition("/")[2] in SHELLS
    arguments = [expand(word, known, beside, for_shell=for_shell) for word in texts(content.get("args"))]
    command = [expand(word, known, beside, for_shell=for_shell) for word in texts(content.get("command"))]
    here = Place(env, place, beside, container, files=_files_of(content, cluster))
    starts = find_starts([*command, *arguments], here)
    if not starts and container.is_vllm and not command:
        starts = [here.start(arguments)]
    resources = content.get("resources")
    count, slices = cards_of(resources), _slices_of(resources)
    if slices:
        told = f"the card is a slice ({slices}), not a whole one: name one of its size with hardware.gpu.memory_mib=..."
        starts = [start.with_assumptions(told) for start in starts]
        count = count or 1
    return [replace(start.with_notes(*notes), cards=start.cards or count) for start in starts]


def _files_of(content: Mapping[str, Any], cluster: Cluster) -> dict[str, str]:
    """The texts of ConfigMaps by their paths in the container."""
    files: dict[str, str] = {}
    for mount in mappings(content.get("volumeMounts")):
        path, single = text_of(mount.get("mountPath")).rstrip("/"), text_of(mount.get("subPath"))
        for name, text in cluster.texts.get(text_of(mount.get("name")), {}).items():
            files[path if single == name else f"{path}/{name}"] = text
    return files


def _loaded_environment(entries: Any, cluster: Cluster) -> tuple[dict[str, str], list[str]]:
    """The variables of envFrom: those of ConfigMaps in the same file, and the others' names."""
    env: dict[str, str] = {}
    missing: list[str] = []
    for entry in mappings(entries):
        name = text_of(mapping_of(entry.get("configMapRef")).get("name"))
        if name in cluster.maps:
            env |= cluster.maps[name]
        else:
            other = name or text_of(mapping_of(entry.get("secretRef")).get("name"))
            missing.append(f"the variables of {other} (envFrom), which stands in another file")
    return env, missing


def _slices_of(resources: Any) -> str:
    """The slices of a card (MIG) that a container asks for."""
    for part in ("limits", "requests"):
        for name in mapping_of(mapping_of(resources).get(part)):
            if "/mig-" in name:
                return name.partition("/")[2]
    return ""


def cards_of(resources: Any) -> int | None:
    """The count of cards that a container asks for."""
    for part in ("limits", "requests"):
        given = resources.get(part) if isinstance(resources, dict) else None
        for name, count in given.items() if isinstance(given, dict) else ():
            if name.endswith("/gpu") and (number := count_of(count)) is not None:
                return number
    return None


def parse_environment(
    entries: Any, beside: Beside, maps: Mapping[str, Mapping[str, str]] | None = None
) -> dict[str, str]:
    """The variables; the API key is known by the name that it has in its secret."""
    env: dict[str, str] = {}
    for entry in entries if isinstance(entries, list) else ():
        if not isinstance(entry, dict) or "name" not in entry:
            continue
        name = str(entry["name"])
        source = entry.get("valueFrom")
        secret = source.get("secretKeyRef") if isinstance(source, dict) else None
        mapped = mapping_of(mapping_of(source).get("configMapKeyRef"))
        value = (maps or {}).get(text_of(mapped.get("name")), {}).get(text_of(mapped.get("key")))
        if name == API_KEY_VARIABLE and isinstance(secret, dict) and str(secret.get("key", "")).isidentifier():
            env[name] = make_reference(str(secret["key"]))
        elif value is not None:
            env[name] = value
        else:
            env[name] = make_reference(name) if source is not None else expand(entry.get("value"), env, beside)
    return env


def expand(value: Any, env: Mapping[str, str], beside: Beside, *, for_shell: bool = True) -> str:
    """$(NAME) is a variable of the container, `$$` a plain dollar sign. ${NAME} is a shell's; where no shell reads the
    word, another tool fills it in before."""

    def value_of(match: re.Match[str]) -> str:
        name, of_a_tool = match[1], match[2]
        if of_a_tool is not None:
            return match[0] if for_shell else beside.told.get(of_a_tool, make_reference(of_a_tool))
        return "$" if name is None else beside.told.get(name, env.get(name, make_reference(name)))

    return _VARIABLE.sub(value_of, text_of(value))
