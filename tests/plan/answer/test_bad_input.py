"""Bad input as a user meets it: one screen of text, an exit code of 2 or 3, and what to do about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nexus_orch.cli import main
from tests.facts.model import gguf_files
from tests.facts.model.gguf_files import make_gguf
from tests.facts.model.model_files import TENSORS, write_model

pytestmark = pytest.mark.slow

SCREEN_LINES, SCREEN_COLUMNS = 50, 300
QWEN, GEMMA, AWQ = "model=qwen7b", "model=gemma3_4b", "model=qwen7b_awq"
LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "vocab_size": 16,
}


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NEXUS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.delenv("NEXUS_PROJECT", raising=False)


def _told(capsys: pytest.CaptureFixture[str], *overrides: str, hardware: str = "rtx4090", code: int) -> str:
    """What the user sees on one screen, as one line of words."""
    assert main(["plan", f"hardware={hardware}", *overrides]) == code
    shown = "".join(capsys.readouterr())
    assert "Traceback" not in shown
    assert "remedy: " in shown
    assert len(shown.splitlines()) <= SCREEN_LINES
    assert max(map(len, shown.splitlines())) <= SCREEN_COLUMNS
    return " ".join(shown.split())


@pytest.mark.parametrize(
    ("overrides", "code", "words"),
    [
        ((QWEN, "model.config.hidden_size=null"), 2, "lacks hidden_size"),
        ((QWEN, "~model.config.hidden_size"), 2, "lacks hidden_size"),
        ((QWEN, "model.config.hidden_size='3584'"), 2, "hidden_size = '3584', which must be a whole number"),
        ((QWEN, "model.config.vocab_size=-1"), 2, "vocab_size = -1, which must lie between"),
        ((QWEN, "model.config.num_hidden_layers=1000000"), 2, "num_hidden_layers = 1000000"),
        ((QWEN, "model.config.num_key_value_heads=3"), 2, "does not divide num_attention_heads = 28"),
        ((QWEN, "~model.config.model_type"), 2, "lacks model_type"),
        ((GEMMA, "model.config.text_config.hidden_size=null"), 2, "lacks text_config.hidden_size"),
        ((GEMMA, "model.config.text_config=null"), 2, "lacks num_hidden_layers"),
        ((GEMMA, "model.config.text_config=5"), 2, "text_config = 5, which must be a mapping"),
        ((AWQ, "model.config.quantization_config.quant_method=foo"), 3, 'quantization "foo" cannot be planned'),
        ((AWQ, "model.config.quantization_config.quant_method=null"), 3, "names no quant_method"),
        ((AWQ, "model.quantization=gptq"), 3, "the checkpoint is quantized with awq"),
        ((QWEN, "model.quantization=foo"), 2, 'quantization "foo" cannot be planned'),
        ((QWEN, "model.max_model_len=0"), 2, "must be a whole number from 1"),
        ((QWEN, "model.max_model_len=1000000000"), 2, "must be a whole number from 1"),
        ((QWEN, "model.max_model_len=99999999"), 3, "exceeds what the model was made for (32,768 tokens)"),
        ((QWEN, "memory.gpu_memory_utilization=1.01"), 2, "above 0 and at most 1"),
        ((QWEN, "memory.gpu_memory_utilization=0"), 2, "above 0 and at most 1"),
        ((QWEN, "memory.gpu_memory_utilization=1"), 3, "takes 23.55 GiB"),
        ((QWEN, "memory.kv_cache.block_size=7"), 2, "blocks of a multiple of 8"),
        ((QWEN, "memory.kv_cache.size_gib=40"), 3, "memory.kv_cache.size_gib=6"),
        ((QWEN, "serve.tensor_parallel=0"), 2, "must be a whole number from 1"),
    ],
)
def test_a_mistake_is_told_on_one_screen(
    overrides: tuple[str, ...], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert words in _told(capsys, *overrides, code=code)


@pytest.mark.parametrize("ranks", [3, 5])
def test_ranks_that_divide_nothing(ranks: int, capsys: pytest.CaptureFixture[str]) -> None:
    told = _told(capsys, QWEN, f"serve.tensor_parallel={ranks}", hardware="h100x8", code=3)
    assert f"do not divide among {ranks} ranks" in told
    assert "use one of 1, 2, 4" in told
    assert "serve.tensor_parallel=auto" in told


def test_a_card_that_nobody_knows_asks_for_its_memory(capsys: pytest.CaptureFixture[str]) -> None:
    unknown = ("hardware.gpu.model='RTX 7090'", "hardware.gpu.memory_mib=null")
    told = _told(capsys, QWEN, *unknown, code=2)
    assert "hardware.gpu.memory_mib=24576" in told
    assert main(["plan", "hardware=rtx4090", QWEN, unknown[0], "hardware.gpu.memory_mib=49152"]) == 0
    shown = capsys.readouterr().out
    assert "47." in shown.splitlines()[0]
    assert "tokens/s" not in shown


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hidden_size": None, "vocab_size": "16"}, ("lacks hidden_size", "vocab_size = '16'")),
        ({"num_attention_heads": 3}, ("does not divide hidden_size = 8",)),
        ({"num_hidden_layers": 0}, ("must lie between 1 and 2000",)),
        ({"text_config": []}, ("text_config = [], which must be a mapping",)),
    ],
)
def test_a_folder_with_a_bad_config(
    changes: dict[str, Any], words: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_model(tmp_path / "bad", {**LLAMA, **changes})
    told = _told(capsys, "model=local", f"model.path={folder}", code=2)
    assert all(word in told for word in words)


def test_a_folder_of_an_unknown_type_is_planned_from_its_tensors_or_says_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = {"model_type": "brand_new", "num_attention_heads": 2, "max_position_embeddings": 64}
    attention = {f"model.layers.0.self_attn.{name}_proj.weight": ("BF16", (8, 8)) for name in "qkvo"}
    whole = write_model(tmp_path / "whole", config, {**TENSORS, **attention})
    assert main(["plan", "hardware=rtx4090", "model=local", f"model.path={whole}"]) == 0
    assert "does not know the model type" in " ".join(capsys.readouterr().out.split())
    bare = write_model(tmp_path / "bare", config, TENSORS)
    told = _told(capsys, "model=local", f"model.path={bare}", code=2)
    assert "it lacks numbered layers among its tensors" in told


def test_a_gguf_folder_is_planned_with_its_doubts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_model(tmp_path / "gguf", LLAMA)
    (folder / "model.safetensors").unlink()
    (folder / "small.gguf").write_bytes(make_gguf(gguf_files.LLAMA, gguf_files.llama_tensors()))
    assert main(["plan", "hardware=rtx4090", "model=local", f"model.path={folder}"]) == 0
    assert "reads GGUF only with a plugin" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"GGUF" + bytes(1000), "is not a whole GGUF file: its format has version 0"),
        (make_gguf(gguf_files.LLAMA, gguf_files.llama_tensors())[:-5000], "it is cut off"),
        (make_gguf({"general.architecture": "mamba"}, {}), 'the architecture "mamba"'),
        (make_gguf({"general.architecture": "llama"}, {}), "lacks hidden_size"),
    ],
)
def test_a_gguf_file_that_cannot_be_planned(
    content: bytes, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bad.gguf"
    file.write_bytes(content)
    assert words in _told(capsys, "model=local", f"model.path={file}", code=2)
    assert words in _told(capsys, "model=local", f"model.path={tmp_path}", code=2)


def test_a_gguf_file_alone_is_planned_by_its_tensors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tensors = gguf_files.llama_tensors()
    file = tmp_path / "small.gguf"
    file.write_bytes(make_gguf(gguf_files.LLAMA, tensors))
    run = ["plan", "hardware=rtx4090", "model=local", f"model.path={tmp_path}", "--format", "json"]
    assert main([*run, "engine.version=0.19.1"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert str(file) in plan["argv"]
    rotary = 2048 * 64 * 2
    assert plan["per_gpu"][0]["weights_bytes"] == pytest.approx(gguf_files.tensor_bytes(tensors) + rotary, abs=8192)


@pytest.mark.parametrize(
    ("overrides", "code", "words"),
    [
        (("serve.pipeline_partition=[20,7]",), 3, "the stages have 27 layers, the model has 28"),
        (("serve.pipeline_partition=[20,8]", "serve.pipeline_parallel=3"), 2, "each pipeline stage has its number"),
        (("serve.pipeline_partition=[20,0]",), 2, "serve.pipeline_partition must be a list of whole numbers"),
        (("serve.pipeline_partition=20",), 2, "write a list: serve.pipeline_partition=[1,2]"),
        (("hardware.gpu.devices=[0,1,2]",), 2, "as many cards must be named as are counted"),
        (("hardware.gpu.devices=[0,0]",), 2, "hardware.gpu.devices must be a list of whole numbers"),
        (("hardware.gpu.devices=[0,-1]",), 2, "hardware.gpu.devices must be a list of whole numbers"),
        (("hardware.gpu.devices=all",), 2, "hardware.gpu.devices must be a list of whole numbers"),
    ],
)
def test_cards_and_layers_that_do_not_add_up(
    overrides: tuple[str, ...], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert words in _told(capsys, QWEN, *overrides, hardware="rtx4090x2", code=code)


@pytest.mark.parametrize(
    ("overrides", "code", "words"),
    [
        ((QWEN, "model.max_model_len=-5"), 2, "must be a whole number from 1"),
        ((QWEN, "model.max_model_len=long"), 2, "must be a whole number from 1"),
        ((QWEN, "memory.gpu_memory_utilization=90"), 2, "above 0 and at most 1"),
        ((QWEN, "memory.gpu_memory_utilization=.nan"), 2, "above 0 and at most 1"),
        (
            (QWEN, "model.config.num_attention_heads=[28]"),
            2,
            "num_attention_heads = [28], which must be a whole number",
        ),
        ((QWEN, "model.config.hidden_size=true"), 2, "hidden_size = True, which must be a whole number"),
        ((GEMMA, "model.config.text_config.num_hidden_layers='34'"), 2, "text_config.num_hidden_layers = '34'"),
        ((QWEN, "serve.tensor_parallel=2"), 2, "the ranks outnumber the GPUs"),
        ((QWEN, "hardware.gpu.model=RTX-9999", "hardware.gpu.memory_mib=null"), 2, "hardware.gpu.memory_mib=24576"),
    ],
)
def test_more_mistakes_on_one_screen(
    overrides: tuple[str, ...], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert words in _told(capsys, *overrides, code=code)
