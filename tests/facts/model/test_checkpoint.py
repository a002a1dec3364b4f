"""Weight files of a folder: which of them count, and what is missing or damaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nexus_orch.errors import ConfigError
from nexus_orch.facts.model.checkpoint import read_checkpoint
from tests.facts.model.gguf_files import LLAMA, llama_tensors, make_gguf, tensor_bytes
from tests.facts.model.model_files import TENSORS, make_safetensors, write_shards


def write(folder: Path, **files: int) -> None:
    """Files of some sizes; "__" in a name stands for "."."""
    for name, size in files.items():
        (folder / name.replace("__", ".")).write_bytes(bytes(size))


def names(files: tuple[str, ...]) -> list[str]:
    return [Path(file).name for file in files]


def test_one_safetensors_file(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(make_safetensors(TENSORS))
    checkpoint = read_checkpoint(tmp_path)
    assert checkpoint is not None
    assert (checkpoint.format, checkpoint.total_bytes, len(checkpoint.tensors)) == ("safetensors", 512, 2)
    assert checkpoint.files == (str(tmp_path / "model.safetensors"),)


def test_the_index_names_the_files_that_count(tmp_path: Path) -> None:
    shards = {f"model-0000{i}-of-00003.safetensors": {f"layer.{i}": ("F16", (4, i))} for i in (3, 1, 2)}
    write_shards(tmp_path, shards)
    (tmp_path / "consolidated.safetensors").write_bytes(b"not looked at")
    checkpoint = read_checkpoint(tmp_path)
    assert checkpoint is not None
    assert names(checkpoint.files) == sorted(shards)
    assert [tensor.name for tensor in checkpoint.tensors] == ["layer.1", "layer.2", "layer.3"]
    assert checkpoint.total_bytes == 8 * (1 + 2 + 3)


def test_files_beside_the_weights_do_not_count(tmp_path: Path) -> None:
    for name in ("model.safetensors", "consolidated.safetensors"):
        (tmp_path / name).write_bytes(make_safetensors(TENSORS))
    (tmp_path / "adapter_model.safetensors").write_bytes(b"broken")
    checkpoint = read_checkpoint(tmp_path)
    assert checkpoint is not None
    assert names(checkpoint.files) == ["model.safetensors"]


def test_mistrals_own_format_counts_when_it_stands_alone(tmp_path: Path) -> None:
    (tmp_path / "consolidated.safetensors").write_bytes(make_safetensors(TENSORS))
    checkpoint = read_checkpoint(tmp_path)
    assert checkpoint is not None
    assert names(checkpoint.files) == ["consolidated.safetensors"]


def test_bin_files_count_by_their_size(tmp_path: Path) -> None:
    write(tmp_path, pytorch_model__bin=100, training_args__bin=7, optimizer__bin=50, model__gguf=9)
    checkpoint = read_checkpoint(tmp_path)
    assert checkpoint is not None
    assert (checkpoint.format, checkpoint.total_bytes, checkpoint.tensors) == ("bin", 100, ())


def test_gguf_files_count_by_their_tensors(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(make_gguf(LLAMA, llama_tensors()))
    checkpoint = read_checkpoint(tmp_path)
    assert checkpoint is not None
    assert (checkpoint.format, checkpoint.total_bytes) == ("gguf", tensor_bytes(llama_tensors()))


def test_every_damaged_gguf_file_is_told(tmp_path: Path) -> None:
    write(tmp_path, a__gguf=30, b__gguf=9)
    with pytest.raises(ConfigError) as caught:
        read_checkpoint(tmp_path)
    assert ["a.gguf" in problem.message or "b.gguf" in problem.message for problem in caught.value.problems] == [
        True
    ] * 2


def test_safetensors_come_before_bin(tmp_path: Path) -> None:
    write(tmp_path, pytorch_model__bin=100)
    (tmp_path / "model.safetensors").write_bytes(make_safetensors(TENSORS))
    checkpoint = read_checkpoint(tmp_path)
    assert checkpoint is not None
    assert checkpoint.format == "safetensors"


def test_a_folder_without_weights_has_none(tmp_path: Path) -> None:
    write(tmp_path, tokenizer__json=2, training_args__bin=5)
    (tmp_path / "folder.safetensors").mkdir()
    assert read_checkpoint(tmp_path) is None


def test_missing_shards_are_told_together(tmp_path: Path) -> None:
    shards = {f"model-{i}.safetensors": {f"layer.{i}": ("F16", (4,))} for i in range(6)}
    write_shards(tmp_path, shards)
    for i in range(1, 6):
        (tmp_path / f"model-{i}.safetensors").unlink()
    with pytest.raises(ConfigError) as caught:
        read_checkpoint(tmp_path)
    (problem,) = caught.value.problems
    assert problem.message.startswith("5 of 6 weight files that model.safetensors.index.json names are missing: ")
    assert problem.message.endswith("model-1.safetensors, model-2.safetensors, model-3.safetensors and 2 more")
    assert problem.cause == "weights_missing"


def test_every_damaged_shard_is_told(tmp_path: Path) -> None:
    write_shards(tmp_path, {f"model-{i}.safetensors": {f"layer.{i}": ("F16", (4,))} for i in range(3)})
    for i in (0, 2):
        (tmp_path / f"model-{i}.safetensors").write_bytes(b"short")
    with pytest.raises(ConfigError) as caught:
        read_checkpoint(tmp_path)
    assert [problem.message.split(" is ")[0] for problem in caught.value.problems] == [
        str(tmp_path / "model-0.safetensors"),
        str(tmp_path / "model-2.safetensors"),
    ]


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("{", "is not valid JSON"),
        ("[]", "holds a list, not a JSON object"),
        ("{}", 'has no "weight_map"'),
        ('{"weight_map": []}', 'has no "weight_map"'),
        ('{"weight_map": {"a": "../../etc/passwd"}}', "names files outside its folder: ../../etc/passwd"),
        ('{"weight_map": {"a": "/etc/passwd"}}', "names files outside its folder: /etc/passwd"),
        ('{"weight_map": {"a": 5}}', "1 of 1 weight files that"),
    ],
)
def test_a_broken_index(tmp_path: Path, index: str, message: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(index, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_checkpoint(tmp_path)
    assert message in caught.value.problems[0].message


def test_the_index_of_bin_files_is_followed_too(tmp_path: Path) -> None:
    write(tmp_path, model_1__bin=10, model_2__bin=20, other__bin=99)
    index = {"weight_map": {"a": "model_1.bin", "b": "model_2.bin"}}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index), encoding="utf-8")
    checkpoint = read_checkpoint(tmp_path)
    assert checkpoint is not None
    assert (checkpoint.format, checkpoint.total_bytes) == ("bin", 30)
