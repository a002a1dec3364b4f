"""One folder for each run: which files it has, how it gets its name, and what is written once."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from nexus_orch.errors import ConfigError, InterruptedByEnvironment, Problem
from nexus_orch.files import PRIVATE_FOLDER, tell_write_errors, write_atomic
from nexus_orch.record.codec import CodecError, decode, encode
from nexus_orch.types import Command, Plan, RunSpec, is_secret_name

Read = TypeVar("Read")

_PART_LENGTH = 28
_NOT_IN_A_NAME = re.compile(r"[^a-z0-9._]+")


@dataclass(frozen=True)
class RunFolder:
    """The files of one run. The folder's name is the run's id."""

    path: Path

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def spec(self) -> Path:
        """The composed configuration."""
        return self.path / "spec.yaml"

    @property
    def plan(self) -> Path:
        """The plan of the latest attempt; the journal has them all."""
        return self.path / "plan.json"

    @property
    def command(self) -> Path:
        """The command of the latest attempt, secrets redacted."""
        return self.path / "command.json"

    @property
    def log(self) -> Path:
        """The engine's output; an earlier piece lies beside it as engine.log.1."""
        return self.path / "engine.log"

    @property
    def journal(self) -> Path:
        return self.path / "journal.jsonl"

    @property
    def latest(self) -> Path:
        """The newest samples and the peaks, replaced at most once a second."""
        return self.path / "latest.json"

    @property
    def stacks(self) -> Path:
        """What the processes of an engine that hung were doing."""
        return self.path / "stacks.txt"

    @property
    def stop_request(self) -> Path:
        """Where another process asks the supervisor to stop."""
        return self.path / "stop.request"


def make_run_id(started: float, model: str, strategy: str) -> str:
    """A sortable and readable id: UTC date and time, model, strategy ("20261123-141530-qwen32b-hybrid")."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(started))
    return "-".join([stamp, *filter(None, map(_make_part, (model, strategy)))])


def create_run_folder(runs_dir: Path, spec: RunSpec, started: float) -> RunFolder:
    """Make a folder that no other run has, with spec.yaml in it. Raises InterruptedByEnvironment, leaving none."""
    model = spec.model.name or (spec.model.path or "").rstrip("/\\").replace("\\", "/").rpartition("/")[2]
    base = make_run_id(started, model, spec.memory.strategy or "")
    with tell_write_errors(runs_dir):
        folder = RunFolder(_make_new_folder(runs_dir, base))
    try:
        write_spec(folder, spec)
    except InterruptedByEnvironment:
        remove_run_folder(folder)
        raise
    return folder


def _make_new_folder(runs_dir: Path, base: str) -> Path:
    runs_dir.mkdir(parents=True, exist_ok=True)
    for number in count(1):
        path = runs_dir / (base if number == 1 else f"{base}-{number}")
        with suppress(FileExistsError):
            path.mkdir(mode=PRIVATE_FOLDER)
            return path
    raise AssertionError("there is always a free number")


def remove_run_folder(folder: RunFolder) -> None:
    """Take away the folder of a run that never began: without a record it would look like one that was lost."""
    shutil.rmtree(folder.path, ignore_errors=True)


def write_spec(folder: RunFolder, spec: RunSpec, secrets: frozenset[str] = frozenset()) -> None:
    """Write spec.yaml; values of `engine.env` are redacted when their name is in `secrets` or sounds like one."""
    import yaml  # noqa: PLC0415 - only a run writes it

    named = {name for name in spec.engine.env if is_secret_name(name)}
    shown = Command((), spec.engine.env, secrets=secrets | named).shown_env
    data = encode(replace(spec, engine=replace(spec.engine, env=shown)))
    _write(folder.spec, yaml.safe_dump(data, sort_keys=False, allow_unicode=True))


def read_spec(folder: RunFolder) -> RunSpec:
    """Read spec.yaml. Raises ConfigError when it is missing or not what nexus_orch wrote."""
    return _read(folder.spec, _parse_spec)


def write_plan(folder: RunFolder, plan: Plan) -> None:
    """Write plan.json: the plan without its spec, which is spec.yaml."""
    _write(folder.plan, json.dumps(encode_plan(plan), indent=1) + "\n")


def read_plan(folder: RunFolder) -> Plan:
    """Read plan.json and spec.yaml. Raises ConfigError when one is missing or not what nexus_orch wrote."""
    spec = read_spec(folder)
    return _read(folder.plan, lambda text: decode_plan(json.loads(text), spec))


def encode_plan(plan: Plan) -> dict[str, Any]:
    """A plan as JSON, without its spec."""
    encoded: dict[str, Any] = encode(plan)
    del encoded["spec"]
    return encoded


def decode_plan(data: dict[str, Any], spec: RunSpec) -> Plan:
    """The plan that `encode_plan` wrote. Raises CodecError."""
    return decode(Plan, {**data, "spec": encode(spec)})


def write_command(folder: RunFolder, command: Command) -> None:
    """Write command.json; secrets are redacted."""
    shown = asdict(replace(command, env=command.shown_env, secrets=frozenset()))
    shown["secrets"] = sorted(command.secrets)
    _write(folder.command, json.dumps(shown, indent=1) + "\n")


def read_command(folder: RunFolder) -> Command:
    """Read command.json. Raises ConfigError when it is missing or not what nexus_orch wrote."""
    return _read(folder.command, lambda text: decode(Command, json.loads(text)))


def _parse_spec(text: str) -> RunSpec:
    import yaml  # noqa: PLC0415

    try:
        return decode(RunSpec, yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise CodecError(str(error)) from None


def _make_part(text: str) -> str:
    return _NOT_IN_A_NAME.sub("-", text.lower()).strip("-._")[:_PART_LENGTH].rstrip("-._")


def _write(path: Path, text: str) -> None:
    with tell_write_errors(path):
        write_atomic(path, text)


def _read(path: Path, parse: Callable[[str], Read]) -> Read:
    try:
        return parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(Problem(f"cannot read {path.name}: {error.strerror}", key=str(path))) from None
    except ValueError as error:  # not UTF-8, not JSON, or a CodecError
        raise ConfigError(Problem(f"{path.name} is damaged: {error}", key=str(path))) from None
