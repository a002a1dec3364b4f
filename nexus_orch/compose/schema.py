"""The JSON Schema of a composed run: its keys, and what each of them may hold.

`run.schema.json` is the one description of the configuration: editors read it, and the list of known keys, the checks
and their messages are made of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from nexus_orch.suggest import find_near

Schema = Mapping[str, Any]

SCHEMA_FILE = "run.schema.json"

_NEAR_WHOLE_KEY = 0.8
"""Dotted keys share the names of their sections: two of them are alike only where the rest is alike, too."""
_NOUNS = {"boolean": "true or false", "array": "a list of text", "object": "a mapping", "string": "text"}


@cache
def read_schema() -> Schema:
    """The schema as packaged; callers must not change it."""
    schema: Schema = json.loads(Path(__file__).with_name(SCHEMA_FILE).read_text(encoding="utf-8"))
    return schema


@cache
def known_keys() -> Mapping[str, Schema]:
    """The schema of each dotted key, sections included ("memory", "memory.kv_cache", "memory.kv_cache.dtype")."""
    return dict(_walk("", read_schema()))


def _walk(prefix: str, schema: Schema) -> Iterator[tuple[str, Schema]]:
    for name, part in _resolved(schema).get("properties", {}).items():
        if name != "defaults":  # Hydra's own list, which only files have
            yield f"{prefix}{name}", _resolved(part)
            yield from _walk(f"{prefix}{name}.", part)


def _resolved(schema: Schema) -> Schema:
    reference: str | None = schema.get("$ref")
    if reference is None:
        return schema
    resolved: Schema = read_schema()["$defs"][reference.removeprefix("#/$defs/")]
    return resolved


def find_owner(key: str) -> str:
    """The longest known key that `key` is, or lies in: "engine.env" for "engine.env.HF_HOME", "" when there is none."""
    while key and key not in known_keys():
        key = key.rpartition(".")[0]
    return key


def holds_any_name(key: str) -> bool:
    """Whether the known `key` is a mapping whose names are the user's (model.config, engine.env)."""
    schema = known_keys()[key]
    return "object" in types_of(schema) and schema.get("additionalProperties") is not False


def is_known(key: str) -> bool:
    """Whether a run has this dotted key; every name inside model.config and engine.env counts."""
    owner = find_owner(key)
    return owner != "" and (owner == key or holds_any_name(owner))


def find_nearest_key(key: str) -> str | None:
    """The known key that was most likely meant: the same last name in another section, else the closest spelling."""
    by_leaf: dict[str, list[str]] = {}
    for known in known_keys():
        by_leaf.setdefault(known.rpartition(".")[2], []).append(known)
    leaf = key.rpartition(".")[2]
    whole = find_near(key, known_keys(), least=_NEAR_WHOLE_KEY)
    close_leaf = find_near(leaf, by_leaf)
    sections = find_near(key.partition(".")[0], read_schema()["properties"])
    candidates = by_leaf.get(leaf) or whole or (by_leaf[close_leaf[0]] if close_leaf else sections)
    return next(iter(find_near(key, candidates, least=0)), None)


def core_of(schema: Schema) -> Schema:
    """The part of an optional value's schema that is not "auto"."""
    core: Schema = schema["anyOf"][1] if "anyOf" in schema else schema
    return core


def types_of(schema: Schema) -> Sequence[str]:
    """The JSON types that a value may have besides auto; empty for a choice of words."""
    types = core_of(schema).get("type", [])
    return [types] if isinstance(types, str) else types


def render_expected(schema: Schema) -> str:
    """What a value must be, in words: "a whole number from 1 to 65535, or auto"."""
    text = _render_core(core_of(schema), types_of(schema))
    if "anyOf" in schema:
        return f"{text}, or auto"
    return f"{text}, or null" if "null" in types_of(schema) else text


def _render_core(core: Schema, types: Sequence[str]) -> str:
    if "enum" in core:
        return "one of " + ", ".join(choice for choice in core["enum"] if isinstance(choice, str))
    if "maximum" in core:
        noun = "a whole number" if "integer" in types else "a number"
        if "exclusiveMinimum" in core:
            return f"{noun} above {core['exclusiveMinimum']} and at most {core['maximum']}"
        low = f"from {core['minimum']} to" if "minimum" in core else "of at most"
        return f"{noun} {low} {core['maximum']}"
    if "pattern" in core:
        return f"text of the form {core['pattern']}"
    if core.get("items", {}).get("type") == "integer":
        return "a list of whole numbers"
    return " or ".join(
        {"number": "a number", "integer": "a whole number", **_NOUNS}[kind] for kind in types if kind != "null"
    )
