"""Check `serve.extra_args` against the options that the engine really has, before anything is started.

What `vllm serve` accepts beyond plain options is accepted here too (`adapt/arguments.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nexus_orch.adapt.arguments import LEVEL_OPTION, LEVELS, Argument, Spellings, judge_count, read_arguments
from nexus_orch.adapt.config_file import CONFIG_OPTION
from nexus_orch.adapt.substitutes import find_substitute
from nexus_orch.adapt.values import read_value
from nexus_orch.adapt.ways import INSTEAD_OF_SWAP, NO_SWAP, V1_VARIABLE, Part
from nexus_orch.errors import Problem, render_value
from nexus_orch.facts.options.catalogue import releases_where, render_releases
from nexus_orch.releases.engine import v0_by_default
from nexus_orch.releases.options import find_by_option
from nexus_orch.suggest import suggest
from nexus_orch.types import Cause, EngineFacts, Flag, RunSpec

KEY = "serve.extra_args"
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


def check_extra_args(spec: RunSpec, engine: EngineFacts, said: Mapping[str, str]) -> Part:
    """The extra arguments as they go to the engine, and what is wrong with them.

    `said` maps the options that settings of the plan say already to the keys of those settings; also those that a
    pinned setting says by leaving them out.
    """
    given = read_arguments(spec.serve.extra_args, engine)
    mistakes = [_stray(word) for word in given.first]
    mistakes += [mistake for argument in given.options for mistake in _judge(argument.with_strays, spec, engine, said)]
    mistakes += _find_repeated(given.options)
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


def _stray(word: str) -> _Mistake:
    return _Mistake("this word belongs to no option", word, "every value follows its option", "unrecognized_argument")


def _judge(given: Argument, spec: RunSpec, engine: EngineFacts, said: Mapping[str, str]) -> Iterator[_Mistake]:
    """What is wrong with one option, if anything."""
    name, flag = given.name, given.flag
    if name == "-O" or name.startswith("-O."):
        wrong, remedy = _judge_level(engine, given)
        if wrong is not None:
            yield _Mistake(f"vLLM {engine.version} {wrong}", given.written, remedy, "unrecognized_argument")
    elif given.candidates:
        message = f"{name} is short for several options of vLLM {engine.version}"
        yield _Mistake(message, name, f"spell it out: {' or '.join(given.candidates)}", "unrecognized_argument")
    elif flag is None:
        remedy = _suggest(engine, given.spelling)
        yield _Mistake(f"vLLM {engine.version} has no {name}", name, remedy, "unrecognized_argument")
    elif flag.name == CONFIG_OPTION:
        message = "what the file says would go past the plan"
        yield _Mistake(message, given.written, "make a profile of it: nexus import -- vllm serve --config FILE")
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
    elif (wrong := judge_count(given, engine) or _judge_values(flag, given)) is not None:
        yield _Mistake(f"{name} {wrong}", given.written)


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


_EVERYWHERE = RunSpec(name="")
"""The settings that every run has."""


def read_pin(spec: RunSpec, key: str) -> Any:
    """The value that somebody gave this setting, None where it is open or what every run has."""
    if not is_settable(spec, key):
        return None
    value = spec.get(key)
    is_default = is_settable(_EVERYWHERE, key) and value == _EVERYWHERE.get(key)
    return None if is_default or value == "auto" else value


def _find_same_subject(flag: Flag, said: Mapping[str, str]) -> tuple[str, list[str]] | None:
    """The setting of this option, and the options by which the plan decides its subject already."""
    others = [other for other in said if find_by_option(OFFLOAD_OPTIONS, other)]
    key = find_by_option(OFFLOAD_OPTIONS, flag.name)
    return (key, others) if key is not None and others else None


def _find_repeated(options: Sequence[Argument]) -> Iterator[_Mistake]:
    """Options that are given twice or both ways: vLLM takes the last one without a word. Keys of JSON add up, as long
    as their option is called by one name."""
    seen: dict[str, Argument] = {}
    for given in options:
        flag = given.flag
        if flag is None or flag.kind == "append" or flag.name in _SECRETS:
            continue
        first = seen.setdefault(flag.name, given)
        if first is given or (first.keys and given.keys and first.spelling == given.spelling):
            continue
        how = "twice"
        if first.keys and given.keys:
            how = "by keys under two names"
        elif first.keys or given.keys:
            how = "as a whole and by keys"
        elif first.is_negated != given.is_negated:
            how = "both ways"
        remedy = "keep one of them: vLLM would take one and leave the other"
        yield _Mistake(f"{flag.name} is given {how}", f"{first.written} {given.written}", remedy)


def _has_no_swap(spec: RunSpec, engine: EngineFacts) -> bool:
    """Whether this release takes --swap-space and ignores it: the V1 engine, unless the V0 engine is asked for."""
    return not v0_by_default(engine.version) and spec.engine.env.get(V1_VARIABLE) != "0"


def _judge_level(engine: EngineFacts, given: Argument) -> tuple[str | None, str | None]:
    """What is wrong with -O, and the remedy."""
    is_level = given.is_level and given.values[0] in LEVELS
    if engine.flag(LEVEL_OPTION) is not None:
        if is_level:
            return None, None
        return "takes a level from 0 to 3 after -O", "use -cc for the configuration, as in -cc.mode=3"
    if given.flag is None:
        return "has no -O", f"{render_releases(releases_where('--compilation-config'))} of vLLM have it"
    if given.keys:
        return judge_count(given, engine), None
    if is_level or (given.is_level and given.values[0].lstrip().startswith("{")):
        return None, None
    return "takes a level from 0 to 3 or a configuration in JSON after -O", """as in -O3 or -O '{"level": 3}'"""


def _suggest(engine: EngineFacts, spelling: str) -> str:
    """The substitute, else the nearest name; and the releases that have the option."""
    had = releases_where(spelling)
    remedies = [f"{render_releases(had)} of vLLM have it"] if had else []
    substitute = find_substitute(engine, spelling)
    if substitute is not None:
        return "; ".join([substitute, *remedies])
    question = suggest(spelling, Spellings(engine).names)
    remedies = [question, *remedies] if question else remedies
    return "; ".join(remedies) or "`nexus engine flags` lists the options"


def _judge_values(flag: Flag, given: Argument) -> str | None:
    """What is wrong with the values of an option, or None; those of single keys of JSON may be anything."""
    try:
        for value in () if given.keys else given.values:
            read_value(flag, value)
    except ValueError as error:
        return str(error)
    return None
