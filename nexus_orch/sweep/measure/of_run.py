"""What is measured, made of a run that is on or of an address."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from nexus_orch.errors import ConfigError, Problem
from nexus_orch.facts.engine.installed import find_package
from nexus_orch.launch.server.server import Server
from nexus_orch.record.run_folder import RunFolder, read_command, read_plan, read_spec
from nexus_orch.record.run_record import RunRecord
from nexus_orch.sweep.measure.types import BenchTarget
from nexus_orch.types import Command, EngineFacts, WorkloadSpec
from nexus_orch.types.command import REDACTED

_PROGRAMS = ("python", "vllm")
_SERVE = "serve"


def target_of_run(record: RunRecord) -> tuple[BenchTarget, WorkloadSpec]:
    """The server of a run that is on, and the workload that it was planned for. Raises ConfigError when its folder does
    not tell enough, or its key is not in the environment."""
    folder = RunFolder(record.path)
    if record.port is None or record.state not in ("ready", "degraded"):
        raise ConfigError(Problem(f"{record.id} does not serve ({record.state})", remedy="wait until it is ready"))
    spec, plan, command = read_spec(folder), read_plan(folder), read_command(folder)
    name = spec.serve.api_key_env
    if name is not None and name not in os.environ:
        remedy = f"export {name}, as when the run was started"
        raise ConfigError(
            Problem("the key of the server is not in the environment", "serve.api_key_env", name, None, remedy)
        )
    launcher = launcher_of(command.argv)
    return BenchTarget(
        server=Server(
            host=spec.serve.host,
            port=record.port,
            model=plan.settings.get("model.served_name"),
            api_key=None if name is None else os.environ[name],
        ),
        engine=_engine_of(launcher, plan.engine_version, is_cpu="VLLM_TARGET_DEVICE" in command.env),
        launcher=launcher,
        env=environment_of(command),
        tokenizer=tokenizer_of(command.argv),
        max_model_len=plan.max_model_len,
        log=folder.log,
        gpus=tuple(card.index for card in record.latest.gpus),
        family=lambda: record.family,
    ), spec.workload


def target_of_url(url: str, api_key: str | None) -> BenchTarget:
    """A server of which only the address is known. Raises ConfigError for what is none."""
    parts = urlsplit(url if "//" in url else f"http://{url}")
    with suppress(ValueError):
        if parts.scheme == "http" and parts.hostname is not None and parts.path in ("", "/", "/v1", "/v1/"):
            return BenchTarget(Server(parts.hostname, parts.port or 80, api_key=api_key), gpus=())
    raise ConfigError(Problem("this is no address of a server", "--url", url, "command line", "http://HOST:PORT"))


def launcher_of(argv: Sequence[str]) -> tuple[str, ...]:
    """What stands before `serve` in the command of an engine, where `bench serve` can stand, too.

    Empty for a server that is started as a module, and for a command that starts more than vLLM (a container).
    """
    if _SERVE not in argv or not Path(argv[0]).name.startswith(_PROGRAMS):
        return ()
    return tuple(argv[: list(argv).index(_SERVE)])


def tokenizer_of(argv: Sequence[str]) -> str | None:
    """The model, or the tokenizer of its own, that a command names."""
    words = list(argv)
    for before in ("--tokenizer", _SERVE):
        if before in words[:-1]:
            return words[words.index(before) + 1]
    return None


def environment_of(command: Command) -> dict[str, str]:
    """The variables of a command; those that a record hides are those of this process, if it has them."""
    return {name: value for name, value in command.env.items() if value != REDACTED}


def _engine_of(launcher: Sequence[str], version: str, *, is_cpu: bool) -> EngineFacts | None:
    if not launcher:
        return None
    root = None
    with suppress(ConfigError):  # no interpreter that answers: the options are assumed
        root = find_package(Path(launcher[0]))
    return EngineFacts(
        version=version,
        device="cpu" if is_cpu else "cuda",
        source="installed",
        python=launcher[0],
        root=None if root is None else str(root),
    )
