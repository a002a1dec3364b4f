"""What stands around the options of a start: the model's place, environment variables, and the address."""

from __future__ import annotations

from collections.abc import Mapping

from nexus_orch.exchange.imported import Imported
from nexus_orch.exchange.profiles.retired import find_retired_variable
from nexus_orch.exchange.profiles.reverse import Reverse
from nexus_orch.exchange.start import Container, Start, make_no_value, references, shown
from nexus_orch.exchange.text.secrets import (
    API_KEY_OPTION,
    API_KEY_VARIABLE,
    choose_api_key_env,
    explain_secret_variable,
)
from nexus_orch.types import is_secret_name

HUB_CACHE = "/.cache/huggingface"
DEFAULT_PORT = 8000
ALL_ADDRESSES = "0.0.0.0"
_OWN_VARIABLES = frozenset({"PYTHONUNBUFFERED", "PYTHONSAFEPATH", "VLLM_TARGET_DEVICE", "NVIDIA_DRIVER_CAPABILITIES"})
"""What every start sets by itself, or only a container needs."""
_CONTAINER_DEVICES = "NVIDIA_VISIBLE_DEVICES"


def is_for_cpu(start: Start) -> bool:
    """Whether a start is meant for vLLM's CPU build."""
    words = [*start.argv, *(f"--{key}={value}" for key, value in (start.config or {}).items())]
    names_device = any(words[index : index + 2] == ["--device", "cpu"] for index in range(len(words)))
    image = start.container.image.lower() if start.container else ""
    is_cpu_image = "cpu" in image.rpartition("/")[2]
    targets = start.env.get("VLLM_TARGET_DEVICE") == "cpu" or any(name.startswith("VLLM_CPU_") for name in start.env)
    return names_device or "--device=cpu" in words or is_cpu_image or targets


def take_model(model: str | None, container: Container | None, imported: Imported, profiles: Mapping[str, str]) -> None:
    """Where the model is outside of a container, what clients call it, and the profile that knows it."""
    if model is None:
        return
    path = outside(model, container)
    for name in references(path):
        imported.problems.append(make_no_value(name))
        return
    if path != model:
        imported.note("changed", f"{model} inside the container is {path}")
    imported.groups["model"] = profiles.get(path, "local")
    if imported.groups["model"] == "local":
        imported.settings = {"model.path": path, **imported.settings}
        imported.said["model.path"] = "the model"
        imported.settings["model.name"] = path.replace("\\", "/").rstrip("/").rpartition("/")[2]
    if "model.served_name" not in imported.settings:
        imported.settings["model.served_name"] = model
        imported.said["model.served_name"] = "vLLM's own choice, which clients know"


def outside(path: str, container: Container | None) -> str:
    """A path inside a container as its host calls it; as it is when no folder of the host lies there."""
    mounts = container.mounts if container is not None else ()
    for host, inside in sorted(mounts, key=lambda mount: -len(mount[1])):
        base = inside.rstrip("/")
        if path == base or path.startswith(f"{base}/"):
            return host.rstrip("/") + path[len(base) :]
    return path


def take_environment(start: Start, imported: Imported, reverse: Reverse) -> None:
    """Variables to settings where one stands for it, else to engine.env; secrets to neither."""
    for name, value in _variables(start, imported).items():
        if name == API_KEY_VARIABLE:
            variable, notes = choose_api_key_env([value])
            imported.set("serve.api_key_env", variable, API_KEY_OPTION)
            imported.note_all(notes)
        elif name == "PATH":
            imported.note("left out", "PATH: engine.python=PATH names the engine, whose own programs are found by it")
        elif is_secret_name(name):
            imported.note_all([explain_secret_variable(name, value)])
        elif references(value):
            imported.note("left out", f"{name}: its value ({shown(value)}) is not in the file")
        elif (reason := find_retired_variable(reverse.engine, name)) is not None:
            imported.note("no effect", f"{name}={value}: {reason}")
        elif not _take_variable(name, value, imported, reverse):
            imported.env[name] = outside(value, start.container)


def _variables(start: Start, imported: Imported) -> dict[str, str]:
    env = {name: value for name, value in start.env.items() if name not in _OWN_VARIABLES}
    devices = env.pop(_CONTAINER_DEVICES, "all")
    if devices not in ("all", "void", "none", ""):
        env.setdefault("CUDA_VISIBLE_DEVICES", devices)
    mounts = start.container.mounts if start.container is not None else ()
    for host, inside in mounts:
        is_cache = inside.rstrip("/").endswith(HUB_CACHE) and not host.rstrip("/").endswith(HUB_CACHE)
        if is_cache and not references(host):
            imported.env["HF_HOME"] = host
    home = env.get("HF_HOME", "")
    seen = outside(home, start.container)
    if seen.endswith(f"~{HUB_CACHE}") or (start.container is not None and seen == home):
        env.pop("HF_HOME", None)  # the usual place, or one that is the container's alone
    return env


def _take_variable(name: str, value: str, imported: Imported, reverse: Reverse) -> bool:
    """Whether the variable is a setting of ours on this release, and was taken as one."""
    key = reverse.key_of(name, "env")
    try:
        found = reverse.read(key, value) if key is not None else None
    except ValueError:
        return False  # cards by UUID, for example: vLLM reads it, our setting does not
    if key is None or found is None or found[0].env != name:
        return False
    imported.set(key, found[1], f"{name}={value}")
    return True


def take_address(container: Container | None, imported: Imported) -> None:
    """The address that clients use: that of the host where a container publishes its port, else that of the server."""
    settings = imported.settings
    if container is not None and not container.is_shared_network and container.ports:
        inside = settings.get("serve.port", DEFAULT_PORT)
        published = next((port for port in container.ports if port.inside == inside), None)
        if published is not None:
            imported.settings["serve.port"] = published.port
            imported.settings["serve.host"] = published.host or ALL_ADDRESSES
            imported.said["serve.port"] = imported.said["serve.host"] = "the published port"
    if "serve.host" not in settings:
        settings["serve.host"] = ALL_ADDRESSES
        imported.said["serve.host"] = "vLLM's own choice: every address"
    if settings["serve.host"] == ALL_ADDRESSES and "serve.api_key_env" not in settings:
        imported.note("open", "other machines can use the server without a key; serve.host=127.0.0.1 keeps them out")
