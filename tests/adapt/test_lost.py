"""A setting whose option vanished is told: no known release loses one without a word, and a made one does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from nexus_orch.adapt.generations import V2
from nexus_orch.adapt.render import TableAdapter
from nexus_orch.choose import choose_adapter
from nexus_orch.facts.engine.installed import make_assumed_engine
from nexus_orch.releases.fact import Fact
from nexus_orch.releases.known import known_releases
from nexus_orch.releases.options import RENAMED, names_of
from nexus_orch.types import EngineFacts, Flag
from tests.plugins.plans import plan_of, shipped_plugins
from tests.releases.ends import NEXT

BASE = "0.33.0"
KEY, OLD, NEW = "serve.max_num_batched_tokens", "--max-num-batched-tokens", "--max-num-batch-tokens"


@pytest.mark.parametrize("cpu", [False, True])
@pytest.mark.parametrize("release", known_releases())
def test_no_release_loses_a_setting_without_a_word(release: str, cpu: bool) -> None:
    adapter = choose_adapter(shipped_plugins().adapters(), release, None)
    assert isinstance(adapter, TableAdapter)
    lost = [lost.render(release) for lost in adapter.find_lost(make_assumed_engine(release, cpu=cpu))]
    assert lost == [], "a new name is a line in RENAMED (nexus_orch/releases/options.py); else the setting needs a Way"


def _next(change: Mapping[str, str | None]) -> EngineFacts:
    """An engine after all known ones, with options that have another name or, with None, are gone."""
    flags: dict[str, Flag] = {}
    for name, flag in make_assumed_engine(BASE).flags.items():
        now = change.get(name, name)
        if now is not None:
            flags[now] = replace(flag, name=now)
    return replace(make_assumed_engine(BASE), version=NEXT, flags=flags)


@pytest.fixture
def renamed() -> object:
    RENAMED[OLD, NEW] = Fact("the tokens of a step are --max-num-batch-tokens", since=NEXT, source="a test")
    names_of.cache_clear()
    yield
    del RENAMED[OLD, NEW]
    names_of.cache_clear()


def test_a_new_name_is_guessed() -> None:
    (told,) = V2.render(plan_of({}), _next({OLD: NEW})).notes
    assert told.startswith(f"{KEY} is lost: vLLM {NEXT} has no {OLD}")
    assert told.endswith(f"perhaps it is {NEW} now")


def test_what_is_gone_has_no_guess() -> None:
    engine = _next({"--served-model-name": None, "--safetensors-load-strategy": None})
    assert [(lost.key, lost.nearest) for lost in V2.find_lost(engine)] == [
        ("model.served_name", None),
        ("memory.load_strategy", None),
    ]


def test_a_pinned_setting_that_is_lost_is_refused() -> None:
    plan = plan_of({KEY: 4096})
    rendering = V2.render(plan, _next({OLD: NEW}))
    assert NEW not in rendering.argv
    (problem,) = rendering.problems
    assert problem.key == KEY
    assert f"perhaps it is {NEW} now" in str(problem.remedy)


def test_a_known_new_name_is_no_loss(renamed: None) -> None:
    rendering = V2.render(plan_of({KEY: 4096}), _next({OLD: NEW}))
    assert rendering.argv[rendering.argv.index(NEW) + 1] == "4096"
    assert rendering.notes == ()
    assert rendering.said[NEW] == KEY
