"""The models that nexus_orch brings: planned before they are there, fetched when a run needs them."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from nexus_orch.install.models.recipe import is_fetched, known_models, make_model_recipe, model_folder
from nexus_orch.types import ModelFacts, ModelSpec


def is_awaited(name: str, path: str | None) -> bool:
    """Whether a model without a path of its own is one that nexus_orch fetches, and has not fetched yet."""
    return path is None and name in known_models() and not is_fetched(name)


def with_awaited_folder(model: ModelFacts) -> ModelFacts:
    """The model with the folder in which it will lie once it was fetched; every other model as it is."""
    if not is_awaited(model.name, model.path):
        return model
    note = f"{model.name} is not here yet: nexus-run fetches it first (or: nexus model fetch {model.name})"
    return replace(model, path=str(model_folder(model.name)), notes=(*model.notes, note))


def fetch_awaited(spec: ModelSpec, stream: TextIO, *, python: str | None = None) -> bool:
    """Fetch the run's model if it is one of ours and missing, showing progress on `stream`; True when it was fetched.

    `python` is the interpreter of the engine that the user named; None takes the newest installed engine. Does nothing
    without an engine, which converts the model: the run is refused for want of one then. Raises
    InstallError when a step fails; what was finished stays.
    """
    if not is_awaited(spec.name, spec.path):
        return False
    # A plan asks the functions above and must not wait for what only a fetch needs.
    from rich.console import Console  # noqa: PLC0415

    from nexus_orch.install.engines.installed import choose_newest, read_engines  # noqa: PLC0415
    from nexus_orch.install.models.install import fetch_model  # noqa: PLC0415
    from nexus_orch.install.work.progress import show_progress  # noqa: PLC0415
    from nexus_orch.install.work.workshop import choose_indexes  # noqa: PLC0415

    if python is None and choose_newest(read_engines()) is None:
        return False
    recipe = make_model_recipe(spec.name)
    with show_progress(Console(file=stream)) as reporter:
        reporter.note(f"fetching {recipe.title} once ({recipe.download_mib} MiB, {recipe.license})")
        converter = None if python is None else Path(python).expanduser()
        fetch_model(recipe, python=converter, indexes=choose_indexes((), os.environ), reporter=reporter)
    return True
