"""Check `serve.extra_args` against the options that the engine really has, before anything is started.

What `vllm serve` accepts beyond plain options is accepted here too: underscores for dashes, `--x=value`, `--no-x`,
short names, dotted JSON keys (`--compilation-config.mode 3`) and `-O3`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from packaging.version import Version

from nexus_orch.adapt.substitutes import find_substitute
from nexus_orch.adapt.values import read_value
from nexus_orch.adapt.ways import INSTEAD_OF_SWAP, NO_SWAP, V1_VARIABLE, Part, find_release
from nexus_orch.errors import Problem, render_value
from nexus_orch.facts.options.catalogue import releases_where, render_releases
from nexus_orch.suggest import suggest
from nexus_orch.types import Cause, EngineFacts, Flag, RunSpec

KEY = "serve.extra_args"
_LEVELS = ("0", "1", "2", "3")
_NUMBER = re.compile(r"-\d")
_SECRETS = {
    "--api-key": "serve.api_key_env=NAME, the variable that holds the key",
    "--hf-token": "set HF_TOKEN in the environment that the run is started from",
}


OFFLOAD_OPTIONS: Mapping[str, str] = {
    "--cpu-offload-gb": "memory.cpu_offload_gib",
    "--cpu-offload-params": "memory.offload_params",
    "--offload-backend": "memory.offload_backend",
    "--offload-group-size": "memory.prefetch.group_size",
    "--offload-num-in-group": "memory.prefetch.num_in_group",
    "--offload-prefetch-step": "memory.prefetch.step",
    "--offload-params": "memory.offload_params",
}
"""Options that decide together which weights leave the cards and how, each with its setting: where the plan says one of
them, another one by hand contradicts it."""


@dataclass(frozen=True)
class Given:
    """One option as the user wrote it: `name` without value, `values` what follows it or stands after `=`."""

    name: str
    values: tuple[str, ...]
    is_assigned: bool = False

    @property
    def spelling(self) -> str:
        """The name as the parser reads it: dashes for underscores, without dotted keys."""
        root = self.name.partition(".")[0]
        return "--" + root[2:].replace("_", "-") if root.startswith("--") else root


def check_extra_args(spec: RunSpec, engine: EngineFacts, said: Mapping[str, str]) -> Part:
    """The extra arguments as they go to the engine, and what is wrong with them.

    `said` maps the options that settings of the plan say already to the keys of those settings; also those that a
    pinned setting says by leaving them out.
    """
    options = list(parse_extra_args(spec.serve.extra_args))
    mistakes = [mistake for given in options for mistake in _judge(given, spec, engine, said)]
    mistakes += _find_repeated(options, engine)
    origin = spec.origin(KEY)
    problems = [Problem(found.message, KEY, found.value, origin, found.remedy, found.cause) for found in mistakes]
    shows_secret = any(found.is_secret for found in mistakes)
    return Part(argv=[] if shows_secret else list(spec.serve.extra_args), problems=problems)


@dataclass(frozen=True)
class _Mistake:
    """`value` is the part of the extra arguments that is wrong."""

    message: str
    value: str
    remedy: str | None = None
    cause: Cause | None = None
    is_secret: bool = False


def _judge(given: Given, spec: RunSpec, engine: EngineFacts, said: Mapping[str, str]) -> Iterator[_Mistake]:
    """What is wrong with one option, if anything."""
    name, written = given.name, " ".join((given.name, *given.values))
    if not name.startswith("-"):
        remedy = "every value follows its option"
        yield _Mistake("this word belongs to no option", name, remedy, "unrecognized_argument")
        return
    if name.startswith("-O"):
        wrong, remedy_or_none = _judge_level(engine, given)
        if wrong is not None:
            yield _Mistake(f"vLLM {engine.version} {wrong}", written, remedy_or_none, "unrecognized_argument")
        return
    flag = find_flag(engine, given.spelling)
    if flag is None:
        remedy = _suggest(engine, given.spelling)
        yield _Mistake(f"vLLM {engine.version} has no {name}", name, remedy, "unrecognized_argument")
    elif flag.name in _SECRETS and given.values:
        message = "a secret on the command line can be read by every process"
        yield _Mistake(message, name, _SECRETS[flag.name], is_secret=True)
    elif flag.name in said:
        key = said[flag.name]
        yield _Mistake(f"{key} says {flag.name} already", name, _instead(spec, key, name))
    elif (same := _find_same_subject(flag, said)) is not None:
        key, others = same
        yield _Mistake(f"the plan decides this with {', '.join(others)}", name, _instead(spec, key, name))
    elif flag.name == "--swap-space" and _has_no_swap(spec, engine):
        yield _Mistake(NO_SWAP, name, INSTEAD_OF_SWAP)
    elif (wrong := _judge_values(flag, given)) is not None:
        yield _Mistake(f"{name} {wrong}", written)


def _instead(spec: RunSpec, key: str, name: str) -> str:
    """What to do instead of an extra argument for what the setting `key` decides."""
    if not is_settable(spec, key):
        return f"leave {name} out: the planner works it out"
    pinned = read_pin(spec, key)
    now = "" if pinned is None else f" (now {render_value(pinned)})"
    return f"set {key} instead, and leave {name} out{now}"


def is_settable(spec: RunSpec, key: str) -> bool:
    """Whether a user can set this setting of a plan; some only the planner makes."""
    try:
        spec.get(key)
    except (AttributeError, KeyError):
        return False
    return True


def read_pin(spec: RunSpec, key: str) -> Any:
    """The value that somebody gave this setting, None where it is open or what every run has."""
    if not is_settable(spec, key):
        return None
    value, everywhere = spec.get(key), RunSpec(name="")
    is_default = is_settable(everywhere, key) and value == everywhere.get(key)
    return None if is_default or value == "auto" else value


def _find_same_subject(flag: Flag, said: Mapping[str, str]) -> tuple[str, list[str]] | None:
    """The setting of this option, and the options by which the plan decides its subject already."""
    others = [other for other in OFFLOAD_OPTIONS if other in said]
    return (OFFLOAD_OPTIONS[flag.name], others) if flag.name in OFFLOAD_OPTIONS and others else None


def _find_repeated(options: Sequence[Given], engine: EngineFacts) -> Iterator[_Mistake]:
    """Options that are given twice or both ways: vLLM takes the last one without a word. Keys of JSON add up."""
    seen: dict[str, Given] = {}
    for given in options:
        flag = find_flag(engine, given.spelling)
        if flag is None or flag.kind == "append" or "." in given.name or flag.name in _SECRETS:
            continue
        first = seen.setdefault(flag.name, given)
        if first is not given:
            is_both_ways = first.spelling.startswith("--no-") != given.spelling.startswith("--no-")
            message = f"{flag.name} is given {'both ways' if is_both_ways else 'twice'}"
            value = " ".join((first.name, *first.values, given.name, *given.values))
            yield _Mistake(message, value, "keep one of them: vLLM would take the last")


def _has_no_swap(spec: RunSpec, engine: EngineFacts) -> bool:
    """Whether this release takes --swap-space and ignores it: the V1 engine, unless the V0 engine is asked for."""
    return find_release(engine) >= Version("0.8") and spec.engine.env.get(V1_VARIABLE) != "0"


def parse_extra_args(tokens: Sequence[str]) -> Iterator[Given]:
    """The options among the tokens, each with the values up to the next one. Negative numbers are values."""
    name: str | None = None
    values: list[str] = []
    for token in tokens:
        if token.startswith("-") and not _NUMBER.match(token):
            if name is not None:
                yield Given(name, tuple(values))
            name, values = token, []
            if "=" in token:
                option, _, value = token.partition("=")
                yield Given(option, (value,), is_assigned=True)
                name = None
        elif name is None:
            yield Given(token, ())
        else:
            values.append(token)
    if name is not None:
        yield Given(name, tuple(values))


def find_flag(engine: EngineFacts, spelling: str) -> Flag | None:
    """The option of that spelling; the --no- form of a switch means the switch."""
    flag = engine.flag(spelling)
    if flag is None and spelling.startswith("--no-"):
        flag = engine.flag("--" + spelling.removeprefix("--no-"))
        return flag if flag is not None and flag.kind == "bool_optional" else None
    return flag


def _judge_level(engine: EngineFacts, given: Given) -> tuple[str | None, str | None]:
    """What is wrong with -O, and the remedy. It was the short name of --compilation-config from 0.6.6 to 0.11.2, with
    levels as `-O3`; since 0.12 it is --optimization-level (utils/argparse_utils.py) and -cc the configuration."""
    attached = given.name[2:]
    values = (attached, *given.values) if attached and not attached.startswith(".") else given.values
    is_level = len(values) == 1 and values[0] in _LEVELS
    if engine.flag("--optimization-level") is not None:
        if is_level and not attached.startswith("."):
            return None, None
        return "takes a level from 0 to 3 after -O", "use -cc for the configuration, as in -cc.mode=3"
    if engine.flag("-O") is None:
        return "has no -O", f"{render_releases(releases_where('--compilation-config'))} of vLLM have it"
    is_config = bool(values) and values[0].lstrip().startswith("{")
    if is_level or is_config or attached.startswith("."):
        return None, None
    return "takes a level from 0 to 3 or a configuration in JSON after -O", """as in -O3 or -O '{"level": 3}'"""


def _suggest(engine: EngineFacts, spelling: str) -> str:
    """The substitute, else the nearest name; and the releases that have the option."""
    had = releases_where(spelling)
    remedies = [f"{render_releases(had)} of vLLM have it"] if had else []
    substitute = find_substitute(engine, spelling)
    if substitute is not None:
        return "; ".join([substitute, *remedies])
    spellings = [name for flag in engine.flags.values() for name in (flag.name, *flag.aliases)]
    spellings += [f"--no-{flag.name[2:]}" for flag in engine.flags.values() if flag.kind == "bool_optional"]
    question = suggest(spelling, spellings)
    remedies = [question, *remedies] if question else remedies
    return "; ".join(remedies) or "`nexus engine flags` lists the options"


def _judge_values(flag: Flag, given: Given) -> str | None:
    """What is wrong with the values of an option, or None."""
    if "." in given.name:
        is_json = flag.kind == "json" or any(word in (flag.type or "") for word in ("json", "from_cli"))
        return None if is_json and len(given.values) == 1 else "takes one value" if is_json else "takes no keys of JSON"
    if flag.kind in ("store_true", "bool_optional"):
        return "takes no value" if given.values else None
    if not given.values:
        return None if flag.kind in ("optional_value", "bool_value", "other") else "needs a value"
    if len(given.values) > 1 and flag.nargs is None and flag.kind != "other":
        return f"takes one value, not {len(given.values)}"
    try:
        for value in given.values:
            read_value(flag, value)
    except ValueError as error:
        return str(error)
    return None
