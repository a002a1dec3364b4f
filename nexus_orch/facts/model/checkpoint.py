"""The weight files of a model folder: which of them the engine will load, and how large they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from nexus_orch.errors import ConfigError, Problem
from nexus_orch.facts.model.gguf_header import read_gguf_header
from nexus_orch.facts.model.json_file import read_json_object
from nexus_orch.facts.model.page_cache import estimate_cached_bytes
from nexus_orch.facts.model.safetensors_header import read_safetensors_header
from nexus_orch.facts.model.storage import read_storage
from nexus_orch.types import CheckpointFacts, TensorHeader

SAFETENSORS_INDEX = "model.safetensors.index.json"
BIN_INDEX = "pytorch_model.bin.index.json"

_NOT_WEIGHTS = ("adapter_", "optimizer", "scheduler", "training_args", "tokenizer", "rng_state")
"""How files begin that lie beside a model's weights but are none: adapters and what trainers save."""
_SECOND_COPY = "consolidated"
"""How Mistral names a second copy of the weights, in its own format."""


def read_checkpoint(folder: Path) -> CheckpointFacts | None:
    """The weights in this folder, None when there are none.

    safetensors are preferred, then *.bin, then *.gguf, as vLLM's default loader does. Only the headers of safetensors
    and GGUF files are read, so that their size does not matter. Raises ConfigError with every file that is missing,
    damaged or unreadable.
    """
    safetensors = _weight_files(folder, ".safetensors", SAFETENSORS_INDEX)
    if safetensors:
        return _on_storage(_read_safetensors(safetensors), safetensors)
    files = _weight_files(folder, ".bin", BIN_INDEX)
    if files:
        return _on_storage(CheckpointFacts("bin", tuple(map(str, files)), total_bytes=_sum_sizes(files)), files)
    files = _weight_files(folder, ".gguf", None)
    if files:
        return read_gguf_checkpoint(files)
    return None


def read_gguf_checkpoint(files: Sequence[Path]) -> CheckpointFacts:
    """The weights of these GGUF files, by their tensors. Raises ConfigError with every file that is damaged."""
    total = 0
    problems: list[Problem] = []
    for file in files:
        try:
            total += read_gguf_header(file).total_bytes
        except ConfigError as error:
            problems.extend(error.problems)
    if problems:
        raise ConfigError(*problems)
    return _on_storage(CheckpointFacts("gguf", tuple(map(str, files)), total_bytes=total), files)


def _on_storage(checkpoint: CheckpointFacts, files: Sequence[Path]) -> CheckpointFacts:
    """The checkpoint with what there is to know about reading it."""
    return replace(
        checkpoint,
        file_bytes=tuple(file.stat().st_size for file in files),
        cached_bytes=estimate_cached_bytes(files),
        storage=read_storage(files[0]),
    )


def _read_safetensors(files: Sequence[Path]) -> CheckpointFacts:
    tensors: list[TensorHeader] = []
    problems: list[Problem] = []
    for file in files:
        try:
            tensors.extend(read_safetensors_header(file))
        except ConfigError as error:
            problems.extend(error.problems)
    if problems:
        raise ConfigError(*problems)
    return CheckpointFacts(
        format="safetensors",
        files=tuple(map(str, files)),
        total_bytes=sum(tensor.bytes for tensor in tensors),
        tensors=tuple(tensors),
    )


def _weight_files(folder: Path, suffix: str, index_name: str | None) -> list[Path]:
    """The files that the index names, else all with this suffix that are weights; in the order of their names."""
    if index_name is not None and (folder / index_name).is_file():
        return _read_index(folder / index_name)
    found = sorted(file for file in folder.glob(f"*{suffix}") if file.is_file())
    weights = [file for file in found if not file.name.startswith(_NOT_WEIGHTS)]
    return [file for file in weights if not file.name.startswith(_SECOND_COPY)] or weights


def _read_index(index: Path) -> list[Path]:
    """The shards of an index file, all of which exist."""
    weight_map = read_json_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ConfigError(Problem(f'{index} has no "weight_map"', remedy="download this file again"))
    names = sorted({str(name) for name in weight_map.values()})
    strange = [name for name in names if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts]
    if strange:
        raise ConfigError(Problem(f"{index} names files outside its folder: {strange[0]}", remedy="mend this file"))
    files = [index.parent / name for name in names]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        shown = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        raise ConfigError(
            Problem(
                f"{len(missing)} of {len(files)} weight files that {index.name} names are missing: {shown}",
                remedy="finish the download of the model",
                cause="weights_missing",
            )
        )
    return files


def _sum_sizes(files: Sequence[Path]) -> int:
    return sum(file.stat().st_size for file in files)
