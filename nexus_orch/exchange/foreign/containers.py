"""`docker run` and its relatives: options, image, and what the container is told to run."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from nexus_orch.exchange.foreign.documents import count_of
from nexus_orch.exchange.start import REFERENCE_MARK, Container, Published, make_reference, read_nothing
from nexus_orch.exchange.text.variables import parse_env_file

_ENGINES = frozenset({"docker", "podman", "nerdctl"})
_SWITCHES = frozenset(
    {
        "--detach",
        "--init",
        "--interactive",
        "--no-healthcheck",
        "--oom-kill-disable",
        "--privileged",
        "--publish-all",
        "--quiet",
        "--read-only",
        "--replace",
        "--rm",
        "--tty",
    }
)
"""Long options of `docker run` without a value; every other one takes one."""
_SHORT_SWITCHES = frozenset("ditPq")


@dataclass
class DockerRun:
    """What a `docker run` command says."""

    image: str = ""
    entrypoint: list[str] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    mounts: list[tuple[str, str]] = field(default_factory=list)
    ports: list[Published] = field(default_factory=list)
    is_shared_network: bool = False
    notes: list[str] = field(default_factory=list)
    cards: int | None = None
    name: str = ""

    @property
    def words(self) -> list[str]:
        return [*self.entrypoint, *self.arguments]

    @property
    def is_vllm(self) -> bool:
        return container_of(self).is_vllm


def container_of(run: DockerRun) -> Container:
    """The surroundings that the options describe."""
    return Container(run.image, tuple(run.mounts), tuple(run.ports), run.is_shared_network)


def find_docker_run(words: Sequence[str]) -> list[str] | None:
    """What follows `docker run` in these words, None when they start no container."""
    for index, word in enumerate(words):
        if word.rpartition("/")[2] in _ENGINES:
            after = list(words[index + 1 :])
            after = after[1:] if after[:1] == ["container"] else after
            return after[1:] if after[:1] == ["run"] else None
    return None


def parse_docker_run(words: Sequence[str], read: Callable[[str], str | None] = read_nothing) -> DockerRun:
    """The options, the image and the command of a `docker run`. `read` gives the text of a file of variables."""
    run = DockerRun()
    rest = list(words)
    while rest and rest[0].startswith("-"):
        name, assigned, value = rest.pop(0).partition("=")
        is_switch = name in _SWITCHES or (not name.startswith("--") and set(name[1:]) <= _SHORT_SWITCHES)
        if not name.startswith("--") and len(name) > 2 and not is_switch:
            cut = next((index for index, char in enumerate(name[1:], 1) if char not in _SHORT_SWITCHES), 1)
            name, assigned, value = (
                f"-{name[cut]}",
                name[cut + 1 :] + assigned + value,
                name[cut + 1 :] + assigned + value,
            )
        if not is_switch and not assigned and rest:
            value = rest.pop(0)
        _apply(run, name, value, read)
    run.image, run.arguments = (rest[0], rest[1:]) if rest else ("", [])
    return run


def parse_apptainer(words: Sequence[str]) -> tuple[Container, dict[str, str]]:
    """What surrounds a command behind `apptainer exec OPTIONS IMAGE`, and the variables that the options set. Files
    outside of the bound folders are those of the host."""
    mounts: list[tuple[str, str]] = []
    env: dict[str, str] = {}
    image = ""
    rest = list(words[1:])
    while rest and not image:
        name, assigned, value = rest.pop(0).partition("=")
        if name.endswith(".sif") or name.startswith("docker://"):
            image = name
        elif name in ("-B", "--bind", "--env") and (assigned or rest):
            for part in (value if assigned else rest.pop(0)).split(","):
                if name == "--env":
                    variable, _, given = part.partition("=")
                    env[variable] = given
                else:
                    mounts += parse_volume(part)
    container = Container(image.removeprefix("docker://"), tuple(mounts), is_shared_network=True, shares_files=True)
    return container, env


def _apply(run: DockerRun, name: str, value: str, read: Callable[[str], str | None]) -> None:
    match name:
        case "-e" | "--env":
            variable, assigned, given = value.partition("=")
            run.env[variable] = given if assigned else make_reference(variable)
        case "-v" | "--volume":
            run.mounts += parse_volume(value)
        case "--mount":
            run.mounts += _parse_mount(value)
        case "-p" | "--publish":
            run.ports += parse_port(value)
        case "--network" | "--net":
            run.is_shared_network = value == "host"
        case "--name":
            run.name = value
        case "--entrypoint":
            run.entrypoint = value.split()
        case "--gpus" | "--device":
            _take_cards(run, value)
        case "--env-file":
            text = read(value)
            if text is None:
                run.notes.append(f"the variables of the file {value}, which was not read")
            else:
                run.env |= parse_env_file(text)


def _take_cards(run: DockerRun, value: str) -> None:
    """`--gpus 2`, `--gpus '"device=0,1"'`, `--device nvidia.com/gpu=0`."""
    plain = value.replace('"', "").replace("'", "")
    fields = dict(part.partition("=")[::2] for part in plain.split(",") if "=" in part)
    count = fields.get("count", plain)
    number = count_of(count)
    if number is not None:
        run.cards = number
    elif "device=" in plain or plain.startswith("nvidia.com/gpu="):
        devices = plain.partition("device=")[2] or plain.partition("=")[2]
        numbers = [part for part in devices.split(",") if "=" not in part]
        if numbers and numbers[0] != "all":
            run.env["CUDA_VISIBLE_DEVICES"] = ",".join(numbers)


def outside(path: str, container: Container | None, folder: str = "") -> str:
    """A path inside a container as its host calls it, and one that begins at a folder in full; as it is when no folder
    of the host lies there."""
    mounts = container.mounts if container is not None else ()
    for host, inside in sorted(mounts, key=lambda mount: -len(mount[1])):
        base = inside.rstrip("/")
        if path == base or path.startswith(f"{base}/"):
            return in_full(_joined(host, path[len(base) :]), folder)
    is_elsewhere = container is not None and not container.shares_files
    return path if is_elsewhere else in_full(path, folder)


def is_mounted(path: str, container: Container | None) -> bool:
    """Whether a path inside a container lies in a folder of its host."""
    bases = [inside.rstrip("/") for _, inside in (container.mounts if container is not None else ())]
    return any(path == base or path.startswith(f"{base}/") for base in bases)


def _joined(host: str, rest: str) -> str:
    """A path below a folder of the host; Windows has its own separator."""
    is_windows = "\\" in host or re.match(r"[A-Za-z]:", host) is not None
    return host.rstrip("/\\") + (rest.replace("/", "\\") if is_windows else rest)


def in_full(path: str, folder: str) -> str:
    """A path that begins with `./` or `../`, counted from the folder."""
    if not folder or not (path in (".", "..") or path.startswith(("./", "../"))):
        return path
    return posixpath.normpath(posixpath.join(folder, path))


def parse_volume(text: str) -> Iterator[tuple[str, str]]:
    """`HOST:INSIDE[:ro]`; a volume that docker itself keeps is no folder of the host."""
    parts = text.split(":")
    if len(parts) > 1 and len(parts[0]) == 1 and parts[1].startswith(("\\", "/")) and len(parts) > 2:
        parts = [f"{parts[0]}:{parts[1]}", *parts[2:]]  # a drive of Windows
    is_folder = parts[0].startswith(("/", ".", "~", REFERENCE_MARK)) or ":" in parts[0] or "\\" in parts[0]
    if len(parts) > 1 and is_folder:
        yield parts[0], parts[1]


def _parse_mount(text: str) -> Iterator[tuple[str, str]]:
    fields = dict(part.partition("=")[::2] for part in text.split(","))
    source = fields.get("source") or fields.get("src")
    target = fields.get("target") or fields.get("destination") or fields.get("dst")
    if fields.get("type") == "bind" and source and target:
        yield source, target


def parse_port(text: str) -> Iterator[Published]:
    """`[ADDRESS:]PORT:INSIDE[/tcp]`; ranges and ports that docker chooses are left out."""
    outside, _, inside = text.partition("/")[0].rpartition(":")
    host, _, port = outside.rpartition(":")
    numbers = count_of(port), count_of(inside)
    if numbers[0] is not None and numbers[1] is not None:
        yield Published(numbers[0], numbers[1], host.strip("[]"))
