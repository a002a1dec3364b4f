"""What each shipped strategy says against a run, and how a strategy of a plugin is named."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nexus_orch.contracts import name_strategy
from nexus_orch.types import GpuSpec, HardwareSpec, MemorySpec, RunSpec
from tests.plugins.plans import shipped_plugins

BROKEN = {
    "vram_only": {
        "cpu offload": MemorySpec(cpu_offload_gib=4),
        "kv offload": MemorySpec(kv_offload_gib=4),
        "kv folder": MemorySpec(kv_offload_dir="/kv"),
        "parameters": MemorySpec(offload_params=("experts",)),
        "backend": MemorySpec(offload_backend="uva"),
    },
    "hybrid": {"nothing": MemorySpec(cpu_offload_gib=0.0), "no GPU": MemorySpec()},
}
GOOD = {
    "vram_only": [MemorySpec(cpu_offload_gib=0, kv_offload_gib=0)],
    "hybrid": [
        MemorySpec(cpu_offload_gib=4, offload_backend="uva"),
        MemorySpec(cpu_offload_gib=0, kv_offload_gib=8),
    ],
}


def make_spec(strategy: str, name: str, memory: MemorySpec) -> RunSpec:
    cards = GpuSpec(count=0 if name == "no GPU" else None)
    return RunSpec("x", memory=replace(memory, strategy=strategy), hardware=HardwareSpec(gpu=cards))


@pytest.mark.parametrize(("strategy", "name"), [(s, name) for s, cases in BROKEN.items() for name in cases])
def test_a_contradiction_is_told_with_value_and_remedy(strategy: str, name: str) -> None:
    spec = make_spec(strategy, name, BROKEN[strategy][name])
    (problem,) = shipped_plugins().judge(spec)
    assert problem.key is not None
    assert problem.value == spec.get(problem.key)
    assert problem.remedy


@pytest.mark.parametrize(("strategy", "memory"), [(s, memory) for s, cases in GOOD.items() for memory in cases])
def test_no_contradiction(strategy: str, memory: MemorySpec) -> None:
    assert shipped_plugins().judge(make_spec(strategy, "", memory)) == []


@pytest.mark.parametrize("strategy", BROKEN)
def test_every_rule_is_broken_by_one_example_only(strategy: str) -> None:
    specs = [make_spec(strategy, name, memory) for name, memory in BROKEN[strategy].items()]
    rules = shipped_plugins().loaders()[strategy].rules
    assert [sum(rule.broken(spec) for spec in specs) for rule in rules] == [1] * len(specs)


@pytest.mark.parametrize("strategy", [None, "no_such_strategy"])
def test_an_open_or_unknown_strategy_has_no_rules(strategy: str | None) -> None:
    spec = RunSpec("x", memory=MemorySpec(strategy=strategy, cpu_offload_gib=4, offload_backend="uva"))
    assert shipped_plugins().judge(spec) == []


def test_a_strategy_is_named_by_its_profile_where_it_has_one() -> None:
    hybrid = shipped_plugins().loaders()["hybrid"]
    assert name_strategy(hybrid) == "memory=hybrid"

    class Half(type(hybrid)):  # type: ignore[misc]
        name = "half"
        profile = None

    assert name_strategy(Half()) == "memory.strategy=half"
