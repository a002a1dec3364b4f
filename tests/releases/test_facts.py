"""Every fact: a sentence, bounds that are releases, a source; and a clear answer on each side of a bound."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

import pytest
from packaging.version import Version

from nexus_orch import releases
from nexus_orch.releases import engine
from nexus_orch.releases.fact import Fact


def all_facts() -> Iterator[tuple[str, Fact]]:
    """Every fact by its module and name."""
    for module in pkgutil.iter_modules(releases.__path__):
        for name, value in vars(importlib.import_module(f"nexus_orch.releases.{module.name}")).items():
            if isinstance(value, Fact):
                yield f"{module.name}.{name}", value


FACTS = dict(all_facts())


@pytest.mark.parametrize("name", FACTS)
def test_a_fact_has_a_sentence_a_bound_and_a_source(name: str) -> None:
    fact = FACTS[name]
    assert fact.what and fact.source
    bounds = [bound for bound in (fact.since, fact.before) if bound]
    assert bounds and sorted(bounds, key=Version) == bounds
    assert all(len(Version(bound).release) == 3 for bound in bounds), "a release in full: 0.8.0, not 0.8"


@pytest.mark.parametrize("name", FACTS)
def test_a_bound_belongs_to_what_begins_there(name: str) -> None:
    fact = FACTS[name]
    if fact.since:
        assert fact(fact.since) and fact(f"{fact.since}.dev1") and fact(f"{fact.since}+cu128")
    if fact.before:
        assert not fact(fact.before) and not fact(f"{fact.before}rc1")
    assert fact("0.0.1") == (fact.since is None)
    assert fact("99.0") == fact("a fork") == (fact.before is None)
    assert fact.specifier.contains(fact.since or "0.0.1")


def test_facts_in_words() -> None:
    assert Fact("", since="0.17.0").span == "0.17.0 and later"
    assert Fact("", before="0.8.0").span == "before 0.8.0"
    assert Fact("", "0.17.0", "0.28.0").span == "0.17.0 to before 0.28.0"


@pytest.mark.parametrize(
    ("version", "model_type", "expected"),
    [
        ("0.21.0", "qwen3", False),
        ("0.22.0", "qwen3", True),
        ("0.22.1", "llama", False),
        ("0.23.0", "llama", True),
        ("0.25.1", "qwen2", True),
        ("0.30.0", "mixtral", True),
    ],
)
def test_which_models_run_on_the_second_runner(version: str, model_type: str, expected: bool) -> None:
    is_moe = model_type == "mixtral"
    runs = engine.has_second_runner(version, model_type, is_moe=is_moe, is_hybrid=False, is_quantized=False)
    assert runs == expected


def test_quantized_models_waited_for_the_second_runner() -> None:
    def runs(version: str) -> bool:
        return engine.has_second_runner(version, "qwen3", is_moe=False, is_hybrid=False, is_quantized=True)

    assert [runs(version) for version in ("0.22.1", "0.23.0", "0.24.0", "0.25.1")] == [False, False, True, True]


def test_models_with_experts_or_states_waited_longer() -> None:
    def runs(version: str, model_type: str) -> bool:
        return engine.has_second_runner(version, model_type, is_moe=True, is_hybrid=False, is_quantized=False)

    assert runs("0.25.1", "qwen2_moe") and not runs("0.25.1", "qwen3_moe") and not runs("0.28.0", "deepseek_v3")
    assert runs("0.29.0", "qwen3_moe") and runs("0.29.0", "deepseek_v3")
