"""The model of a run: its architecture and its weights, from a folder, the Hugging Face cache or the profile."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from nexus_orch.errors import ConfigError, Problem
from nexus_orch.facts.model.checkpoint import read_checkpoint
from nexus_orch.facts.model.gguf_model import is_gguf_model, read_gguf_model
from nexus_orch.facts.model.hub_cache import find_snapshot
from nexus_orch.facts.model.json_file import read_json_object
from nexus_orch.paths import models_dir
from nexus_orch.suggest import find_near
from nexus_orch.types import CheckpointFacts, ModelFacts, ModelSpec

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "tekken.json", "tokenizer_config.json", "*.tiktoken")
_CHAT_TEMPLATES = ("chat_template.jinja", "chat_template.json")
_MODELOPT_FILE = "hf_quant_config.json"
"""Where ModelOpt before 0.31 told the quantization (vllm/transformers_utils/config.py)."""
_SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "vocab_size")


def read_model(spec: ModelSpec, origins: Mapping[str, str]) -> ModelFacts:
    """What is true about the model that this spec means. Nothing is downloaded.

    `model.path` is a folder or a hub id; a hub id is looked for in the Hugging Face cache and may otherwise rest on
    the config inlined in the profile. Without a path, the folder that nexus_orch fetched for this name is used
    (`<home>/models/NAME`), else the inlined config. Raises ConfigError with all that is wrong with the folder.
    """
    origin = origins.get("model.path")
    try:
        return _read(spec)
    except ConfigError as error:
        problems = [replace(problem, key="model.path", value=spec.path, origin=origin) for problem in error.problems]
        raise ConfigError(*problems) from error
    except OSError as error:
        reason = f"the model's folder cannot be read: {error.strerror or error}"
        raise ConfigError(Problem(reason, key="model.path", value=spec.path, origin=origin)) from error


def _read(spec: ModelSpec) -> ModelFacts:
    if not spec.path:
        fetched = _find_fetched(spec.name)
        return _from_profile(spec, _no_path(spec)) if fetched is None else _read_folder(fetched, spec)
    folder = _expand(spec.path)
    if is_gguf_model(folder):
        return read_gguf_model(folder.absolute(), spec)
    if folder.is_dir():
        return _read_folder(folder.absolute(), spec)
    if not _HUB_ID.fullmatch(spec.path):
        return _from_missing_folder(folder, spec)
    snapshot = find_snapshot(spec.path)
    return _from_profile(spec, _not_cached(spec.path)) if snapshot is None else _read_snapshot(snapshot, spec)


def is_elsewhere(path: str) -> bool:
    """Whether this is a hub id of which nothing lies here."""
    return not _expand(path).exists() and _HUB_ID.fullmatch(path) is not None and find_snapshot(path) is None


def _expand(path: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError:  # "~name" of a user that does not exist
        return Path(path)


def _find_fetched(name: str) -> Path | None:
    if not name or Path(name).name != name:
        return None
    folder = models_dir() / name
    return folder if (folder / "config.json").is_file() else None


def _read_folder(folder: Path, spec: ModelSpec) -> ModelFacts:
    """A model's folder. Problems of its config and of its weights are told together; one that only lacks weights can
    be planned, not served."""
    problems: list[Problem] = []
    config: dict[str, Any] = {}
    checkpoint: CheckpointFacts | None = None
    try:
        config = _read_config(folder)
    except ConfigError as error:
        problems.extend(error.problems)
    lacking: list[Problem] = []
    try:
        checkpoint = read_checkpoint(folder)
        if checkpoint is None:
            lacking.append(_no_weights(folder))
    except ConfigError as error:
        lacking.extend(error.problems)
    if problems or any(problem.cause != "weights_missing" for problem in lacking):
        raise ConfigError(*problems, *lacking)
    return ModelFacts(
        name=spec.name or folder.name,
        path=_engine_path(folder, checkpoint),
        config=config,
        config_source=str(folder / "config.json"),
        checkpoint=checkpoint,
        is_local=True,
        has_chat_template=_has_chat_template(folder),
        notes=(
            *_compare_configs(spec.config, config, folder),
            *(f"planned from config.json alone: {problem.message}" for problem in lacking),
        ),
        missing_weights=tuple(replace(problem, key="model.path", value=spec.path) for problem in lacking),
    )


def _engine_path(folder: Path, checkpoint: CheckpointFacts | None) -> str:
    """What vLLM takes for a model: its folder, and of a GGUF model the file."""
    is_file = checkpoint is not None and checkpoint.format == "gguf" and len(checkpoint.files) == 1
    return checkpoint.files[0] if checkpoint is not None and is_file else str(folder)


def _read_snapshot(snapshot: Path, spec: ModelSpec) -> ModelFacts:
    """A model in the Hugging Face cache, which may be there in part: then vLLM fetches the rest by the hub id."""
    config = _read_config(snapshot)
    try:
        checkpoint = read_checkpoint(snapshot)
    except ConfigError as error:
        if any(problem.cause != "weights_missing" for problem in error.problems):
            raise
        checkpoint = None
    is_whole = checkpoint is not None and _has_any(snapshot, _TOKENIZERS)
    return ModelFacts(
        name=spec.name or str(spec.path),
        path=str(snapshot) if is_whole else spec.path,
        config=config,
        config_source=str(snapshot / "config.json"),
        checkpoint=checkpoint,
        is_local=is_whole,
        has_chat_template=_has_chat_template(snapshot),
        notes=_compare_configs(spec.config, config, snapshot),
    )


def _from_profile(spec: ModelSpec, problem: Problem) -> ModelFacts:
    """The model as its profile tells it; the problem when the profile tells nothing."""
    if not spec.config:
        raise ConfigError(problem)
    path = spec.path or None
    return ModelFacts(name=spec.name or path or "", path=path, config=spec.config, config_source="profile")


def _from_missing_folder(folder: Path, spec: ModelSpec) -> ModelFacts:
    """The profile's own config where the folder that it names is not here: that can be planned, not served."""
    problem = _no_folder(folder)
    if folder.exists():
        raise ConfigError(problem)
    found = _from_profile(spec, problem)
    return replace(
        found,
        notes=(f"planned from the profile's config alone: {problem.message}",),
        missing_weights=(replace(problem, key="model.path", value=spec.path),),
    )


def _read_config(folder: Path) -> dict[str, Any]:
    file = folder / "config.json"
    if not file.is_file():
        raise ConfigError(
            Problem(
                f"{folder} has no config.json: it is not a model's folder",
                remedy="name the folder that holds config.json and the weights, as it lies on the hub",
                cause="model_not_found",
            )
        )
    config = read_json_object(file)
    beside = folder / _MODELOPT_FILE
    if config.get("quantization_config") is None and beside.is_file():
        config["quantization_config"] = {"quant_method": "modelopt", **read_json_object(beside)}
    return config


def _has_chat_template(folder: Path) -> bool | None:
    """Whether the model brings one; None when the folder holds no tokenizer that could tell."""
    if _has_any(folder, _CHAT_TEMPLATES):
        return True
    if not _has_any(folder, _TOKENIZERS):
        return None
    settings = folder / "tokenizer_config.json"
    return settings.is_file() and bool(read_json_object(settings).get("chat_template"))


def _has_any(folder: Path, patterns: Iterable[str]) -> bool:
    return any(True for pattern in patterns for _ in folder.glob(pattern))


def _compare_configs(inlined: Mapping[str, Any] | None, config: Mapping[str, Any], folder: Path) -> tuple[str, ...]:
    """A note when the profile's config, which a folder's own one always beats, tells other sizes."""
    if not inlined:
        return ()
    both = [key for key in _SIZES if key in inlined and key in config]
    other = [f"{key} {config[key]}, not {inlined[key]}" for key in both if config[key] != inlined[key]]
    return (f"{folder / 'config.json'} counts, not the profile's config: {'; '.join(other)}",) if other else ()


def _no_path(spec: ModelSpec) -> Problem:
    return Problem(
        f"the model{f' {spec.name!r}' if spec.name else ''} has neither a folder nor an inlined config",
        remedy="name the model's folder or hub id: model.path=DIR",
        cause="model_not_found",
    )


def _no_folder(folder: Path) -> Problem:
    what = "a file, not a folder" if folder.exists() else "not there"
    near = _find_near(folder)
    meant = f"did you mean {near}? Else name" if near else "name"
    remedy = f"{meant} the folder that holds config.json and the weights, or a hub id (Qwen/Qwen2.5-7B-Instruct)"
    return Problem(f"the model's folder {folder} is {what}", remedy=remedy, cause="model_not_found")


def _find_near(folder: Path) -> Path | None:
    """An existing folder beside the missing one with a similar name."""
    try:
        names = [entry.name for entry in folder.parent.iterdir() if entry.is_dir()]
    except OSError:
        return None
    near = find_near(folder.name, names)
    return folder.parent / near[0] if near else None


def _not_cached(hub_id: str) -> Problem:
    near = _find_near(Path(hub_id))
    first = f"did you mean {near}? Else" if near else "correct the path,"
    return Problem(
        f'"{hub_id}" is neither a folder here nor a model in the Hugging Face cache',
        remedy=f"{first} fetch the model first (hf download {hub_id}), or choose a model profile, which has its "
        "architecture inlined (`nexus-run --help` lists them)",
        cause="model_not_found",
    )


def _no_weights(folder: Path) -> Problem:
    return Problem(
        f"{folder} holds no weights (*.safetensors, *.bin or *.gguf)",
        remedy="finish the download of the model, or name the folder that holds its weights",
        cause="weights_missing",
    )
