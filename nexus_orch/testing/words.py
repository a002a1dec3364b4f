"""Whether an engine understands a command line: each option known, each value legal, by the engine's own options."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from nexus_orch.adapt.arguments import Argument, judge_count, read_arguments
from nexus_orch.types import EngineFacts, Flag


def find_illegal_words(argv: Sequence[str], engine: EngineFacts) -> Iterator[str]:
    """What this engine would not understand of the words after the launcher (`serve MODEL --flag ...`), one sentence
    each."""
    words = argv[2:] if argv[:1] == ["serve"] or argv[:1] == ("serve",) else argv
    given = read_arguments(words, engine)
    yield from (f"{word} belongs to no option" for word in given.first)
    for argument in (option.with_strays for option in given.options):
        if argument.flag is None:
            yield f"vLLM {engine.version} has no {argument.name}"
        else:
            yield from (f"{argument.name} {wrong} in vLLM {engine.version}" for wrong in _judge(argument, engine))


def _judge(argument: Argument, engine: EngineFacts) -> Iterator[str]:
    wrong, flag = judge_count(argument, engine), argument.flag
    if wrong is not None:
        yield wrong
    if flag is not None and not argument.keys:
        for value in argument.values:
            yield from _judge_value(flag, value)


def _judge_value(flag: Flag, value: str) -> Iterator[str]:
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
