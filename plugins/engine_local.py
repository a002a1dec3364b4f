"""vLLM on this machine: a given interpreter, an environment that nexus_orch made, or one that the user has."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from packaging.version import InvalidVersion, Version

from nexus_orch import hookimpl
from nexus_orch.contracts import EngineOrder, EngineProvider, Rendering
from nexus_orch.errors import ConfigError, Problem
from nexus_orch.facts.engine.installed import is_wanted, parse_wanted_version, read_engine
from nexus_orch.install.engines.environment import find_damage
from nexus_orch.install.engines.installed import Engine, read_engines
from nexus_orch.launch.processes.local import LocalProcesses
from nexus_orch.launch.secrets import read_secrets
from nexus_orch.paths import engines_dir
from nexus_orch.types import Command, EngineFacts, EngineSpec, Facts, RunSpec, is_secret_name

INSTALL_REMEDY = "`nexus engine install cpu`, or `pip install vllm` into an environment and engine.python=PATH"

_PYTHONS = ("bin/python", "Scripts/python.exe", "python.exe")


class LocalEngine(LocalProcesses):
    """A process of this machine, started with the interpreter of the engine's own environment."""

    kind = "local"
    order = 0

    def find(self, spec: RunSpec, *, cpu: bool) -> EngineFacts | None:
        """The engine of `engine.python`; else the newest installed one of the wanted device and version."""
        wanted = parse_wanted_version(spec.engine.version)
        if spec.engine.python is not None:
            return _read_pinned(spec.engine, spec.engine.python, cpu=cpu)
        others = ((path, ()) for path in _other_engines())
        for path, requirements in chain(_installed_engines(cpu=cpu), others):
            try:
                engine = read_engine(path)
            except ConfigError:
                continue  # broken, and nobody named it: `nexus engine list` says so
            is_meant = (engine.device == "cpu") is cpu and is_wanted(engine.version, wanted)
            if is_meant and find_damage(path, requirements) is None:
                return engine
        return None

    def why_not_ready(self, spec: RunSpec, facts: Facts) -> Problem | None:
        """There must be an interpreter: a plan may assume a release."""
        if facts.engine.python is not None:
            return None
        device = "cuda" if facts.machine.gpus else "cpu"
        broken = _find_broken(spec, cpu=device == "cpu")
        if broken is not None:
            install = f"nexus engine install {broken.device} --version {broken.version}"
            return Problem(
                f"the engine environment {broken.name} is broken: {broken.damage}",
                key="engine",
                remedy=f"`{install}` mends it; engine.python=PATH uses one of yours",
            )
        return Problem(
            "no vLLM engine is installed",
            key="engine",
            remedy=f"`nexus engine install {device}` makes one; engine.python=PATH uses one of yours",
        )

    def command(self, order: EngineOrder) -> Command:
        """The server as a module of the engine's interpreter; the user's `engine.env` has the last word.

        Raises ConfigError when there is no interpreter, or when the variable that should hold a secret is not set.
        """
        rendering, engine, env = order.rendering, order.facts.engine, order.plan.spec.engine.env
        if engine.python is None:
            raise ConfigError(Problem("no engine is installed", remedy=INSTALL_REMEDY))
        base = {"PYTHONUNBUFFERED": "1", "PYTHONSAFEPATH": "1"}  # a folder `vllm` in the working directory is no engine
        if engine.device == "cpu":
            base["VLLM_TARGET_DEVICE"] = "cpu"
        secrets = read_secrets(rendering)
        named = {name for name in env if is_secret_name(name)}
        return Command(
            argv=(engine.python, "-m", _module(rendering, engine), *rendering.argv),
            env={**base, **rendering.env, **secrets, **env},
            secrets=rendering.secrets | secrets.keys() | named,
            path=(str(Path(engine.python).parent),),  # torch and flashinfer call ninja by its name
        )


def _read_pinned(spec: EngineSpec, python: str, *, cpu: bool) -> EngineFacts:
    """The engine that the user named. Raises ConfigError when it is broken, of another version or device."""
    path = Path(python).expanduser().absolute()
    inside = [path / name for name in _PYTHONS if (path / name).is_file()]
    engine = read_engine(inside[0] if inside else path)
    if not is_wanted(engine.version, parse_wanted_version(spec.version)):
        message = f"this engine is vLLM {engine.version}, not {spec.version}"
        raise ConfigError(Problem(message, key="engine.python", value=python, remedy="change engine.version"))
    if (engine.device == "cpu") is not cpu:
        message = f"this vLLM is built for {engine.device}, the run is for {'cpu' if cpu else 'cuda'}"
        remedy = "hardware=cpu, or another engine" if engine.device == "cpu" else "another engine, or a GPU profile"
        raise ConfigError(Problem(message, key="engine.python", value=python, remedy=remedy))
    return engine


def _installed_engines(*, cpu: bool) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """The interpreters of the finished environments below the data directory, newest vLLM first, and what was put in.

    Whether nothing has gone since is looked at for the one that is taken only, because it costs some milliseconds.
    """
    found: list[tuple[Version, Path, tuple[str, ...]]] = []
    for file in engines_dir().glob("*/engine.json"):
        try:
            record = json.loads(file.read_bytes())
            if (record["device"] == "cpu") is cpu:
                requirements = tuple(record.get("requirements", ()))
                found.append((Version(record["version"]), Path(record["python"]), requirements))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, InvalidVersion):
            continue  # not finished, or not ours
    yield from ((python, requirements) for _, python, requirements in sorted(found, reverse=True))


def _find_broken(spec: RunSpec, *, cpu: bool) -> Engine | None:
    """The newest environment that would serve the run if nothing of it had gone."""
    wanted = parse_wanted_version(spec.engine.version)
    broken = (engine for engine in read_engines() if engine.state == "broken" and engine.version is not None)
    meant = [one for one in broken if (one.device == "cpu") is cpu and is_wanted(str(one.version), wanted)]
    return max(meant, key=lambda one: Version(str(one.version)), default=None)


def _other_engines() -> Iterator[Path]:
    """The package `vllm` beside nexus_orch itself, then the environment of the command `vllm`."""
    beside = importlib.util.find_spec("vllm")
    if beside is not None and beside.origin is not None:
        yield Path(sys.executable)
    command = shutil.which("vllm")
    if command is not None:
        folder = Path(command).resolve().parent
        yield from (path for name in _PYTHONS if (path := folder / Path(name).name).is_file())


def _module(rendering: Rendering, engine: EngineFacts) -> str:
    """What starts the server: the module of the `vllm` command, or the API server of releases before it."""
    if rendering.argv[:1] != ("serve",):
        return "vllm.entrypoints.openai.api_server"
    is_old = engine.root is not None and not (Path(engine.root) / "entrypoints" / "cli" / "main.py").is_file()
    return "vllm.scripts" if is_old else "vllm.entrypoints.cli.main"


@hookimpl
def nexus_engines() -> Sequence[EngineProvider]:
    return [LocalEngine()]
