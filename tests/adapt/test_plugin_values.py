"""Whatever a user gives a plugin's setting: the option gets what it reads, or the setting is refused."""

from __future__ import annotations

import pytest

from nexus_orch.adapt.generations import V2, extend
from nexus_orch.adapt.ways import Way
from nexus_orch.choose import describe_stretch
from nexus_orch.facts.engine.installed import make_assumed_engine
from nexus_orch.testing.plans import make_settings_plan
from nexus_orch.types import Plan
from tests.releases.ends import NEXT

MINE = extend(
    V2,
    name="mine",
    table={
        "plugin.seed": (Way("--seed"),),
        "plugin.mode": (Way("--logprobs-mode"),),
        "plugin.sleep": (Way("--enable-sleep-mode"),),
    },
)
ENGINE = make_assumed_engine("0.25.1")


def told(plan: Plan) -> list[tuple[str | None, str | None]]:
    return [(problem.message.partition(": ")[2], problem.remedy) for problem in MINE.render(plan, ENGINE).problems]


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("plugin.seed", 7, ["--seed", "7"]),
        ("plugin.seed", "7", ["--seed", "7"]),
        ("plugin.mode", "raw_logits", ["--logprobs-mode", "raw_logits"]),
        ("plugin.sleep", True, ["--enable-sleep-mode"]),
        ("plugin.sleep", False, ["--no-enable-sleep-mode"]),
    ],
)
def test_what_the_option_reads_is_said(key: str, value: object, words: list[str]) -> None:
    rendering = MINE.render(make_settings_plan({key: value}), ENGINE)
    assert rendering.problems == ()
    assert list(rendering.argv[2:]) == words


@pytest.mark.parametrize(
    ("key", "value", "message", "remedy"),
    [
        ("plugin.seed", "abc", "--seed takes a whole number, not abc", "plugin.seed=null"),
        ("plugin.seed", 1.5, "--seed takes whole numbers only in this release", "plugin.seed=2"),
        ("plugin.seed", True, "--seed takes a whole number, not True", "plugin.seed=null"),
        ("plugin.sleep", "yes", "--enable-sleep-mode is switched on or off: it takes true or false, not yes", "null"),
        ("plugin.sleep", 1, "--enable-sleep-mode is switched on or off: it takes true or false, not 1", "null"),
        ("plugin.mode", "raw_logit", "--logprobs-mode does not know raw_logit", "did you mean raw_logits?"),
    ],
)
def test_anything_else_is_refused(key: str, value: object, message: str, remedy: str) -> None:
    [(said, advice)] = told(make_settings_plan({key: value}))
    assert said == message
    assert remedy in str(advice)


@pytest.mark.parametrize(
    ("version", "is_told"),
    [("0.25.1", False), ("0.22", False), ("0.20", True), (f"{NEXT}.dev1", False), ("0.4.3", True), ("main", True)],
)
def test_an_adapter_that_is_named_for_a_release_that_it_does_not_know(version: str, is_told: bool) -> None:
    assert bool(describe_stretch(MINE, version)) is is_told
