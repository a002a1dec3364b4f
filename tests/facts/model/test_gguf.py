"""GGUF files: header, architecture, and models that are nothing but such files."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from nexus_orch.errors import ConfigError
from nexus_orch.facts.model.gguf_config import make_gguf_config
from nexus_orch.facts.model.gguf_header import GgufArray, GgufHeader, GgufTensor, read_gguf_header
from nexus_orch.facts.model.model import read_model
from nexus_orch.types import ModelSpec
from tests.facts.model.gguf_files import LLAMA, llama_tensors, make_gguf, tensor_bytes

TENSORS = llama_tensors()


def _write(folder: Path, name: str = "small.gguf", content: bytes | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_bytes(make_gguf(LLAMA, TENSORS) if content is None else content)
    return file


def _header(metadata: dict[str, Any], *names: str) -> GgufHeader:
    return GgufHeader(metadata, tuple(GgufTensor(name, "F16", (4, 2), 16) for name in names))


@pytest.mark.parametrize("version", [2, 3])
def test_a_header_is_read_without_the_weights(version: int, tmp_path: Path) -> None:
    header = read_gguf_header(_write(tmp_path, content=make_gguf(LLAMA, TENSORS, version=version)))
    assert header.metadata["llama.embedding_length"] == 256
    assert header.metadata["llama.rope.freq_base"] == 10000.0
    assert header.metadata["tokenizer.ggml.tokens"] == GgufArray(4)
    assert len(header.tensors) == len(TENSORS)
    assert header.tensors[0] == GgufTensor("token_embd.weight", "Q4_K", (512, 256), 512 * 256 // 256 * 144)
    assert header.total_bytes == tensor_bytes(TENSORS)


def test_short_arrays_of_numbers_are_kept_and_alignment_counts(tmp_path: Path) -> None:
    metadata = {**LLAMA, "llama.attention.head_count_kv": [2, 2], "long": [1] * 5000, "general.alignment": 64}
    header = read_gguf_header(_write(tmp_path, content=make_gguf(metadata, TENSORS, alignment=64)))
    assert header.metadata["llama.attention.head_count_kv"] == (2, 2)
    assert header.metadata["long"] == GgufArray(5000)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "only 0 bytes"),
        (b"GGUF", "only 4 bytes"),
        (b"version https://git-lfs.github.com/spec/v1\n", "does not begin with GGUF"),
        (b"GGUF" + bytes(1000), "version 0"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 1), "claims 1152921504606846976 tensors"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + struct.pack("<Q", 1 << 62), "cut off or wrong"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q1sI", 1, b"k", 77), "no type 77"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q1sIIQ", 1, b"k", 9, 8, 1 << 62), "cut off or wrong"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q1sIIQ", 1, b"k", 9, 9, 3), "no array of type 9"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + struct.pack("<Q1sIQIQ", 1, b"t", 1, 32, 250, 0), "unknown type 250"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + struct.pack("<Q1sI", 1, b"t", 99), "99 dimensions"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + struct.pack("<Q1sIQIQ", 1, b"t", 1, 33, 2, 0), "its blocks"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q1sI", 1, b"\xff", 4), "cut off or wrong"),
        (make_gguf({"general.alignment": 0}, {}), "alignment is 0"),
        (make_gguf(LLAMA, TENSORS)[:-4096], "it is cut off"),
    ],
)
def test_a_damaged_file_is_named_with_the_reason(content: bytes, words: str, tmp_path: Path) -> None:
    file = _write(tmp_path, content=content)
    with pytest.raises(ConfigError) as caught:
        read_gguf_header(file)
    (problem,) = caught.value.problems
    assert str(file) in problem.message
    assert words in problem.message
    assert "\n" not in problem.message


@pytest.mark.parametrize("cut", range(0, 1000, 7))
def test_a_file_that_ends_anywhere_is_told(cut: int, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        read_gguf_header(_write(tmp_path, content=make_gguf(LLAMA, TENSORS)[:cut]))


def test_the_metadata_becomes_a_config(tmp_path: Path) -> None:
    config = make_gguf_config(read_gguf_header(_write(tmp_path)), "small.gguf")
    assert config == {
        "model_type": "llama",
        "hidden_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 512,
        "max_position_embeddings": 2048,
        "rotary_dim": 64,
        "vocab_size": 512,
        "tie_word_embeddings": False,
        "attention_bias": False,
    }


def test_what_the_tensors_and_the_architecture_tell() -> None:
    gemma = make_gguf_config(_header({"general.architecture": "gemma3", "gemma3.attention.sliding_window": 512}), "x")
    assert (gemma["model_type"], gemma["sliding_window_pattern"], gemma["tie_word_embeddings"]) == (
        "gemma3_text",
        6,
        True,
    )
    sparse = make_gguf_config(_header({"general.architecture": "llama", "llama.expert_count": 8}), "x")
    assert (sparse["model_type"], sparse["num_local_experts"]) == ("mixtral", 8)
    biased = make_gguf_config(_header({"general.architecture": "llama"}, "blk.0.attn_q.bias", "output.weight"), "x")
    assert (biased["attention_bias"], biased["tie_word_embeddings"]) == (True, False)
    yarn = {"type": "yarn", "factor": 4.0, "original_context_length": 32768}
    metadata = {"general.architecture": "qwen2", **{f"qwen2.rope.scaling.{key}": value for key, value in yarn.items()}}
    scaling = make_gguf_config(_header(metadata), "x")["rope_scaling"]
    assert scaling == {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}


def test_an_unknown_architecture_asks_for_a_config(tmp_path: Path) -> None:
    file = _write(tmp_path, content=make_gguf({**LLAMA, "general.architecture": "qwen4"}, TENSORS))
    with pytest.raises(ConfigError) as caught:
        read_model(ModelSpec(path=str(file)), {"model.path": "command line"})
    (problem,) = caught.value.problems
    assert (problem.key, problem.origin, problem.cause) == ("model.path", "command line", "unsupported_architecture")
    assert 'the architecture "qwen4"' in problem.message
    assert "config.json of the original model" in str(problem.remedy)


@pytest.mark.parametrize("names_file", [True, False])
def test_a_file_or_the_folder_around_it_is_a_model(names_file: bool, tmp_path: Path) -> None:
    file = _write(tmp_path)
    _write(tmp_path, "mmproj-small.gguf")
    model = read_model(ModelSpec(path=str(file if names_file else tmp_path)), {})
    assert (model.path, model.name, model.is_local) == (str(file), "small", True)
    assert model.checkpoint is not None
    assert (model.checkpoint.format, model.checkpoint.total_bytes) == ("gguf", tensor_bytes(TENSORS))
    assert "--tokenizer" in model.notes[0]


def test_a_config_beside_the_file_counts(tmp_path: Path) -> None:
    file = _write(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen4"}), encoding="utf-8")
    model = read_model(ModelSpec(path=str(file)), {})
    assert (model.config, model.path, model.notes) == ({"model_type": "qwen4"}, str(file), ())


def test_parts_of_one_model_belong_together(tmp_path: Path) -> None:
    names = list(TENSORS)
    halves = [{name: TENSORS[name] for name in names[:9]}, {name: TENSORS[name] for name in names[9:]}]
    first = _write(tmp_path, "a-00001-of-00002.gguf", make_gguf(LLAMA, halves[0]))
    _write(tmp_path, "a-00002-of-00002.gguf", make_gguf({}, halves[1]))
    model = read_model(ModelSpec(path=str(tmp_path)), {})
    assert model.checkpoint is not None
    assert (model.path, model.checkpoint.total_bytes) == (str(first), tensor_bytes(TENSORS))
    assert any("2 files: vLLM loads one" in note for note in model.notes)
    (tmp_path / "a-00002-of-00002.gguf").unlink()
    with pytest.raises(ConfigError, match=r"1 of 2 parts of a are missing: a-00002-of-00002.gguf"):
        read_model(ModelSpec(path=str(first)), {})


def test_several_models_in_a_folder_must_be_told_apart(tmp_path: Path) -> None:
    _write(tmp_path, "a-q4.gguf")
    _write(tmp_path, "a-q8.gguf")
    with pytest.raises(ConfigError, match="holds 2 GGUF models") as caught:
        read_model(ModelSpec(path=str(tmp_path)), {})
    assert f"model.path={tmp_path / 'a-q4.gguf'}" in str(caught.value.problems[0].remedy)
