"""docker-compose files: the services that start vLLM."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nexus_orch.exchange.foreign.containers import parse_port, parse_volume
from nexus_orch.exchange.foreign.shell import find_starts
from nexus_orch.exchange.start import Container, Published, Start, Variables, make_reference
from nexus_orch.exchange.text.variables import LITERAL_DOLLAR, expand
from nexus_orch.exchange.text.words import split_words


def parse_compose(content: Mapping[str, Any], env: Variables) -> list[Start]:
    """The starts of vLLM among the services. Only `env` and defaults fill in variables; others become references."""
    services = content.get("services")
    found: list[Start] = []
    for name, service in services.items() if isinstance(services, dict) else ():
        if isinstance(service, dict):
            found += _parse_service(str(name), service, env)
    return found


def _parse_service(name: str, service: Mapping[str, Any], env: Variables) -> list[Start]:
    container = Container(
        image=_text(service.get("image", ""), env),
        mounts=tuple(mount for volume in _items(service, "volumes") for mount in _mounts(volume, env)),
        ports=tuple(port for item in _items(service, "ports") for port in _ports(item, env)),
        is_shared_network=service.get("network_mode") == "host",
    )
    words = [*_words(service.get("entrypoint"), env), *_words(service.get("command"), env)]
    inside = {**_environment(service.get("environment"), env), **_devices(service)}
    place = f"service {name}"
    starts = find_starts(words, inside, place, container)
    if not starts and container.is_vllm:
        starts = [Start(tuple(_words(service.get("command"), env)), inside, place, container)]
    files = service.get("env_file")
    notes = [f"the variables of env_file {files}, which was not read"] if files else []
    return [start.with_notes(*notes) for start in starts]


def _items(service: Mapping[str, Any], key: str) -> list[Any]:
    value = service.get(key)
    return value if isinstance(value, list) else []


def _text(value: Any, env: Variables) -> str:
    """A value with its variables; `$$` is a plain dollar sign."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return expand(text.replace("$$", LITERAL_DOLLAR), env)


def _words(command: Any, env: Variables) -> list[str]:
    """A command as a list, or as text that is split into words."""
    if command is None:
        return []
    if isinstance(command, list):
        return [_text(word, env) for word in command]
    return split_words(_text(command, env))


def _environment(value: Any, env: Variables) -> dict[str, str]:
    """A mapping, or a list of NAME=VALUE; a name alone takes over the variable of that name."""
    if isinstance(value, dict):
        given = {str(name): text for name, text in value.items()}
    else:
        items = [str(item).partition("=") for item in value] if isinstance(value, list) else []
        given = {name: text if assigned else None for name, assigned, text in items}
    return {name: make_reference(name) if text is None else _text(text, env) for name, text in given.items()}


def _mounts(volume: Any, env: Variables) -> list[tuple[str, str]]:
    if isinstance(volume, dict):
        source, target = volume.get("source"), volume.get("target")
        is_folder = volume.get("type") == "bind" and source and target
        return [(_text(source, env), _text(target, env))] if is_folder else []
    return list(parse_volume(_text(volume, env)))


def _ports(item: Any, env: Variables) -> list[Published]:
    if isinstance(item, dict):
        outside, inside = str(item.get("published", "")), str(item.get("target", ""))
        host = f"{item['host_ip']}:" if "host_ip" in item else ""
        return list(parse_port(_text(f"{host}{outside}:{inside}", env)))
    return list(parse_port(_text(item, env)))


def _devices(service: Mapping[str, Any]) -> dict[str, str]:
    """The cards that a reservation names, as the variable that does the same outside of a container."""
    place: Any = service
    for key in ("deploy", "resources", "reservations", "devices"):
        place = place.get(key) if isinstance(place, dict) else None
    for device in place if isinstance(place, list) else ():
        ids = device.get("device_ids") if isinstance(device, dict) else None
        if isinstance(ids, list) and ids:
            return {"CUDA_VISIBLE_DEVICES": ",".join(map(str, ids))}
    return {}
