"""Profiles read as files, and the quantized forms of a model among them."""

from __future__ import annotations

from pathlib import Path

import pytest

from nexus_orch import shipped
from nexus_orch.facts.profiles import make_model_spec, read_machines, read_models, read_profiles, read_siblings
from nexus_orch.types import GIB, ModelSpec


@pytest.fixture(autouse=True)
def _no_fetched_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NEXUS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))


def _write(folder: Path, name: str, text: str) -> None:
    (folder / "model").mkdir(parents=True, exist_ok=True)
    (folder / "model" / f"{name}.yaml").write_text(text, encoding="utf-8")


def test_the_first_folder_wins_and_what_is_no_profile_is_left_out(tmp_path: Path) -> None:
    _write(tmp_path / "own", "a", "path: mine")
    _write(tmp_path / "own", "broken", "path: [")
    _write(tmp_path / "own", "text", "no mapping")
    _write(tmp_path / "shipped", "a", "path: theirs")
    _write(tmp_path / "shipped", "b", "path: b")
    found = read_profiles([tmp_path / "own", tmp_path / "shipped", tmp_path / "missing"], "model")
    assert {name: profile["path"] for name, profile in found.items()} == {"a": "mine", "b": "b"}


def test_a_shipped_model_has_its_quantized_forms() -> None:
    profile = read_profiles([shipped.conf_dir()], "model", "qwen32b")["qwen32b"]
    spec = make_model_spec("qwen32b", profile)
    assert spec.config is not None
    found = read_siblings(spec, spec.config, [shipped.conf_dir()])
    assert set(found) == {"qwen32b_awq", "qwen32b_gptq"}
    assert found["qwen32b_awq"].config["quantization_config"]["bits"] == 4


@pytest.mark.parametrize("name", ["", "*", "../model/qwen"])
def test_a_name_that_is_no_profile_has_none(name: str) -> None:
    assert read_siblings(ModelSpec(name=name), {"model_type": "qwen2"}, [shipped.conf_dir()]) == {}


def test_a_quantized_model_and_another_shape_have_none(tmp_path: Path) -> None:
    quantized = "quantization_config: {quant_method: awq}"
    _write(tmp_path, "m_awq", f"config: {{model_type: llama, hidden_size: 8, {quantized}}}")
    _write(tmp_path, "m_plain", "config: {model_type: llama, hidden_size: 8}")
    plain = {"model_type": "llama", "hidden_size": 8}
    assert set(read_siblings(ModelSpec(name="m"), plain, [tmp_path])) == {"m_awq"}
    assert read_siblings(ModelSpec(name="m"), {**plain, "hidden_size": 16}, [tmp_path]) == {}
    assert read_siblings(ModelSpec(name="m"), {**plain, "quantization_config": {"a": 1}}, [tmp_path]) == {}


def test_machines_are_those_of_the_catalogue(tmp_path: Path) -> None:
    (tmp_path / "hardware").mkdir()
    for name, text in {
        "two": "{gpu: {model: rtx4090, count: 2}, host: {ram_gib: 64}}",
        "odd": "{gpu: {model: rtx4090, count: many, memory_mib: some}, host: 5}",
        "unknown": "{gpu: {model: rtx9999}}",
        "this": "{gpu: {model: null}}",
        "broken": "{gpu: 5}",
    }.items():
        (tmp_path / "hardware" / f"{name}.yaml").write_text(text, encoding="utf-8")
    found = read_machines([tmp_path])
    assert set(found) == {"two", "odd"}
    two = found["two"]
    assert [gpu.index for gpu in two.gpus] == [0, 1]
    assert 23 * GIB < two.gpus[0].free_bytes < two.gpus[0].total_bytes < 24 * GIB
    assert two.host.ram_total_bytes == 64 * GIB
    assert not two.is_this_machine
    assert len(found["odd"].gpus) == 1


def test_models_without_an_inlined_architecture_are_left_out(tmp_path: Path) -> None:
    _write(tmp_path, "a", "{path: 5, config: {model_type: llama}}")
    _write(tmp_path, "b", "{path: hub/b, config: null}")
    found = read_models([tmp_path])
    assert {name: model.path for name, model in found.items()} == {"a": None}
