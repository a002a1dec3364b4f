"""The arguments of vllm serve in every spelling: what our reader finds is what Python's own parser finds."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any, NoReturn

import pytest
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from nexus_orch.adapt.arguments import Argument, Arguments, find_elsewhere, read_arguments
from nexus_orch.adapt.config_file import insert_config, split_config, words_of_config
from nexus_orch.facts.engine.installed import make_assumed_engine
from nexus_orch.releases.known import known_releases
from nexus_orch.types import EngineFacts, Flag

ENGINE = make_assumed_engine("0.32.0")
RELEASES = known_releases()


def _read(*words: str, version: str = "0.32.0") -> Arguments:
    return read_arguments(words, make_assumed_engine(version))


def _told(*words: str, version: str = "0.32.0") -> list[tuple[str, ...]]:
    """Each option spelt out."""
    return [option.words for option in _read(*words, version=version).options]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--max_model_len", "32k"), ("--max-model-len", "32k")),
        (("--max-model-len=32k",), ("--max-model-len", "32k")),
        (("--max-model-l", "32k"), ("--max-model-len", "32k")),
        (("-tp", "2"), ("--tensor-parallel-size", "2")),
        (("-tp=2",), ("--tensor-parallel-size", "2")),
        (("-qawq",), ("--quantization", "awq")),
        (("--no_async_sched",), ("--no-async-scheduling",)),
        (("--generation-conf", "vllm"), ("--generation-config", "vllm")),
        (("-cc.pass_config.x", "-1"), ("--compilation-config.pass_config.x", "-1")),
        (("--compilation_conf.a_b+=x,y",), ("--compilation-config.a_b+", "x,y")),
        (("-O3",), ("-O3",)),
        (("-O", "3"), ("-O3",)),
        (("--lora-modules", "a=b", "c=d"), ("--lora-modules", "a=b", "c=d")),
        (("--seed", "-7"), ("--seed", "-7")),
        (("--chat-template", "{{ - x }}"), ("--chat-template", "{{ - x }}")),
        (("--chat-template", "-- x"), ("--chat-template=-- x",)),
    ],
)
def test_every_spelling_is_spelt_out(words: tuple[str, ...], told: tuple[str, ...]) -> None:
    assert _told(*words) == [told]
    assert _told(*told) == [told]


def test_a_level_is_what_the_release_makes_of_it() -> None:
    assert [option.flag and option.flag.name for option in _read("-O3").options] == ["--optimization-level"]
    assert [option.flag and option.flag.name for option in _read("-O3", version="0.9.2").options] == [
        "--compilation-config"
    ]
    assert _told("-O.level=3", version="0.9.2") == [("--compilation-config.level", "3")]
    assert _read("-O3", version="0.5.5").options[0].flag is None
    assert _read("-O", "deep").options[0].flag is None


def test_words_that_belong_to_no_option_stay_where_they_stand() -> None:
    read = _read("model", "--enforce-eager", "true", "--seed", "1", "2", "--", "--dtype", "half")
    assert read.first == ("model",)
    assert read.positionals == ("model", "true", "2", "--dtype", "half")
    assert [option.strays for option in read.options] == [("true",), ("2", "--dtype", "half")]
    assert read.options[0].with_strays.values == ("true",)


def test_a_beginning_of_several_is_none_of_them() -> None:
    (option,) = _read("--max-num", "4").options
    assert option.flag is None
    assert {"--max-num-seqs", "--max-num-batched-tokens"} <= set(option.candidates)


def test_an_option_of_other_releases_is_not_short_for_another() -> None:
    """--device ended with 0.13; argparse would take it for --device-ids."""
    (option,) = _read("--device", "cuda").options
    assert (option.flag, option.candidates) == (None, ())


# Against Python's own parser


class _Refused(Exception):  # noqa: N818
    pass


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise _Refused(message)


def _make_parser(engine: EngineFacts) -> _Parser:
    """argparse with the release's options, as vLLM declares them; values stay text."""
    parser = _Parser(add_help=False)
    parser.add_argument("positionals", nargs="*")
    for flag in engine.flags.values():
        parser.add_argument(flag.name, *flag.aliases, dest=flag.name, **_declare(flag))
    return parser


def _declare(flag: Flag) -> Mapping[str, Any]:
    match flag.kind:
        case "store_true":
            return {"action": "store_true", "default": None}
        case "bool_optional":
            return {"action": argparse.BooleanOptionalAction, "default": None}
        case "append":
            return {"action": "append"}
    return {"nargs": flag.nargs, "const": "CONST"} if flag.nargs == "?" else {"nargs": flag.nargs}


ENGINES = {version: make_assumed_engine(version) for version in (RELEASES[0], "0.9.2", RELEASES[-1])}
PARSERS = {version: _make_parser(engine) for version, engine in ENGINES.items()}


def _collect(options: tuple[Argument, ...]) -> dict[str, Any]:
    """What argparse would keep of our reading: of each option the last, all of those that append."""
    values: dict[str, Any] = {}
    for option in options:
        assert option.flag is not None
        flag, given_values = option.flag, list(option.values)
        if flag.kind in ("store_true", "bool_optional"):
            values[flag.name] = not option.is_negated
        elif flag.kind == "append":
            values[flag.name] = [*values.get(flag.name, []), *given_values]
        elif flag.nargs in ("+", "*"):
            values[flag.name] = given_values
        else:
            values[flag.name] = given_values[0] if given_values else "CONST"
    return values


VALUES = ["1", "-1", "-0.5", "-.5", "half", "a b", "-a b", "", "-", '{"a": 1}', "x=y"]


@st.composite
def _command_lines(draw: st.DrawFn) -> tuple[str, list[str]]:
    """Options whole or cut short, with = or without, most of them with as many values as they take."""
    version = draw(st.sampled_from(sorted(ENGINES)))
    flags = list(ENGINES[version].flags.values())
    words = draw(st.sampled_from([("org/model",), ()]))
    for _ in range(draw(st.integers(1, 4))):
        flag = draw(st.sampled_from(flags))
        name = draw(st.sampled_from(_names_of(flag)))
        if name.startswith("--") and draw(st.integers(0, 3)) == 0:
            name = name[: draw(st.integers(max(3, len(name) - 6), len(name)))]
        takes = 0 if flag.kind in ("store_true", "bool_optional") else 1
        count = draw(st.sampled_from([takes, takes, takes, 0, 1, 2]))
        values = [draw(st.sampled_from(VALUES)) for _ in range(count)]
        words += (f"{name}={values[0]}",) if count and draw(st.booleans()) else (name, *values)
    strange = ("-5k", "--", "--seed-of-none", "stray")
    words += draw(st.sampled_from([(), (), (), (), *((word,) for word in strange)]))
    return version, list(words)


def _names_of(flag: Flag) -> list[str]:
    names = [flag.name, *flag.aliases]
    negatable = [name for name in names if flag.kind == "bool_optional" and name.startswith("--")]
    return [*names, *(f"--no-{name[2:]}" for name in negatable)]


@settings(max_examples=600, deadline=None)
@given(_command_lines())
def test_our_reader_and_argparse_find_the_same(line: tuple[str, list[str]]) -> None:
    version, words = line
    spelt = [word.partition("=")[0] for word in words]
    assume(not any(_is_of_other_releases(name, ENGINES[version]) for name in spelt))
    read = read_arguments(words, ENGINES[version])
    if any(option.flag is None for option in read.options):
        event("an option is not known")
        with pytest.raises(_Refused):
            PARSERS[version].parse_args(words)
        return
    try:
        namespace = vars(PARSERS[version].parse_intermixed_args(words))
    except _Refused as refused:
        event("the number of values is wrong")
        assert "argument" in str(refused)  # the number of values: told by judge_count, from what was read
        return
    event("read alike")
    assert list(read.positionals) == namespace.pop("positionals")
    assert _collect(read.options) == {name: value for name, value in namespace.items() if value is not None}


def _is_of_other_releases(name: str, engine: EngineFacts) -> bool:
    return engine.flag(name) is None and find_elsewhere(name) is not None


@given(_command_lines())
def test_what_is_spelt_out_means_the_same(line: tuple[str, list[str]]) -> None:
    version, words = line
    read = read_arguments(words, ENGINES[version])
    assume(all(option.flag is not None for option in read.options))
    spelt_out = [word for option in read.options for word in option.words]
    again = read_arguments(spelt_out, ENGINES[version])
    assert _collect(again.options) == _collect(read.options)


# The file of --config

CONTENT = {
    "model": "org/other",
    "port": 9000,
    "enable-prefix-caching": False,
    "enforce-eager": True,
    "lora-modules": ["a=b", "c=d"],
    "middleware": [],
    "compilation-config": {"pass_config": {"x": True}},
}


def test_a_config_file_stands_behind_the_model_and_before_the_rest() -> None:
    argv = ("org/model", "--seed", "1", "--config", "serve.yaml", "-tp", "2")
    name, rest = split_config(argv)
    assert (name, rest) == ("serve.yaml", ("org/model", "--seed", "1", "-tp", "2"))
    words = insert_config(rest, {"model": "org/other", "port": 9000}, ENGINE)
    assert words == ("org/model", "--port", "9000", "--seed", "1", "-tp", "2")
    assert insert_config(("--seed", "1"), {"model_tag": "org/other"}, ENGINE) == ("--model", "org/other", "--seed", "1")
    assert split_config(("org/model", "--config=serve.yaml")) == ("serve.yaml", ("org/model",))
    assert split_config(("org/model", "--config-format", "x")) == (None, ("org/model", "--config-format", "x"))


def test_a_switch_that_is_false_says_what_the_release_makes_of_it() -> None:
    words = words_of_config(CONTENT, ENGINE)
    assert words[:5] == ["--model", "org/other", "--port", "9000", "--no-enable-prefix-caching"]
    assert words[5:] == [
        "--enforce-eager",
        *("--lora-modules", "a=b", "c=d"),
        *("--compilation-config", '{"pass_config": {"x": true}}'),
    ]
    assert "--no-enable-prefix-caching" not in words_of_config(CONTENT, make_assumed_engine("0.27.1"))
    assert words_of_config({"no-such-switch": False}, ENGINE) == []
