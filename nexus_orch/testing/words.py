"""Whether an engine understands a command line: each option known, each value legal, by the engine's own options."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from nexus_orch.adapt.extra_args import Given, find_flag, parse_extra_args
from nexus_orch.types import EngineFacts, Flag


def find_illegal_words(argv: Sequence[str], engine: EngineFacts) -> Iterator[str]:
    """What this engine would not understand of the words after the launcher (`serve MODEL --flag ...`), one sentence
    each."""
    words = list(argv)
    if words[:1] == ["serve"]:
        words = words[2:]
    for given in parse_extra_args(words):
        flag = find_flag(engine, given.spelling)
        if flag is None:
            yield f"vLLM {engine.version} has no {given.name}"
        else:
            yield from (f"{given.name} {mistake} in vLLM {engine.version}" for mistake in _judge(flag, given))


def _judge(flag: Flag, given: Given) -> Iterator[str]:
    takes_none = flag.kind in ("store_true", "bool_optional")
    if takes_none and given.values:
        yield "takes no value"
    elif not takes_none and not given.values and flag.kind not in ("optional_value", "bool_value", "other"):
        yield "needs a value"
    elif len(given.values) > 1 and flag.nargs is None and flag.kind not in ("append", "other"):
        yield "takes one value"
    for value in given.values:
        allowed = [str(choice) for choice in flag.choices]
        if allowed and value not in allowed:
            yield f"does not take {value}"
        if not _has_type(flag, value):
            yield f"takes {flag.type or flag.kind}, not {value}"


def _has_type(flag: Flag, value: str) -> bool:
    read = {"int": int, "float": float}.get(flag.type or "", json.loads if flag.kind == "json" else str)
    try:
        read(value)
    except ValueError:
        return False
    return True
