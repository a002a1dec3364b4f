"""Install an engine environment: the steps of a recipe, done once each."""

from __future__ import annotations

import datetime
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nexus_orch import paths
from nexus_orch.errors import ConfigError, Problem
from nexus_orch.install.engines.environment import remove_torn_installs, write_alias_metadata
from nexus_orch.install.engines.installed import (
    ENGINE_FILE,
    Engine,
    discard_folder,
    engine_lock,
    read_engine_folder,
    sweep_discarded,
)
from nexus_orch.install.engines.python import Python, choose_base_python, venv_python
from nexus_orch.install.engines.recipe import CUDA_DISK_GIB, EngineRecipe
from nexus_orch.install.engines.wheel import choose_pinned_version, choose_requirements, read_wheel_metadata
from nexus_orch.install.work.failures import InstallError, judge_not_offered, parse_offered_versions, tell_os_errors
from nexus_orch.install.work.journal import write_json
from nexus_orch.install.work.lock import hold_lock
from nexus_orch.install.work.progress import Reporter, SilentReporter
from nexus_orch.install.work.steps import Results, Step, run_steps
from nexus_orch.install.work.workshop import TEMPORARY, Workshop, measure_tree
from nexus_orch.types import GIB

SHOWN_VERSIONS = 4
WHEELS = "wheels"
_CHECK = "import importlib.metadata, {module}; print(importlib.metadata.version({module!r}))"


def install_engine(
    recipe: EngineRecipe,
    *,
    python: str | None = None,
    indexes: tuple[str, ...] = (),
    force: bool = False,
    reporter: Reporter | None = None,
) -> Engine:
    """Make the environment of a recipe, or go on with an unfinished one, make a broken one anew, or return the ready.

    `python` is the interpreter to make it with (None: the one that runs nexus_orch), `indexes` are package indexes to
    ask besides pip's own, `force` starts from nothing. Raises ConfigError for an unsuitable Python or a folder that is
    not ours, InstallError when a step fails; what was finished stays.
    """
    told = SilentReporter() if reporter is None else reporter
    folder = paths.engines_dir() / recipe.name
    with (
        tell_os_errors(f"install {recipe.name}", folder),
        hold_lock(engine_lock(recipe.name), lambda holder: told.note(f"waiting for {holder}, which installs it")),
    ):
        sweep_discarded(folder)
        engine = _read_own_folder(folder)
        if engine is not None and engine.state == "ready" and not force:
            _tidy(folder)
            return engine
        workshop = Workshop(folder, told, indexes)
        installation = Installation(recipe, choose_base_python(python, recipe.requires_python), workshop)
        if engine is not None and (force or engine.state == "broken"):
            discard_folder(folder)  # the steps of a damaged one are done by its journal, and no longer in its folder
        (folder / ENGINE_FILE).unlink(missing_ok=True)
        workshop.check_disk(recipe.disk_bytes)
        try:
            installation.finish(run_steps(installation.steps(), workshop.journal, told))
        except ConfigError:
            discard_folder(folder)  # There is no such engine: nothing to go on with.
            raise
    installed = read_engine_folder(folder)
    assert installed is not None
    return installed


def _read_own_folder(folder: Path) -> Engine | None:
    engine = read_engine_folder(folder)
    if engine is None and folder.is_dir() and any(folder.iterdir()):
        remedy = "move it away, or choose another place with NEXUS_HOME=DIR"
        raise ConfigError(Problem("this folder was not made by nexus_orch", "folder", folder, remedy=remedy))
    return engine


def _tidy(folder: Path) -> None:
    """Remove what a ready environment does not need. Called for a ready one too: the call before may have been killed
    between saying so and tidying up."""
    for name in (WHEELS, TEMPORARY):
        shutil.rmtree(folder / name, ignore_errors=True)


@dataclass(frozen=True)
class Installation:
    """The steps of one recipe in one folder. Each is idempotent; see `steps.Step`."""

    recipe: EngineRecipe
    base: Python
    workshop: Workshop

    @property
    def environment(self) -> Path:
        return self.workshop.path / "venv"

    @property
    def python(self) -> Path:
        return venv_python(self.environment)

    @property
    def wheels(self) -> Path:
        return self.workshop.path / WHEELS

    @property
    def requirement(self) -> str:
        return f"{self.recipe.distribution}=={self.recipe.version}"

    def steps(self) -> list[Step]:
        recipe = self.recipe
        check = Step("check", f"import {recipe.module} in the new environment", self.check)
        venv = Step(
            "venv",
            f"make an environment with Python {self.base.version}",
            self.make_environment,
            inputs=(str(self.base.path), self.base.version),
            still_holds=self.python.exists,
        )
        if recipe.own_dependencies:
            title = f"install {self.requirement} with all that it asks for"
            return [venv, Step("engine", title, self.install_whole, (self.requirement,)), check]
        return [
            venv,
            Step("wheel", f"download {self.requirement}", self.download_wheel, (self.requirement,), self.has_wheel),
            Step("torch", "install torch", self.install_torch, (recipe.torch or "",)),
            Step("requirements", f"install what {recipe.module} needs", self.install_requirements, self.listed()),
            Step("engine", f"install {self.requirement}", self.install_wheel),
            Step("metadata", f"let {recipe.module} find its own version", self.write_metadata),
            check,
        ]

    def listed(self) -> tuple[str, ...]:
        return self.recipe.requirements or ()

    def make_environment(self, _: Results) -> dict[str, Any]:
        argv = [str(self.base.path), "-I", "-m", "venv", "--clear", str(self.environment)]
        self.workshop.run("make an environment", argv)
        return {"python": self.base.version}

    def download_wheel(self, _: Results) -> dict[str, Any]:
        shutil.rmtree(self.wheels, ignore_errors=True)
        arguments = ("download", "--no-deps", "--only-binary", ":all:", "--dest", str(self.wheels), self.requirement)
        self._get(self.workshop.pip(self.python, *arguments))
        return {"file": next(self.wheels.glob("*.whl")).name}

    def has_wheel(self) -> bool:
        return any(self.wheels.glob("*.whl"))

    def install_torch(self, results: Results) -> dict[str, Any]:
        """The CPU build where an index has one, else the default build.

        `torch==X` alone would prefer "+cu130" to "+cpu" where an index has both: the local part sorts as text.
        """
        version = self.recipe.torch or self._pinned_torch(results)
        remove_torn_installs(self.environment)
        wanted = f"torch=={version}+cpu"
        result = self.workshop.attempt(self.workshop.pip(self.python, "install", wanted))
        if not judge_not_offered(result.returncode, result.lines):
            self.workshop.judge(f"install {wanted}", result)
            return {"requirement": wanted}
        self.workshop.reporter.note(
            f"no index here has the CPU build of torch {version}: taking its default build, which on Linux is several "
            "GB (an index with CPU builds can be named with --index)"
        )
        self.workshop.check_disk(int(CUDA_DISK_GIB * GIB))
        self._pip_install(f"install torch=={version}", f"torch=={version}")
        return {"requirement": f"torch=={version}"}

    def install_requirements(self, results: Results) -> dict[str, Any]:
        requirements = self.recipe.requirements
        if requirements is None:
            requirements = choose_requirements(read_wheel_metadata(self._wheel(results)), self.recipe.left_out)
        file = self.workshop.path / "requirements.txt"
        file.write_text("\n".join(requirements) + "\n", encoding="utf-8")
        # torch is named again so that no requirement replaces the build that was chosen.
        self._pip_install("install the requirements", "-r", str(file), results["torch"]["requirement"])
        return {"requirements": list(requirements)}

    def install_wheel(self, results: Results) -> dict[str, Any]:
        self._pip_install(f"install {self.requirement}", "--no-deps", str(self._wheel(results)))
        return {"requirement": self.requirement}

    def install_whole(self, _: Results) -> dict[str, Any]:
        remove_torn_installs(self.environment)
        self._get(self.workshop.pip(self.python, "install", "--prefer-binary", self.requirement))
        return {"requirement": self.requirement}

    def write_metadata(self, _: Results) -> dict[str, Any]:
        write_alias_metadata(self.environment, self.recipe.module, f"{self.recipe.version}+{self.recipe.device}")
        return {}

    def check(self, _: Results) -> dict[str, Any]:
        code = _CHECK.format(module=self.recipe.module)
        device = {"VLLM_TARGET_DEVICE": self.recipe.device}
        result = self.workshop.run(f"import {self.recipe.module}", [str(self.python), "-I", "-c", code], device)
        version = result.lines[-1].strip() if result.lines else ""
        if version.partition("+")[0] != self.recipe.version:
            message = f"{self.recipe.module} {version or '(no version)'} was installed instead of {self.recipe.version}"
            raise InstallError(Problem(message, "log", self.workshop.log, remedy="repeat the command with --force"))
        return {"version": version}

    def finish(self, results: Results) -> None:
        """Say that the environment is ready, then remove what it no longer needs."""
        found = [result.get("requirement") for result in results.values()]
        requirements = [*filter(None, found), *results.get("requirements", {}).get("requirements", ())]
        content = {
            "name": self.recipe.name,
            "version": self.recipe.version,
            "device": self.recipe.device,
            "python": str(self.python),
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "requirements": requirements,
            "size_bytes": measure_tree(self.environment),
        }
        write_json(self.workshop.path / ENGINE_FILE, content)
        _tidy(self.workshop.path)

    def _get(self, argv: list[str]) -> None:
        """Run the pip that asks an index for the engine itself. Raises ConfigError when there is no such release."""
        result = self.workshop.attempt(argv)
        offered = parse_offered_versions(self.requirement, result.lines)
        if offered:
            remedy = f"the newest ones offered are {', '.join(offered[-SHOWN_VERSIONS:])}"
            message = f"no index offers {self.requirement} for Python {self.base.version} on this platform"
            raise ConfigError(Problem(message, "--version", self.recipe.version, "command line", remedy))
        self.workshop.judge(f"get {self.requirement}", result)

    def _pip_install(self, what: str, *arguments: str) -> None:
        remove_torn_installs(self.environment)
        self.workshop.run(what, self.workshop.pip(self.python, "install", "--prefer-binary", *arguments))

    def _wheel(self, results: Results) -> Path:
        return self.wheels / str(results["wheel"]["file"])

    def _pinned_torch(self, results: Results) -> str:
        wheel = self._wheel(results)
        version = choose_pinned_version(read_wheel_metadata(wheel), "torch")
        if version is None:
            remedy = "install another --version"
            raise InstallError(Problem("the wheel does not say which torch it needs", "file", wheel, remedy=remedy))
        return version
