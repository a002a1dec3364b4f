"""An option that takes JSON is read as the settings that its keys are, however it is written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from nexus_orch.exchange.imported import Imported
from nexus_orch.exchange.profiles.reading import Reader, read_start
from nexus_orch.exchange.start import Start
from nexus_orch.facts.engine.installed import make_assumed_engine
from tests.exchange.reading import tables_of

EAGLE = {"method": "eagle3", "model": "org/eagle", "num_speculative_tokens": 3}


def read(version: str, *words: str) -> Imported:
    engine = make_assumed_engine(version)
    return read_start(Start(("org/model", *words), {}), Reader(engine, tables_of(version), lambda key: True))


def speculative(found: Imported) -> Mapping[str, Any]:
    return {
        key.removeprefix("serve.speculative."): value
        for key, value in found.settings.items()
        if key.startswith("serve.speculative.")
    }


@pytest.mark.parametrize(
    ("version", "words", "expected"),
    [
        (
            "0.19.1",
            ["--speculative-config", '{"method":"eagle3","model":"org/eagle","num_speculative_tokens":3}'],
            EAGLE,
        ),
        (
            "0.25.1",
            ["-sc.method", "eagle3", "-sc.model", "org/eagle", "-sc.num_speculative_tokens", "3"],
            EAGLE,
        ),
        ("0.33.0", ["--spec-method", "eagle3", "--spec-model", "org/eagle", "--spec-tokens", "3"], EAGLE),
        (
            "0.33.0",
            ["--speculative-config", '{"method":"ngram","num_speculative_tokens":2,"draft_sample_method":"greedy"}'],
            {"method": "ngram", "num_speculative_tokens": 2, "options": {"draft_sample_method": "greedy"}},
        ),
        (
            "0.7.3",
            ["--speculative-model", "[ngram]", "--num-speculative-tokens", "5", "--ngram-prompt-lookup-max", "4"],
            {"method": "ngram", "num_speculative_tokens": 5, "prompt_lookup_max": 4},
        ),
        (
            "0.6.6.post1",
            ["--speculative-model", "org/draft", "--num-speculative-tokens", "5"],
            {"model": "org/draft", "num_speculative_tokens": 5},
        ),
    ],
)
def test_speculation_is_read(version: str, words: list[str], expected: Mapping[str, Any]) -> None:
    found = read(version, *words)
    assert speculative(found) == expected
    assert not found.extra_args


def test_what_is_no_mapping_is_passed_on_for_the_engine_to_refuse() -> None:
    found = read("0.19.1", "--speculative-config", "[1]")
    assert not speculative(found)
    assert found.extra_args == ["--speculative-config", "[1]"]


def test_all_words_of_adapters_are_read() -> None:
    found = read("0.33.0", "--enable-lora", "--lora-modules", "a=org/a", "b=org/b", "--max-lora-rank", "64")
    adapters = {key: value for key, value in found.settings.items() if key.startswith("model.lora.")}
    assert adapters == {
        "model.lora.enabled": True,
        "model.lora.modules": ["a=org/a", "b=org/b"],
        "model.lora.max_lora_rank": 64,
    }


YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}


@pytest.mark.parametrize(
    ("version", "words", "expected"),
    [
        ("0.9.2", ["--rope-scaling", json.dumps(YARN)], {"rope_scaling": YARN}),
        ("0.9.2", ["--hf-overrides", json.dumps({"rope_scaling": YARN})], {"hf_overrides": {"rope_scaling": YARN}}),
        ("0.11.2", ["--hf-overrides", json.dumps({"rope_scaling": YARN})], {"rope_scaling": YARN}),
        ("0.33.0", ["--hf-overrides", json.dumps({"rope_parameters": YARN})], {"rope_scaling": YARN}),
        ("0.33.0", ["--hf-overrides", json.dumps({"rope_scaling": YARN})], {"hf_overrides": {"rope_scaling": YARN}}),
        ("0.33.0", ["--hf-overrides.x", "1"], {"hf_overrides": {"x": 1}}),
        ("0.7.3", ["--limit-mm-per-prompt", "image=4,video=1"], {"limit_mm_per_prompt": {"image": 4, "video": 1}}),
        ("0.33.0", ["--limit-mm-per-prompt", '{"image": 0}'], {"limit_mm_per_prompt": {"image": 0}}),
        ("0.33.0", ["--language-model-only"], {"language_model_only": True}),
    ],
)
def test_the_configuration_is_read(version: str, words: list[str], expected: Mapping[str, Any]) -> None:
    found = read(version, *words)
    usual = ("path", "name", "served_name")
    settings = {key.removeprefix("model."): value for key, value in found.settings.items() if key.startswith("model.")}
    assert {key: value for key, value in settings.items() if key not in usual} == expected
    assert not found.extra_args
