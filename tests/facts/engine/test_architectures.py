"""Which models a release can run: its registry, the catalogue, and the refusal that names the releases that can."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nexus_orch.cli import main
from nexus_orch.facts.engine.architectures import (
    catalogue_architectures,
    make_architecture_catalogue,
    read_architectures,
    releases_with_architecture,
)
from nexus_orch.facts.engine.installed import read_engine
from nexus_orch.releases.known import known_releases
from tests.engine.sources import write_metadata, write_package
from tests.releases.ends import NEWEST

REGISTRY = """
from collections.abc import Mapping
_TEXT_GENERATION_MODELS = {
    "LlamaForCausalLM": ("llama", "LlamaForCausalLM"),
    **OTHERS,
}
_MULTIMODAL_MODELS: Mapping[str, tuple] = {"LlavaForConditionalGeneration": ("llava", "Llava")}
_VLLM_MODELS = {**_TEXT_GENERATION_MODELS, **_MULTIMODAL_MODELS, **_MADE_ELSEWHERE}
_PREVIOUSLY_SUPPORTED_MODELS = {"Phi3SmallForCausalLM": "0.9.2"}
"""
OLD_REGISTRY = '_GENERATION_MODELS = {"LlamaForCausalLM": ("llama", "L")}\n_MODELS = {**_GENERATION_MODELS}\n'
LLAMA = frozenset({"LlamaForCausalLM"})
FOLDER = "model_executor/models"


def test_the_joined_tables_count_and_no_others(tmp_path: Path) -> None:
    root = write_package(tmp_path, {f"{FOLDER}/registry.py": REGISTRY})
    assert read_architectures(root) == frozenset({"LlamaForCausalLM", "LlavaForConditionalGeneration"})


def test_releases_before_the_registry_file(tmp_path: Path) -> None:
    root = write_package(tmp_path, {f"{FOLDER}/__init__.py": OLD_REGISTRY})
    assert read_architectures(root) == LLAMA


@pytest.mark.parametrize("text", [None, "", "def broken(:\n", "_VLLM_MODELS = make_models()\n", "\0"])
def test_a_registry_that_cannot_be_read_is_no_knowledge(tmp_path: Path, text: str | None) -> None:
    assert read_architectures(write_package(tmp_path, {f"{FOLDER}/registry.py": text})) is None


def test_an_installed_engine_says_what_it_knows_and_keeps_it(tmp_path: Path) -> None:
    root = write_package(tmp_path, {f"{FOLDER}/registry.py": OLD_REGISTRY})
    write_metadata(root, "vllm", "0.32.0")
    assert read_engine(root).architectures == read_engine(root).architectures == LLAMA
    (root / FOLDER / "registry.py").write_text(OLD_REGISTRY.replace("Llama", "Mistral"))
    assert read_engine(root).architectures == frozenset({"MistralForCausalLM"})


def test_the_catalogue_knows_every_release() -> None:
    counts = [len(catalogue_architectures(release)) for release in known_releases()]
    assert counts[0] == min(counts) == 45
    assert len(catalogue_architectures("0.33.0")) == 415
    assert releases_with_architecture("Qwen3ForCausalLM")[0] == "0.8.5.post1"
    assert releases_with_architecture("LlamaForCausalLM") == known_releases()


def test_between_two_releases_either_may_have_it() -> None:
    assert "Qwen3ForCausalLM" in catalogue_architectures("0.8.4")
    assert "Qwen3ForCausalLM" not in catalogue_architectures("0.7.3")
    assert catalogue_architectures("0.99") == catalogue_architectures(NEWEST)


def test_the_catalogue_holds_what_was_put_in() -> None:
    found = {"1": frozenset({"A"}), "2": frozenset({"B"}), "3": frozenset({"A", "B"})}
    content = make_architecture_catalogue(found, ["1", "2", "3"])
    assert content["architectures"] == {"A": [[0, 0], [2, None]], "B": [[1, None]]}


def _check(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, str]]:
    code = main(["engine", "check", *arguments, "--format", "json"])
    (row,) = json.loads(capsys.readouterr().out)
    return code, row


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (
            ["hardware=a100_80g", "model=qwen3_8b", "engine.version=0.7.3"],
            "does not know the architecture Qwen3ForCausalLM",
        ),
        (["hardware=h100x4", "model=llama70b_fp8", "engine.version=0.4.3"], None),
        (
            [
                "hardware=a100_80g",
                "model=llama8b",
                "engine.version=0.28.0",
                "+model.config.quantization_config={quant_method: gguf}",
            ],
            "does not know gguf weights",
        ),
    ],
)
def test_a_model_that_the_release_does_not_know_is_refused(
    arguments: list[str], reason: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    code, row = _check(arguments, capsys)
    assert (code, row["result"]) == ((0, "good") if reason is None else (2, "refused"))
    assert reason is None or reason in str(row["reasons"])


def test_the_refusal_names_the_releases_and_a_way_out(capsys: pytest.CaptureFixture[str]) -> None:
    old = ["model=qwen3_8b", "hardware=a100_80g", "engine.version=0.7.3"]
    assert "0.8.5.post1 and later of vLLM know it" in str(_check(old, capsys)[1]["reasons"])
    code, row = _check(["model=qwen3_8b", "hardware=a100_80g", "engine.version=0.8.4"], capsys)
    assert (code, row["result"]) == (0, "good")


def test_who_names_the_implementation_is_not_refused(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["hardware=h100x4", "model=qwen3_next_80b_a3b", "engine.version=0.9.2"]
    assert _check(arguments, capsys)[0] == 2
    assert _check([*arguments, "serve.extra_args=[--model-impl,transformers]"], capsys)[0] == 0


def test_a_model_that_no_release_knows_is_left_to_plugins(capsys: pytest.CaptureFixture[str]) -> None:
    own = "model.config.architectures=[MyOwnForCausalLM]"
    assert _check(["hardware=a100_80g", "model=llama8b", "engine.version=0.30.0", own], capsys)[0] == 0
