"""What stands around the options of a start: the model's place, environment variables, and the address."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from nexus_orch.errors import Problem
from nexus_orch.exchange.foreign.containers import in_full, is_mounted, outside
from nexus_orch.exchange.imported import Imported
from nexus_orch.exchange.profiles.retired import find_retired_variable
from nexus_orch.exchange.profiles.reverse import Reverse
from nexus_orch.exchange.start import Container, Start, make_no_value, references, shown
from nexus_orch.exchange.text.placeholders import is_model_placeholder, is_placeholder, without_mark
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
_OTHER_CARDS = {
    "HIP_VISIBLE_DEVICES": "AMD's cards",
    "ROCR_VISIBLE_DEVICES": "AMD's cards",
    "ASCEND_RT_VISIBLE_DEVICES": "Ascend's processors",
    "ZE_AFFINITY_MASK": "Intel's cards",
    "HABANA_VISIBLE_DEVICES": "Gaudi's processors",
}
_OTHER_IMAGES = re.compile(r"(rocm|amd|ascend|xpu|gaudi|hpu|tpu|neuron)(?![a-z])")
"""Names of images that are built for other cards than NVIDIA's."""
_CONTAINER_DEVICES = "NVIDIA_VISIBLE_DEVICES"


def is_for_cpu(start: Start) -> bool:
    """Whether a start is meant for vLLM's CPU build."""
    words = [*start.argv, *(f"--{key}={value}" for key, value in (start.config or {}).items())]
    names_device = any(words[index : index + 2] == ["--device", "cpu"] for index in range(len(words)))
    image = start.container.image.lower() if start.container else ""
    is_cpu_image = "cpu" in image.rpartition("/")[2]
    targets = start.env.get("VLLM_TARGET_DEVICE") == "cpu" or any(name.startswith("VLLM_CPU_") for name in start.env)
    return names_device or "--device=cpu" in words or is_cpu_image or targets


def take_model(model: str | None, start: Start, imported: Imported, profiles: Mapping[str, str]) -> None:
    """Where the model is outside of a container, what clients call it, and the profile that knows it."""
    if model is None:
        return
    for name in references(model):
        unread = [note for note in start.notes if note.startswith("the variables of")]
        imported.problems.append(make_no_value(name, "the model", unread))
        return
    if is_model_placeholder(model):
        holder = next((f" ({name})" for name, value in start.env.items() if value == model), "")
        problem = f"{without_mark(model)} is a placeholder for the model{holder}"
        imported.problems.append(Problem(problem, remedy="write the model's name or folder in its place"))
        return
    path = outside(model, start.container, start.folder)
    for name in references(path):
        imported.problems.append(make_no_value(name, f"the folder of {model}"))
        return
    if is_placeholder(path):
        problem = f"{path}, which is {model} inside the container, is a placeholder for the model's folder"
        imported.problems.append(Problem(problem, remedy="write the folder in its place"))
        return
    if _is_lost(path, model, start):
        imported.note("assumed", f"{model} lies inside the container only: bring the model to this machine")
    if path != model:
        where = "inside the container " if start.container is not None else ""
        imported.note("changed", f"{model} {where}is {path}")
    imported.groups["model"] = profiles.get(path, "local")
    if imported.groups["model"] == "local":
        imported.settings = {"model.path": path, **imported.settings}
        imported.said["model.path"] = "the model"
        imported.settings["model.name"] = path.replace("\\", "/").rstrip("/").rpartition("/")[2]
    if "model.served_name" not in imported.settings:
        imported.settings["model.served_name"] = model
        imported.said["model.served_name"] = "vLLM's own choice, which clients know"


def _is_lost(there: str, path: str, start: Start) -> bool:
    """Whether a path is one that only the container has."""
    return there == path and path.startswith("/") and start.is_inside and not is_mounted(path, start.container)


def translate(words: Sequence[str], start: Start, imported: Imported) -> list[str]:
    """Words that are passed on, with the paths of a container as its host calls them."""
    return [_translated(word, start, imported) for word in words]


def _translated(word: str, start: Start, imported: Imported) -> str:
    if word[:1] in "{[":
        try:
            content = json.loads(word)
        except (ValueError, RecursionError):
            return word
        moved = _translated_value(content, start, imported)
        return word if moved == content else json.dumps(moved)
    name, assigned, path = word.partition("=")
    if assigned and "/" in path and "/" not in name:
        return f"{name}={_translated_path(path, start, imported)}"
    return _translated_path(word, start, imported)


def _translated_value(value: Any, start: Start, imported: Imported) -> Any:
    if isinstance(value, str):
        return _translated_path(value, start, imported)
    if isinstance(value, list):
        return [_translated_value(item, start, imported) for item in value]
    if isinstance(value, dict):
        return {key: _translated_value(item, start, imported) for key, item in value.items()}
    return value


def _translated_path(path: str, start: Start, imported: Imported) -> str:
    if not path.startswith(("/", "./", "../")) or any(blank in path for blank in " \n"):
        is_file = path.endswith((".jinja", ".py")) and re.fullmatch(r"[\w./-]+", path) is not None
        if not is_file or start.container is not None or not start.folder:
            return path
        path = f"./{path}"
    there = outside(path, start.container, start.folder)
    if references(there):
        imported.note("open", f"{path} lies in a folder of the host whose name is not known: {shown(there)}")
        return path
    if there != path:
        where = "inside the container " if start.container is not None else ""
        imported.note("changed", f"{path} {where}is {there}")
    elif _is_lost(there, path, start):
        imported.note("open", f"{path} lies inside the container only: bring the file to this machine")
    return there


def take_environment(start: Start, imported: Imported, reverse: Reverse) -> None:
    """Variables to settings where one stands for it, else to engine.env; secrets to neither."""
    for name, value in _variables(start, imported).items():
        if name == API_KEY_VARIABLE:
            variable, notes = choose_api_key_env([without_mark(value)])
            imported.set("serve.api_key_env", variable, API_KEY_OPTION)
            imported.note_all(notes)
        elif name == "PATH":
            imported.note("left out", "PATH: engine.python=PATH names the engine, whose own programs are found by it")
        elif is_secret_name(name):
            imported.note_all([explain_secret_variable(name, value)])
        elif references(value):
            imported.note("left out", f"{name}: its value ({shown(value)}) is not in the file")
        elif is_placeholder(value):
            imported.note("left out", f"{name}: its value ({without_mark(value)}) is a placeholder")
        elif (reason := find_retired_variable(reverse.engine, name)) is not None:
            imported.note("no effect", f"{name}={value}: {reason}")
            if value != "1":  # a release that only has what is asked for here says nothing against itself
                imported.doubts.append(f"{name}={value}: {reason}")
        elif not _take_variable(name, value, imported, reverse):
            imported.env[name] = outside(value, start.container, start.folder)
    _take_cards(start, imported)


def _take_cards(start: Start, imported: Imported) -> None:
    """The cards that are named, or that a container is given, are the count."""
    for name, cards in _OTHER_CARDS.items():
        if name in start.env:
            imported.note(
                "assumed", f"{name} names {cards}, which are not planned: figures are those of NVIDIA's cards"
            )
            named = start.env[name]
            if re.fullmatch(r"\d+(,\d+)*", named):
                imported.set("hardware.gpu.count", named.count(",") + 1, f"{name}={named}")
    if any(name.startswith(("HCCL_", "VLLM_ASCEND_")) for name in start.env):
        imported.note("assumed", "variables of Ascend's processors, which are not planned: figures are NVIDIA's cards'")
    image = start.container.image if start.container is not None else ""
    if _OTHER_IMAGES.search(image.lower()) and not any(name in start.env for name in _OTHER_CARDS):
        imported.note("assumed", f"the image {image} is not for NVIDIA's cards: figures are those of NVIDIA's")
    devices = imported.settings.get("hardware.gpu.devices")
    names = imported.env.get("CUDA_VISIBLE_DEVICES", "")
    if isinstance(devices, list) and devices:
        imported.set("hardware.gpu.count", len(devices), imported.said["hardware.gpu.devices"])
    elif names and not references(names):
        imported.set("hardware.gpu.count", names.strip(",").count(",") + 1, f"CUDA_VISIBLE_DEVICES={names}")
    elif start.cards is not None:
        imported.set("hardware.gpu.count", start.cards * start.nodes, "the cards that it is given")
    if start.nodes > 1:
        text = f"the server runs on {start.nodes} machines; their cards are planned as one machine's"
        imported.note("assumed", text)


def _variables(start: Start, imported: Imported) -> dict[str, str]:
    env = {name: value for name, value in start.env.items() if name not in _OWN_VARIABLES}
    devices = env.pop(_CONTAINER_DEVICES, "all")
    if devices not in ("all", "void", "none", ""):
        env.setdefault("CUDA_VISIBLE_DEVICES", devices)
    mounts = start.container.mounts if start.container is not None else ()
    for mounted, inside in mounts:
        host = in_full(mounted, start.folder)
        is_cache = inside.rstrip("/").endswith(HUB_CACHE) and not host.rstrip("/").endswith(HUB_CACHE)
        if is_cache and not references(host):
            imported.env["HF_HOME"] = host
        elif references(host):
            imported.note(
                "open", f"the folder {shown(host)}, mounted as {inside}, is not known: its variable is not set"
            )
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
