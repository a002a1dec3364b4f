"""The engine environments that nexus_orch made: which there are, in what state, and how to remove one.

An environment is the folder `<engines>/<name>/`. It is ready when it holds `engine.json`, which is written last and at
once: {"name", "version", "device", "python", "created", "requirements", "size_bytes"}. Before that its journal
`install.jsonl` says how far it came.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

import psutil
from packaging.version import Version

from nexus_orch import paths
from nexus_orch.errors import ConfigError, Problem
from nexus_orch.install.engines.environment import find_damage
from nexus_orch.install.work.failures import tell_os_errors
from nexus_orch.install.work.journal import Journal, read_json
from nexus_orch.install.work.lock import hold_lock
from nexus_orch.install.work.steps import StepsState, read_state
from nexus_orch.suggest import suggest_or_list

ENGINE_FILE = "engine.json"
JOURNAL_FILE = "install.jsonl"


@dataclass(frozen=True)
class Engine:
    """One environment. `python` is the interpreter inside it; version, device and size are known once it is ready."""

    name: str
    path: Path
    state: Literal["ready", "unfinished", "broken"]
    steps: StepsState
    version: str | None = None
    device: str | None = None
    python: Path | None = None
    created: str | None = None
    size_bytes: int | None = None
    requirements: tuple[str, ...] = ()
    damage: str | None = None
    """What a broken one lacks, in words."""

    @property
    def state_text(self) -> str:
        """The state in words, as a user reads it."""
        if self.state == "unfinished":
            step = f"{len(self.steps.finished) + 1} of {len(self.steps.names)} ({self.steps.next_name})"
            return f"unfinished at step {step}" if self.steps.next_name else "unfinished"
        return f"broken: {self.damage}" if self.state == "broken" else "ready"


def read_engines() -> tuple[Engine, ...]:
    """All environments under the engines folder, by name. Other folders there are passed over."""
    folder = paths.engines_dir()
    if not folder.is_dir():
        return ()
    engines = (read_engine_folder(entry) for entry in sorted(folder.iterdir()) if not entry.name.startswith("."))
    return tuple(engine for engine in engines if engine is not None)


def read_engine_folder(folder: Path) -> Engine | None:
    """The environment in a folder; None when nexus_orch did not make it."""
    journal = Journal(folder / JOURNAL_FILE)
    content = read_json(folder / ENGINE_FILE)
    if content is None and not journal.path.is_file():
        return None
    steps = read_state(journal)
    if content is None:
        return Engine(folder.name, folder, "unfinished", steps)
    return _make_ready_engine(folder, content, steps)


def _make_ready_engine(folder: Path, content: dict[str, Any], steps: StepsState) -> Engine:
    python = Path(str(content.get("python", "")))
    requirements = tuple(content.get("requirements", ()))
    damage = find_damage(python, requirements)
    return Engine(
        name=folder.name,
        path=folder,
        state="ready" if damage is None else "broken",
        steps=steps,
        version=content.get("version"),
        device=content.get("device"),
        python=python,
        created=content.get("created"),
        size_bytes=content.get("size_bytes"),
        requirements=requirements,
        damage=damage,
    )


def choose_engine(wanted: str, engines: Sequence[Engine]) -> Engine:
    """The environment that is meant by a name ("cpu-0.32.0"), a version ("0.32.0") or a device ("cpu", its newest).

    Raises ConfigError with the nearest name when there is none.
    """
    for engine in engines:
        if engine.name == wanted:
            return engine
    found = choose_newest([engine for engine in engines if wanted in (engine.version, engine.device)])
    if found is not None:
        return found
    raise ConfigError(_make_unknown(wanted, [engine.name for engine in engines]))


def _make_unknown(wanted: str, names: Sequence[str]) -> Problem:
    remedy = suggest_or_list(wanted, names) if names else "no engine is installed yet: nexus engine install cpu"
    return Problem(f"unknown engine '{wanted}'", remedy=remedy)


def choose_newest(engines: Sequence[Engine]) -> Engine | None:
    """The ready environment with the newest vLLM, or None."""
    ready = [engine for engine in engines if engine.state == "ready" and engine.version]
    return max(ready, key=lambda engine: Version(str(engine.version)), default=None)


def engine_lock(name: str) -> Path:
    """The lock file of an environment. It lies beside the folder, so that the folder can be removed under it."""
    return paths.engines_dir() / f".{name}.lock"


def remove_engine(name: str) -> int:
    """Remove an environment, ready or not, and return its size in bytes as far as it is known.

    Only the exact name will do. Raises ConfigError when it is unknown, was not made by nexus_orch, is being installed
    or is in use.
    """
    engines = {engine.name: engine for engine in read_engines()}
    engine = engines.get(name)
    if engine is None and name in _folder_names():
        remedy = "remove it by hand if you do not need it"
        folder = paths.engines_dir() / name
        raise ConfigError(Problem("this folder was not made by nexus_orch", "folder", folder, remedy=remedy))
    if engine is None:
        raise ConfigError(_make_unknown(name, list(engines)))
    with (
        tell_os_errors(f"remove {name}", engine.path),
        hold_lock(engine_lock(engine.name), lambda holder: _refuse_busy(engine.name, holder)),
    ):
        users = find_users(engine.path)
        if users:
            remedy = f"stop process {', '.join(map(str, users))} first (nexus ps, nexus stop)"
            raise ConfigError(Problem("this engine is in use", "engine", engine.name, remedy=remedy))
        discard_folder(engine.path)
    return engine.size_bytes or 0


def discard_folder(folder: Path) -> None:
    """Remove a folder so that it is never seen half removed: it is renamed first."""
    folder.rename(folder.with_name(f".{folder.name}.removed.{os.getpid()}"))
    sweep_discarded(folder)


def sweep_discarded(folder: Path) -> None:
    """Remove what is left of this folder's former selves, also when the call that discarded them was killed."""
    for doomed in folder.parent.glob(f".{folder.name}.removed.*"):
        shutil.rmtree(doomed, ignore_errors=True)


def find_users(folder: Path) -> tuple[int, ...]:
    """The processes that were started with a program below the folder."""
    prefix = str(folder) + os.sep
    users: list[int] = []
    for process in psutil.process_iter(["pid", "cmdline"]):
        command = process.info["cmdline"] or []
        if any(part.startswith(prefix) for part in command[:2]):
            users.append(int(process.info["pid"]))
    return tuple(sorted(users))


def _folder_names() -> set[str]:
    folder = paths.engines_dir()
    return {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()


def _refuse_busy(name: str, holder: str) -> NoReturn:
    remedy = f"wait for {holder}, or stop it first"
    raise ConfigError(Problem("this engine is being installed", "engine", name, remedy=remedy))
