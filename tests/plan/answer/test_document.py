"""The plan as JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.resources import files

import jsonschema
import pytest

from nexus_orch.plan.answer.document import plan_document
from nexus_orch.plan.nearby.alternatives import find_alternatives
from nexus_orch.types import GpuFacts, Plan
from tests.plan.cases import LOADERS, make_facts, make_gpu, plan_of

KEYS = {
    *("fits", "loader", "adapter", "engine_version", "model", "per_gpu", "kv_cache_tokens", "max_model_len"),
    *("max_concurrency", "host", "prediction", "argv", "env", "choices", "problems"),
}


def _with_alternatives(*gpus: GpuFacts) -> Plan:
    plan = plan_of("Qwen/Qwen2.5-7B-Instruct", *gpus)
    found = find_alternatives(plan, make_facts("Qwen/Qwen2.5-7B-Instruct", *gpus), LOADERS)
    assert found
    return replace(plan, prediction=replace(plan.prediction, alternatives=found))


PLANS = {
    "fits": lambda: plan_of("Qwen/Qwen2.5-7B-Instruct", make_gpu()),
    "hybrid": lambda: plan_of("Qwen/Qwen2.5-32B-Instruct", make_gpu(), make_gpu()),
    "too_large": lambda: plan_of("Qwen/Qwen2.5-32B-Instruct", make_gpu(), settings={"memory.strategy": "vram_only"}),
    "refused": lambda: plan_of("Qwen/Qwen2.5-32B-Instruct", make_gpu(), settings={"serve.tensor_parallel": 3}),
    "cpu": lambda: plan_of("HuggingFaceTB/SmolLM2-135M-Instruct"),
    "alternatives": lambda: _with_alternatives(make_gpu()),
    "extra": lambda: plan_of("Qwen/Qwen2.5-7B-Instruct", make_gpu(), settings={"serve.extra_args": ("--seed", "1")}),
}


@pytest.mark.parametrize("name", PLANS)
def test_the_document_obeys_its_schema(name: str) -> None:
    schema = json.loads(files("nexus_orch.plan.answer").joinpath("plan.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    plan: Plan = PLANS[name]()
    document = plan_document(plan, "v2", ["vllm", "serve"], {"A": "1"})
    assert set(document) == set(schema["required"]) == KEYS
    as_json = json.loads(json.dumps(document))
    assert {"borderline", "alternatives"} <= set(as_json["prediction"])
    jsonschema.Draft202012Validator(schema).validate(as_json)
    assert as_json == document
