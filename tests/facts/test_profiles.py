"""The shipped hardware and model profiles: each one is whole, true to the catalogue and readable by the facts."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from nexus_orch.facts.catalogue import find_gpu
from nexus_orch.facts.machine import read_machine
from nexus_orch.facts.model import read_model
from nexus_orch.shipped import conf_dir
from nexus_orch.types import GIB, MIB, GpuSpec, HardwareSpec, HostSpec, ModelSpec
from tests.nvml_driver import Driver

HARDWARE = sorted(conf_dir().glob("hardware/*.yaml"))
MODELS = sorted(conf_dir().glob("model/*.yaml"))
INLINED = [file for file in MODELS if file.stem != "local"]


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without cards, an empty home and an empty cache."""
    monkeypatch.setitem(sys.modules, "pynvml", Driver())
    monkeypatch.setenv("NEXUS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)


def load(file: Path) -> dict[str, Any]:
    content = OmegaConf.to_container(OmegaConf.load(file))
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


def profiles(files: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("file", files, ids=[file.stem for file in files])


def test_there_are_enough_profiles_and_those_that_people_ask_for() -> None:
    hardware, models = {file.stem for file in HARDWARE}, {file.stem for file in MODELS}
    assert len(hardware) >= 25
    assert len(models) >= 45
    assert {"auto", "cpu", "rtx4090", "rtx4090x2", "a100_80g"} <= hardware
    assert {"qwen7b", "qwen14b", "qwen32b", "qwen72b", "llama8b", "llama70b", "mixtral8x7b"} <= models
    assert {"deepseek_v2_lite", "gpt_oss_20b", "qwen3_30b_a3b", "smollm2_135m", "local"} <= models


@profiles(HARDWARE + MODELS)
def test_a_profile_is_named_as_its_file_and_begins_with_its_schema(file: Path) -> None:
    first, second, *_ = file.read_text(encoding="utf-8").splitlines()
    assert first == f"# yaml-language-server: $schema=../../nexus_orch/compose/{file.parent.name}.schema.json"
    assert re.match(r"# \S", second)
    assert load(file)["name"] == file.stem


@profiles(HARDWARE)
def test_a_hardware_profile_has_every_key(file: Path) -> None:
    content = load(file)
    assert list(content) == ["name", "gpu", "host", "nodes"]
    assert list(content["gpu"]) == ["model", "count", "memory_mib", "pcie_gbps"]
    assert list(content["host"]) == ["ram_gib", "reserved_gib", "swap_gib"]


@profiles([file for file in HARDWARE if file.stem not in ("auto", "cpu")])
def test_a_hardware_profile_describes_cards_of_the_catalogue(file: Path) -> None:
    content = load(file)
    spec = HardwareSpec(content["name"], GpuSpec(**content["gpu"]), HostSpec(**content["host"]), content["nodes"])
    card = find_gpu(content["gpu"]["model"], content["gpu"]["memory_mib"])
    assert card is not None
    assert (card.name, card.nvml_total_bytes) == (content["gpu"]["model"], content["gpu"]["memory_mib"] * MIB)
    machine = read_machine(spec, {})
    assert (machine.name, machine.is_this_machine) == (file.stem, False)
    assert [gpu.total_bytes for gpu in machine.gpus] == [card.total_bytes] * content["gpu"]["count"]
    assert machine.host.ram_total_bytes == content["host"]["ram_gib"] * GIB
    assert all(gpu.memory_bandwidth_bytes_per_second and gpu.host_bandwidth_bytes_per_second for gpu in machine.gpus)


@profiles([file for file in HARDWARE if re.search(r"x\d$|_\d+g$", file.stem)])
def test_the_name_of_a_hardware_profile_tells_its_count_and_memory(file: Path) -> None:
    content = load(file)
    count = re.search(r"x(\d)$", file.stem)
    assert content["gpu"]["count"] == (int(count[1]) if count else 1)
    found = find_gpu(re.sub(r"x\d$", "", file.stem), content["gpu"]["memory_mib"])
    assert found is not None
    assert found.name == content["gpu"]["model"]


@profiles([file for file in HARDWARE if file.stem in ("auto", "cpu")])
def test_auto_and_cpu_are_this_machine(file: Path) -> None:
    content = load(file)
    machine = read_machine(HardwareSpec(content["name"], GpuSpec(**content["gpu"])), {})
    assert (machine.gpus, machine.is_this_machine) == ((), True)


@profiles(MODELS)
def test_a_model_profile_has_every_key(file: Path) -> None:
    keys = ["name", "path", "dtype", "quantization", "max_model_len", "trust_remote_code", "served_name", "config"]
    assert list(load(file)) == keys


@profiles(INLINED)
def test_a_model_profile_can_be_planned_without_any_file(file: Path) -> None:
    content = load(file)
    model = read_model(ModelSpec(**content), {})
    assert (model.name, model.config, model.config_source) == (file.stem, content["config"], "profile")
    assert (model.path, model.is_local, model.checkpoint) == (content["path"], False, None)
    assert file.stem == "smollm2_135m" or re.fullmatch(r"[\w.-]+/[\w.-]+", content["path"])


@profiles(INLINED)
def test_a_model_profile_tells_what_its_architecture_needs(file: Path) -> None:
    config = load(file)["config"]
    text = config.get("text_config", config)
    layers = text["num_hidden_layers"]
    assert len(config["architectures"]) == 1
    for key in ("hidden_size", "num_attention_heads", "vocab_size", "max_position_embeddings"):
        assert text[key] > 0
    assert text.get("num_key_value_heads", text["num_attention_heads"]) <= text["num_attention_heads"]
    assert set(_needs(text)) <= set(text)
    assert len(text.get("layer_types", "x" * layers)) == layers
    assert len(text.get("hybrid_override_pattern", "x" * layers)) == layers
    assert "quantization_config" not in config or config["quantization_config"]["quant_method"]
    assert (text is config) == ("vision_config" not in config)


def _needs(text: dict[str, Any]) -> list[str]:
    """Keys without which the memory of a model of this type cannot be counted (transformers' configuration classes)."""
    kind = text["model_type"]
    needs = {"opt": ["ffn_dim", "word_embed_proj_dim"], "falcon": ["multi_query", "new_decoder_architecture"]}
    keys = list(needs.get(kind, []))
    if "kv_lora_rank" in text:
        keys += ["qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim", "first_k_dense_replace", "n_routed_experts"]
    if any("experts" in key for key in text):
        keys += ["top_k_experts" if kind == "gemma4_text" else "num_experts_per_tok"]
    if "sliding_attention" in text.get("layer_types", ()):
        keys += ["sliding_window"]
    if "linear_attention" in text.get("layer_types", ()):
        keys += ["linear_conv_kernel_dim", "linear_num_value_heads", "linear_key_head_dim", "linear_value_head_dim"]
    if "mamba" in text.get("layer_types", ()):
        keys += ["mamba_d_state", "mamba_d_conv", "mamba_d_head", "mamba_n_heads", "mamba_n_groups"]
    if kind == "jamba":
        keys += ["attn_layer_period", "attn_layer_offset", "mamba_d_state", "mamba_d_conv", "mamba_expand"]
    if kind == "nemotron_h":
        keys += ["hybrid_override_pattern", "mamba_num_heads", "mamba_head_dim", "ssm_state_size", "n_groups"]
    return keys


DENSE = ("llama", "mistral", "qwen2", "qwen3", "phi3", "granite")


@profiles([file for file in INLINED if load(file)["config"]["model_type"] in DENSE])
def test_the_parameters_in_the_comment_are_those_of_the_sizes(file: Path) -> None:
    """Counted by hand for plain decoders: embeddings, attention and a gated MLP; norms and biases are below 0.2 %."""
    config = load(file)["config"]
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    head_dim = config.get("head_dim", hidden // heads)
    embeddings = config["vocab_size"] * hidden * (1 if config["tie_word_embeddings"] else 2)
    attention = 2 * hidden * head_dim * (heads + config.get("num_key_value_heads", heads))
    counted = embeddings + config["num_hidden_layers"] * (attention + 3 * hidden * config["intermediate_size"])
    told = re.search(r": ([\d.]+) (billion|million) parameters", file.read_text(encoding="utf-8"))
    assert told is not None
    assert counted == pytest.approx(float(told[1]) * (1e9 if told[2] == "billion" else 1e6), rel=0.005)
