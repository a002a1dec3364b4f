"""run.schema.json describes the RunSpec and every shipped file, and the known keys are made of it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from nexus_orch import shipped
from nexus_orch.compose.schema import find_nearest_key, is_known, known_keys, read_schema, render_expected

REPOSITORY = Path(__file__).parents[2]
SCHEMAS = REPOSITORY / "nexus_orch" / "compose"
SHIPPED = sorted(shipped.conf_dir().rglob("*.yaml"))
COMMENT = re.compile(r"^# yaml-language-server: \$schema=(\S+)$", re.MULTILINE)


def test_schema_is_valid_draft_2020_12() -> None:
    for file in SCHEMAS.glob("*.json"):
        schema = json.loads(file.read_text(encoding="utf-8"))
        assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
        Draft202012Validator.check_schema(schema)


def test_every_key_is_described_and_only_these_mappings_are_open() -> None:
    assert [key for key, schema in known_keys().items() if not schema.get("description")] == []
    sections = {key: schema for key, schema in known_keys().items() if "object" in schema.get("type", ())}
    assert {key for key, schema in sections.items() if schema.get("additionalProperties") is not False} == {
        "model.config",
        "model.rope_scaling",
        "model.hf_overrides",
        "model.limit_mm_per_prompt",
        "serve.speculative.config",
        "serve.speculative.options",
        "engine.env",
        "plugin",
    }


def test_every_number_has_a_range() -> None:
    for key, schema in known_keys().items():
        core = schema["anyOf"][1] if "anyOf" in schema else schema
        if core.get("type") in ("integer", "number"):
            assert "maximum" in core, key
            assert "minimum" in core or "exclusiveMinimum" in core, key


def _validator(named: Path) -> Draft202012Validator:
    """The schema that a file's comment names, found beside it as an editor finds it."""
    resources = [
        (file.as_uri(), Resource.from_contents(json.loads(file.read_text(encoding="utf-8"))))
        for file in named.parent.glob("*.json")
    ]
    registry: Registry[Any] = Registry().with_resources(resources)
    return Draft202012Validator({"$ref": named.as_uri()}, registry=registry)


@pytest.mark.parametrize("group", ["", "hardware", "model", "memory", "engine", "serve", "workload", "profile"])
def test_shipped_profiles_satisfy_the_schema_that_their_comment_names(group: str) -> None:
    files = [file for file in SHIPPED if file.parent == shipped.conf_dir() / group]
    assert files
    for file in files:
        text = file.read_text(encoding="utf-8")
        named = COMMENT.search(text)
        assert named, file
        validator = _validator((file.parent / named[1]).resolve(strict=True))
        assert [error.message for error in validator.iter_errors(yaml.safe_load(text))] == [], file


def test_no_shipped_profile_lies_outside_the_groups() -> None:
    folders = {file.parent.relative_to(shipped.conf_dir()).as_posix() for file in SHIPPED}
    assert folders == {".", "hardware", "model", "memory", "engine", "serve", "workload", "profile"}


def test_a_profile_that_breaks_its_schema_is_noticed() -> None:
    validator = _validator(SCHEMAS / "memory.schema.json")
    assert [error.message for error in validator.iter_errors({"strategy": "hybrid"})] == []
    assert list(validator.iter_errors({"stratgy": "hybrid"})) != []
    assert list(validator.iter_errors({"kv_cache": {"block_size": 0}})) != []


def test_a_composed_run_has_no_defaults_list() -> None:
    validator = Draft202012Validator(read_schema())
    assert list(validator.iter_errors({"memory": {"strategy": "hybrid"}})) == []
    assert list(validator.iter_errors({"memory": {"defaults": []}})) != []
    assert list(validator.iter_errors({"hydra": {}})) != []


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("max_model_len", "model.max_model_len"),
        ("memory.max_model_len", "model.max_model_len"),
        ("serve.prot", "serve.port"),
        ("memory.kv_cach.dtype", "memory.kv_cache.dtype"),
        ("tensor_parallel_size", "serve.tensor_parallel"),
        ("modl.x", "model"),
        ("zzz.qqq", None),
    ],
)
def test_nearest_key(key: str, nearest: str | None) -> None:
    assert find_nearest_key(key) == nearest


def test_names_inside_open_mappings_are_known() -> None:
    assert is_known("model.config.rope_scaling.factor")
    assert is_known("engine.env.HF_HOME")
    assert not is_known("engine.python.path")
    assert not is_known("model.configuration")
    assert not is_known("nothing")


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("serve.port", "a whole number from 1 to 65535, or auto"),
        ("memory.gpu_memory_utilization", "a number above 0 and at most 1, or auto"),
        ("memory.offload_backend", "one of uva, prefetch, or auto"),
        ("workload.objective", "one of throughput, latency, context"),
        ("model.trust_remote_code", "true or false"),
        ("model.path", "text, or null"),
        ("serve.extra_args", "a list of text, or null"),
        ("memory.kv_cache", "a mapping"),
    ],
)
def test_expectations_in_words(key: str, expected: str) -> None:
    assert render_expected(known_keys()[key]) == expected
