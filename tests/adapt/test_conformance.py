"""The suite for adapters of others: ours keep every promise, and each broken promise is found."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from packaging.specifiers import SpecifierSet

from nexus_orch.adapt.generations import V0, V1, V2, extend
from nexus_orch.adapt.render import TableAdapter
from nexus_orch.adapt.settings import SETTINGS
from nexus_orch.adapt.ways import Way
from nexus_orch.contracts import Rendering
from nexus_orch.errors import ConfigError, Problem
from nexus_orch.facts.engine.installed import make_assumed_engine
from nexus_orch.testing import check_adapter, find_illegal_words, make_settings_plan
from nexus_orch.testing.samples import MAY_BE_SILENT
from nexus_orch.types import Choice, EngineFacts, Plan
from tests.plugins.plans import shipped_plugins

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", ["v0", "v1", "v2"])
def test_our_adapters_keep_their_promises(name: str) -> None:
    check_adapter(shipped_plugins().adapters()[name])


Change = Callable[[Plan, EngineFacts, Rendering], Rendering]


@dataclass(frozen=True)
class Spoilt:
    """An adapter whose renderings somebody spoils."""

    change: Change
    name: str = "spoilt"
    versions: SpecifierSet = V2.versions

    def render(self, plan: Plan, engine: EngineFacts) -> Rendering:
        return self.change(plan, engine, V2.render(plan, engine))


def _drop(flag: str) -> Change:
    def change(plan: Plan, engine: EngineFacts, rendering: Rendering) -> Rendering:
        argv = list(rendering.argv)
        if flag in argv:
            del argv[argv.index(flag) : argv.index(flag) + 2]
        return replace(rendering, argv=tuple(argv))

    return change


def _raise(plan: Plan, engine: EngineFacts, rendering: Rendering) -> Rendering:
    raise ConfigError("nothing works")


def _change_pinned(plan: Plan, engine: EngineFacts, rendering: Rendering) -> Rendering:
    return replace(rendering, choices=tuple(Choice(c.key, 1, c.origin, "because") for c in plan.choices))


def _give_no_reason(plan: Plan, engine: EngineFacts, rendering: Rendering) -> Rendering:
    return replace(rendering, choices=(Choice("memory.enforce_eager", True, "derived", ""),))


def _stop_derived(plan: Plan, engine: EngineFacts, rendering: Rendering) -> Rendering:
    found = tuple(Problem("no", c.key, remedy="none") for c in plan.choices if c.origin == "derived")
    return replace(rendering, problems=(*rendering.problems, *found))


BROKEN: dict[str, tuple[Change, str]] = {
    "unknown flag": (lambda p, e, r: replace(r, argv=(*r.argv, "--no-such-flag", "1")), "has no --no-such-flag"),
    "illegal value": (lambda p, e, r: replace(r, argv=(*r.argv, "--dtype", "int3")), "--dtype does not take int3"),
    "wrong type": (lambda p, e, r: replace(r, argv=(*r.argv, "--seed", "x")), "--seed takes int, not x"),
    "value too many": (lambda p, e, r: replace(r, argv=(*r.argv, "--seed", "1", "2")), "--seed takes one value"),
    "no value": (lambda p, e, r: replace(r, argv=(*r.argv, "--seed")), "--seed needs a value"),
    "dropped": (_drop("--max-num-seqs"), "serve.max_num_seqs: pinned to 16, it is neither said nor refused"),
    "no model": (lambda p, e, r: replace(r, argv=("serve", "x", *r.argv[2:])), "the model is not named"),
    "no secret": (lambda p, e, r: replace(r, secret_env={}), "secret_env does not copy"),
    "shown secret": (lambda p, e, r: replace(r, secrets=frozenset()), "not among the secrets"),
    "no problems": (lambda p, e, r: replace(r, problems=()), "plugin.no_such_setting: a setting that it does not know"),
    "raises": (_raise, "a problem belongs into the rendering"),
    "changes": (_change_pinned, "is changed to 1"),
    "no reason": (_give_no_reason, "has no reason"),
    "stops": (_stop_derived, "stops the run"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_promise_is_found(case: str) -> None:
    change, complaint = BROKEN[case]
    with pytest.raises(AssertionError, match=r"breaks .* promises") as caught:
        check_adapter(Spoilt(change), releases=["0.32.0"])
    assert complaint in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("key", sorted(SETTINGS.keys() - MAY_BE_SILENT))
def test_each_setting_that_is_forgotten_is_found(key: str) -> None:
    def forget(plan: Plan, engine: EngineFacts, rendering: Rendering) -> Rendering:
        kept = tuple(choice for choice in plan.choices if choice.key != key)
        return V2.render(replace(plan, choices=kept), engine)

    with pytest.raises(
        AssertionError, match=rf"(?m)^vLLM 0\.25\.1 on \w+: {re.escape(key)}: pinned to .*, it is neither"
    ):
        check_adapter(Spoilt(forget), releases=["0.25.1"])


def test_a_setting_of_the_table_without_a_value_to_try_is_told() -> None:
    own = extend(V2, name="sleepy", versions=">=0.22", table={"plugin.sleep_mode": (Way("--enable-sleep-mode"),)})
    with pytest.raises(AssertionError, match=r"plugin\.sleep_mode: no value of it is tried"):
        check_adapter(own, releases=["0.25.1"])
    check_adapter(own, settings={"plugin.sleep_mode": True}, releases=["0.25.1"])


def test_a_setting_of_ones_own_must_be_said() -> None:
    with pytest.raises(AssertionError, match=r"plugin\.mine: pinned to True, it is neither said nor refused"):
        check_adapter(
            Spoilt(lambda p, e, r: replace(r, problems=tuple(x for x in r.problems if x.key != "plugin.mine"))),
            settings={"plugin.mine": True},
            releases=["0.32.0"],
        )


def test_versions_that_hold_no_known_release_are_told() -> None:
    with pytest.raises(AssertionError, match="name some with releases"):
        check_adapter(TableAdapter("future", SpecifierSet(">=2"), V2.table))


def test_an_older_generation_is_tried_on_its_own_releases() -> None:
    assert V0.versions.contains("0.7.3") and not V1.versions.contains("0.7.3")
    rendering = V0.render(make_settings_plan({"memory.swap_gib": 4}), _engine("0.7.3"))
    assert list(find_illegal_words(rendering.argv, _engine("0.7.3"))) == []
    assert list(find_illegal_words(rendering.argv, _engine("0.33.0"))) == ["vLLM 0.33.0 has no --swap-space"]


def _engine(version: str) -> EngineFacts:
    return make_assumed_engine(version)
