"""What is planned and must not be launched: weights that are not there, or that the release cannot read."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from nexus_orch.errors import ConfigError, Problem
from nexus_orch.facts.engine.installed import make_assumed_engine
from nexus_orch.plugin_manager import Plugins, load_plugins
from nexus_orch.session.prepare import Preparation, make_preparation
from nexus_orch.session.refuse import refusal_of
from nexus_orch.types import CheckpointFacts, ModelFacts
from tests.plan.cases import make_facts, make_gpu, make_spec

QWEN = "Qwen/Qwen2.5-7B-Instruct"


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    return load_plugins()


def _prepare(plugins: Plugins, version: str = "0.32.0", **model: object) -> Preparation:
    """A run on this machine with an engine that is installed."""
    facts = make_facts(QWEN, make_gpu(), ram_gib=128)
    changed: ModelFacts = replace(facts.model, **model)  # type: ignore[arg-type]
    engine = replace(make_assumed_engine(version, cpu=False), python=sys.executable)
    machine = replace(facts.machine, is_this_machine=True)
    known = replace(facts, model=changed, engine=engine, machine=machine)
    return make_preparation(make_spec(), known, plugins.engines()["local"], plugins, uses_learned=False)


def test_a_folder_without_weights_is_planned_and_not_served(plugins: Plugins) -> None:
    lacking = Problem("the folder holds no weights", key="model.path", cause="weights_missing")
    prepared = _prepare(plugins, missing_weights=(lacking,))
    assert prepared.plan.fits
    refusal = refusal_of(prepared)
    assert isinstance(refusal, ConfigError)
    assert refusal.problems == (lacking,)


@pytest.mark.parametrize(("version", "refused"), [("0.19.1", False), ("0.32.0", True)])
def test_a_gguf_file_is_planned_and_not_served_by_a_release_that_reads_none(
    version: str, refused: bool, plugins: Plugins
) -> None:
    prepared = _prepare(plugins, version, checkpoint=CheckpointFacts("gguf", ("a.gguf",), 5 << 30))
    assert prepared.plan.fits
    refusal = refusal_of(prepared)
    assert (refusal is not None) == refused
    if refusal is not None:
        assert refusal.problems[0].cause == "unsupported_quantization"
        assert "of vLLM know it" in str(refusal.problems[0].remedy)
