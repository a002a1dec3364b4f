"""Quantized profiles repeat the shape of their base: the doubled facts agree."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

MODELS = Path(__file__).parents[2] / "conf" / "model"

OWN = {"quantization_config", "torch_dtype", "dtype", "_name_or_path", "transformers_version"}
"""What a quantized form says for itself; the rest of its config is its base's."""

DIFFERS = {
    # Padded from 29,568 so that groups of 128 divide among eight cards: the repositories' own config.json.
    "qwen72b_awq": {"intermediate_size"},
    "qwen72b_gptq": {"intermediate_size"},
    # The plain profile is the later 2507 release, which was made for 262,144 tokens.
    "qwen3_30b_a3b_fp8": {"max_position_embeddings"},
}
"""Where the forms truly differ, and why."""


def _config(file: Path) -> dict[str, object]:
    return dict(yaml.safe_load(file.read_text(encoding="utf-8")).get("config") or {})


def _pairs() -> list[tuple[str, str]]:
    names = sorted(file.stem for file in MODELS.glob("*.yaml"))
    return [
        (name, base)
        for name in names
        if "quantization_config" in _config(MODELS / f"{name}.yaml")
        for base in [name.rpartition("_")[0]]
        if base in names and "quantization_config" not in _config(MODELS / f"{base}.yaml")
    ]


def test_there_are_siblings() -> None:
    assert ("qwen14b_awq", "qwen14b") in _pairs()


@pytest.mark.parametrize(("name", "base"), _pairs())
def test_a_quantized_form_has_the_shape_of_its_base(name: str, base: str) -> None:
    quantized, plain = _config(MODELS / f"{name}.yaml"), _config(MODELS / f"{base}.yaml")
    differing = {key for key in quantized.keys() | plain.keys() if quantized.get(key) != plain.get(key)}
    assert differing <= OWN | DIFFERS.get(name, set())
