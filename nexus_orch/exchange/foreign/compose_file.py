"""docker-compose files: the services that start vLLM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from nexus_orch.exchange.foreign.containers import parse_port, parse_volume
from nexus_orch.exchange.foreign.documents import count_of, mapping_of, read_yaml, text_of
from nexus_orch.exchange.foreign.shell import Place, find_starts
from nexus_orch.exchange.start import Beside, Container, Published, Start, Variables, make_reference
from nexus_orch.exchange.text.variables import interpolate, parse_env_file, split_words
from nexus_orch.suggest import suggest

ENV_FILE = ".env"
_SERVICE_KEYS = (
    *("image", "build", "command", "entrypoint", "environment", "env_file", "ports", "expose", "volumes", "deploy"),
    *("devices", "gpus", "runtime", "network_mode", "networks", "ipc", "shm_size", "ulimits", "restart", "profiles"),
    *("depends_on", "healthcheck", "container_name", "hostname", "labels", "logging", "user", "working_dir", "tty"),
    *("privileged", "security_opt", "cap_add", "cap_drop", "extends", "extra_hosts", "init", "pid", "platform"),
    *("read_only", "secrets", "configs", "stdin_open", "stop_grace_period", "stop_signal", "sysctls", "tmpfs"),
    *("mem_limit", "memswap_limit", "cpus", "cpuset", "dns", "domainname", "links", "scale", "annotations", "attach"),
    *("pull_policy", "group_add", "models", "volumes_from", "mem_reservation", "oom_score_adj", "isolation"),
)
_DEEPEST = 10
_DEPLOY_KEYS = ("resources", "replicas", "restart_policy", "placement", "labels", "mode", "update_config")


def parse_compose(content: Mapping[str, Any], beside: Beside) -> list[Start]:
    """The starts of vLLM among the services. Variables are filled in as compose does it: told ones first, then those of
    the file .env, then defaults; others become references."""
    kept = parse_env_file(beside.read(ENV_FILE) or "")
    compose = _Compose(beside, {**beside.variables, **kept, **beside.told})
    services = mapping_of(content.get("services"))
    found: list[Start] = []
    for name, service in services.items():
        if isinstance(service, dict):
            whole, missing = extended(service, services, beside)
            found += [start.with_notes(*missing) for start in compose.service(str(name), whole)]
    return found


def extended(
    service: Mapping[str, Any], services: Mapping[str, Any], beside: Beside, depth: int = 0
) -> tuple[Mapping[str, Any], list[str]]:
    """A service with what it extends below it: lists add up, mappings are joined, other values win. A file that is not
    there is told."""
    named = service.get("extends")
    wanted = text_of(mapping_of(named).get("service")) or text_of(named)
    if not wanted or depth > _DEEPEST:
        return service, []
    file = text_of(mapping_of(named).get("file"))
    if file:
        text = beside.read(file)
        if text is None:
            return service, [f"the service {wanted} of {file}, which was not read"]
        documents = read_yaml(text, file)
        services = mapping_of(mapping_of(documents[0] if documents else None).get("services"))
    base, missing = extended(mapping_of(services.get(wanted)), services, beside, depth + 1)
    return {**base, **{key: _joined(base.get(key), value) for key, value in service.items()}}, missing


def _joined(base: Any, own: Any) -> Any:
    if isinstance(base, dict) and isinstance(own, dict):
        return {**base, **{key: _joined(base.get(key), value) for key, value in own.items()}}
    is_command = isinstance(own, list) and all(
        isinstance(one, str) and ":" not in one and "=" not in one for one in own
    )
    return [*base, *own] if isinstance(base, list) and isinstance(own, list) and not is_command else own


@dataclass(frozen=True)
class _Compose:
    """Reads services with the variables of the file."""

    beside: Beside
    env: Variables = field(default_factory=dict)

    def service(self, name: str, service: Mapping[str, Any]) -> list[Start]:
        image = self.text(service.get("image", ""))
        container = Container(
            image=image,
            mounts=tuple(mount for volume in _items(service, "volumes") for mount in self.mounts(volume)),
            ports=tuple(port for item in _items(service, "ports") for port in self.ports(item)),
            is_shared_network=service.get("network_mode") == "host",
        )
        entrypoint, command = self.words(service.get("entrypoint")), self.words(service.get("command"))
        variables, notes = self.files(service.get("env_file"))
        notes += [*_misspelt(service, _SERVICE_KEYS), *_misspelt(mapping_of(service.get("deploy")), _DEPLOY_KEYS)]
        inside = {**variables, **self.environment(service.get("environment"))}
        devices, count = self.devices(service)
        place = Place({**inside, **devices}, f"service {name}", self.beside, container)
        starts = find_starts([*entrypoint, *command], place)
        if not starts and container.is_vllm and not entrypoint:
            starts = [place.start(command)]
        return [replace(start.with_notes(*notes), cards=start.cards or count) for start in starts]

    def text(self, value: Any) -> str:
        """A value with its variables."""
        text = str(value).lower() if isinstance(value, bool) else str(value)
        return interpolate(text, self.env)

    def words(self, command: Any) -> list[str]:
        """A command as a list, or as text that is split into words."""
        if command is None:
            return []
        if isinstance(command, list):
            return [self.text(word) for word in command]
        return split_words(self.text(command))

    def environment(self, value: Any) -> dict[str, str]:
        """A mapping, or a list of NAME=VALUE; a name alone takes over the variable of that name."""
        if isinstance(value, dict):
            given = {str(name): text for name, text in value.items()}
        else:
            items = [str(item).partition("=") for item in value] if isinstance(value, list) else []
            given = {name: text if assigned else None for name, assigned, text in items}
        return {
            name: self.env.get(name, make_reference(name)) if text is None else self.text(text)
            for name, text in given.items()
        }

    def files(self, value: Any) -> tuple[dict[str, str], list[str]]:
        """The variables of the files that env_file names, and those files that are not there."""
        found: dict[str, str] = {}
        missing: list[str] = []
        for item in value if isinstance(value, list) else [value] if value else []:
            path = self.text(item.get("path", "") if isinstance(item, dict) else item)
            text = self.beside.read(path)
            if text is None:
                missing.append(f"the variables of env_file {path}, which was not read")
            else:
                found |= {name: interpolate(said, self.env) for name, said in parse_env_file(text).items()}
        return found, missing

    def mounts(self, volume: Any) -> list[tuple[str, str]]:
        if isinstance(volume, dict):
            source, target = volume.get("source"), volume.get("target")
            is_folder = volume.get("type") == "bind" and source and target
            return [(self.text(source), self.text(target))] if is_folder else []
        return list(parse_volume(self.text(volume)))

    def ports(self, item: Any) -> list[Published]:
        if isinstance(item, dict):
            outside_, inside = str(item.get("published", "")), str(item.get("target", ""))
            host = f"{item['host_ip']}:" if "host_ip" in item else ""
            return list(parse_port(self.text(f"{host}{outside_}:{inside}")))
        return list(parse_port(self.text(item)))

    def devices(self, service: Mapping[str, Any]) -> tuple[dict[str, str], int | None]:
        """The cards that a reservation names, as the variable that does the same outside of a container; or their
        count."""
        place: Any = service
        for key in ("deploy", "resources", "reservations", "devices"):
            place = place.get(key) if isinstance(place, dict) else None
        given = [*_list(place), *_list(service.get("gpus"))]
        for device in given:
            ids = device.get("device_ids") if isinstance(device, dict) else None
            if isinstance(ids, list) and ids:
                return {"CUDA_VISIBLE_DEVICES": ",".join(self.text(one) for one in ids)}, None
            count = count_of(self.text(device.get("count", ""))) if isinstance(device, dict) else None
            if count is not None:
                return {}, count
        return {}, None


def _misspelt(content: Mapping[str, Any], known: Sequence[str]) -> list[str]:
    """Keys that compose does not know and that look like one that it does."""
    found = [(key, suggest(key, known)) for key in content if key not in known and not key.startswith("x-")]
    return [f"{key} is no key of compose: {hint}" for key, hint in found if hint]


def _items(service: Mapping[str, Any], key: str) -> list[Any]:
    return _list(service.get(key))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
