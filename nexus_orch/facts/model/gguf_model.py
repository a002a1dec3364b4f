"""A GGUF model: a file, or a folder of such files without a config.json."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from nexus_orch.errors import ConfigError, Problem
from nexus_orch.facts.model.checkpoint import read_gguf_checkpoint
from nexus_orch.facts.model.gguf_config import make_gguf_config
from nexus_orch.facts.model.gguf_header import read_gguf_header
from nexus_orch.facts.model.json_file import read_json_object
from nexus_orch.types import ModelFacts, ModelSpec

_SHARD = re.compile(r"^(.*)-(\d{5})-of-(\d{5})\.gguf$")
_NOT_MODELS = ("mmproj", "imatrix", "ggml-vocab")
"""How files begin that lie beside a model: vision towers, statistics for quantizing, bare tokenizers."""

_TOKENIZER_NOTE = (
    "a GGUF file without a config.json: vLLM converts tokenizer and configuration out of it, which is slow and may "
    "fail; the original model's are safer: serve.extra_args=['--tokenizer','HUB_ID','--hf-config-path','HUB_ID']"
)
_SHARDS_NOTE = (
    "the model is split into {} files: vLLM loads one, so that they must be merged (llama-gguf-split --merge)"
)


def is_gguf_model(path: Path) -> bool:
    """Whether this is such a file or folder."""
    if path.is_dir():
        return not (path / "config.json").is_file() and _find_files(path) != [] and not _has_other_weights(path)
    return path.suffix == ".gguf" and path.is_file()


def read_gguf_model(path: Path, spec: ModelSpec) -> ModelFacts:
    """The model of that file or folder. Raises ConfigError with all that is wrong."""
    files = _choose_files(path)
    checkpoint = read_gguf_checkpoint(files)
    beside = files[0].with_name("config.json")
    notes = [_SHARDS_NOTE.format(len(files))] if len(files) > 1 else []
    if beside.is_file():
        config, source = read_json_object(beside), beside
    else:
        config, source = make_gguf_config(read_gguf_header(files[0]), str(files[0])), files[0]
        notes.append(_TOKENIZER_NOTE)
    return ModelFacts(
        name=spec.name or files[0].stem,
        path=str(files[0]),
        config=config,
        config_source=str(source),
        checkpoint=checkpoint,
        is_local=True,
        notes=tuple(notes),
    )


def _choose_files(path: Path) -> Sequence[Path]:
    """The file, with the other parts of its model; of a folder the only model in it."""
    if path.is_file():
        return _parts_of(path)
    models = sorted({_parts_of(file)[0] for file in _find_files(path)})
    if len(models) > 1:
        shown = ", ".join(model.name for model in models[:4]) + (" ..." if len(models) > 4 else "")
        raise ConfigError(
            Problem(
                f"{path} holds {len(models)} GGUF models: {shown}",
                remedy=f"name one of the files: model.path={models[0]}",
                cause="model_not_found",
            )
        )
    return _parts_of(models[0])


def _parts_of(file: Path) -> list[Path]:
    """All parts of a model that was split, in their order; else the file itself."""
    match = _SHARD.match(file.name)
    if match is None:
        return [file]
    count = int(match[3])
    parts = [file.with_name(f"{match[1]}-{number:05}-of-{match[3]}.gguf") for number in range(1, count + 1)]
    missing = [part.name for part in parts if not part.is_file()]
    if missing or not parts:
        raise ConfigError(
            Problem(
                f"{len(missing)} of {count} parts of {match[1]} are missing: {', '.join(missing[:3])}",
                remedy="finish the download of the model",
                cause="weights_missing",
            )
        )
    return parts


def _find_files(folder: Path) -> list[Path]:
    found = sorted(file for file in folder.glob("*.gguf") if file.is_file())
    return [file for file in found if not file.name.startswith(_NOT_MODELS)]


def _has_other_weights(folder: Path) -> bool:
    return any(True for pattern in ("*.safetensors", "*.bin") for _ in folder.glob(pattern))
