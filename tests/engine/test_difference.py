"""What counts as a difference: settings, command lines and options of two engines, from plans made of settings only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from nexus_orch.adapt.difference import Change, Difference, Side, describe_change, make_difference, split_options
from nexus_orch.facts.engine.installed import make_assumed_engine
from nexus_orch.facts.options.catalogue import catalogue_flags
from nexus_orch.plan.model.families import parse_architecture
from nexus_orch.plan.release.generations import choose_generation
from nexus_orch.types import Flag
from tests.plugins.plans import plan_of, render

LLAMA = parse_architecture(
    {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 1000,
        "max_position_embeddings": 2048,
    }
)


def _side(version: str, settings: Mapping[str, Any], *, cpu: bool = False) -> Side:
    plan, engine = plan_of(settings), make_assumed_engine(version, cpu=cpu)
    rendering = render(plan, version, cpu=cpu)
    told = replace(plan, problems=rendering.problems)
    return Side(engine, "v", told, rendering, choose_generation(engine, LLAMA, quantized=False))


def _compare(before: str, after: str, settings: Mapping[str, Any], *, cpu: bool = False) -> Difference:
    return make_difference(_side(before, settings, cpu=cpu), _side(after, settings, cpu=cpu))


@pytest.mark.parametrize(
    ("before", "after", "settings", "change"),
    [
        ("0.16.0", "0.32.0", {"memory.kv_cache.size_gib": 2}, "renamed"),
        ("0.16.0", "0.32.0", {"serve.port": 8000}, None),
        ("0.16.0", "0.33.0", {"memory.kv_cache.calculate_scales": True}, "refused"),
        ("0.33.0", "0.25.1", {"memory.kv_cache.calculate_scales": True}, "accepted"),
    ],
)
def test_what_happens_to_one_setting(before: str, after: str, settings: dict[str, Any], change: Change | None) -> None:
    changes = _compare(before, after, settings, cpu=True).settings
    assert [(found.key, found.change) for found in changes] == ([(next(iter(settings)), change)] if change else [])


def test_words_before_and_after() -> None:
    (change,) = _compare("0.16.0", "0.32.0", {"memory.kv_cache.size_gib": 2}, cpu=True).settings
    assert change.before is not None and change.before.words == ("VLLM_CPU_KVCACHE_SPACE=2",)
    assert change.after is not None and change.after.words == ("--kv-cache-memory-bytes", "2147483648")


def test_settings_of_one_side_only() -> None:
    before, after = _side("0.25.1", {"serve.port": 1}), _side("0.25.1", {"serve.host": "h"})
    changes = {change.key: change.change for change in make_difference(before, after).settings}
    assert changes == {"serve.port": "vanishes", "serve.host": "appears"}


def test_the_lines_of_both_commands_can_be_told_apart() -> None:
    before, after = _side("0.25.1", {"serve.port": 1}), _side("0.25.1", {"serve.port": 2})
    lines = make_difference(before, after).command
    assert lines == ((" ", "vllm serve /models/m"), ("-", "--port 1"), ("+", "--port 2"))


def test_the_same_engine_twice_differs_in_nothing() -> None:
    difference = _compare("0.25.1", "0.25.1", {"serve.port": 1})
    assert difference.is_same_engine
    assert (difference.settings, difference.rules) == ((), ())
    assert not (difference.options.changed or difference.options.appeared or difference.options.vanished)


def test_every_option_is_kept_gone_new_or_another_name() -> None:
    options = _compare("0.16.0", "0.25.1", {}).options
    before, after = catalogue_flags("0.16.0"), catalogue_flags("0.25.1")
    assert {flag.name for flag in options.appeared}.isdisjoint(before)
    assert {flag.name for flag in options.vanished}.isdisjoint(after)
    aliases = {alias for flag in (*before.values(), *after.values()) for alias in flag.aliases}
    assert after.keys() - before.keys() - {flag.name for flag in options.appeared} <= aliases
    assert all(list(describe_change(first, second)) for first, second in options.changed)


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (Flag("--x", "store_true"), Flag("--x", "bool_optional"), "has a --no- form (before: takes nothing)"),
        (Flag("--x", "value", type="int"), Flag("--x", "value"), "read as text (before: whole number)"),
        (Flag("--x", "value", choices=("a", "b")), Flag("--x", "value", choices=("b", "c")), "values +c -a"),
        (Flag("--x", "value"), Flag("--x", "value", choices=("a",)), "takes only a"),
        (Flag("--x", "value", default=0.9), Flag("--x", "value", default=0.92), "default 0.9 -> 0.92"),
        (Flag("--x", "value"), Flag("--x", "value", default_text="f()"), "default null -> f()"),
        (Flag("--x", "value"), Flag("--x", "value", nargs="+"), "number of values: one -> +"),
    ],
)
def test_what_changed_about_an_option(before: Flag, after: Flag, told: str) -> None:
    assert list(describe_change(before, after)) == [told]


@pytest.mark.parametrize(
    ("argv", "head", "options"),
    [
        (("serve", "m", "--a", "1", "--b"), ("serve", "m"), (("--a", "1"), ("--b",))),
        (("--model", "m"), (), (("--model", "m"),)),
        (("serve", "m"), ("serve", "m"), ()),
        ((), (), ()),
    ],
)
def test_options_are_split_from_the_rest(
    argv: tuple[str, ...], head: tuple[str, ...], options: tuple[tuple[str, ...], ...]
) -> None:
    assert split_options(argv) == (head, options)
