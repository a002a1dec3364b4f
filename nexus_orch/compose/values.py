"""Composed values against the schema: what is wrong with them, and the form in which a RunSpec holds them."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping
from typing import Any

from jsonschema import Draft202012Validator

from nexus_orch.compose.schema import (
    Schema,
    core_of,
    find_nearest_key,
    find_owner,
    holds_any_name,
    known_keys,
    read_schema,
    render_expected,
    types_of,
)
from nexus_orch.errors import Problem

Origins = Mapping[str, str]

_HIDDEN = "***"
_LONGEST_SHOWN = 80


def judge_values(values: Mapping[str, Any], origins: Origins) -> list[Problem]:
    """All that is wrong with the composed values; `origins` tells where each was written. Empty when all is well."""
    problems: dict[str, Problem] = {}
    for error in Draft202012Validator(read_schema()).iter_errors(values):
        path = ".".join(str(part) for part in error.absolute_path)
        if error.validator == "additionalProperties":
            names = (f"{path}.{name}".lstrip(".") for name in error.instance if name not in error.schema["properties"])
            problems |= {name: make_unknown_key(name, _at(values, name), origins.get(name)) for name in names}
        elif error.validator is None:  # the schema `false`, of `defaults` only; jsonschema 4.26 leaves the name out
            name = f"{path}.defaults"
            problems[name] = make_unknown_key(name, error.instance, origins.get(name))
        elif "propertyNames" in error.absolute_schema_path:
            problems[path] = _make_bad_name(path, error.instance, origins)
        else:
            problems.setdefault(path, _make_bad_value(path, values, origins))
    for path in _not_numbers(values):
        problems[path] = _make_bad_value(path, values, origins)
    return list({problem.key: problem for problem in problems.values()}.values())


def make_unknown_key(key: str, value: object, origin: str | None) -> Problem:
    """The problem of a key that no run has."""
    nearest = find_nearest_key(key)
    remedy = "`nexus-run --cfg job` shows every key" if nearest is None else f"did you mean {nearest}?"
    return Problem(f"unknown key {key}", key, _shown(value), origin, remedy)


def _make_bad_name(key: str, name: str, origins: Origins) -> Problem:
    remedy = "use letters, digits and underscores, a digit not first"
    return Problem(f"{name!r} is no name of an environment variable", key, name, origins.get(key), remedy)


def _make_bad_value(path: str, values: Mapping[str, Any], origins: Origins) -> Problem:
    owner = find_owner(path)
    inside = owner != path and holds_any_name(owner)
    key = path if inside else owner
    value = _at(values, key)
    schema: Schema = known_keys()[owner]
    if inside:
        schema = schema.get("additionalProperties", schema)
    message = f"{key} must be {render_expected(schema)}{_render_mismatch(schema, value)}"
    shown = _HIDDEN if schema.get("writeOnly") else _shown(value)
    return Problem(message, key, shown, origins.get(key), _render_remedy(key, schema, value))


def _render_mismatch(schema: Schema, value: object) -> str:
    """What kind of value stands there instead, when the value alone does not show it: 0.9 and "0.9" print alike."""
    types = types_of(schema)
    if isinstance(value, str) and types and "string" not in types:
        return ", not text"
    if isinstance(value, bool) and "boolean" not in types:
        return ", not true or false"
    return ", not a number" if isinstance(value, int | float) and "string" in types else ""


def _render_remedy(key: str, schema: Schema, value: object) -> str:
    types = types_of(schema)
    words = [str(choice) for choice in core_of(schema).get("enum", ())]
    nearest = difflib.get_close_matches(str(value), words, n=1)
    if nearest:
        return f"did you mean {nearest[0]}?"
    if "array" in types:
        return f"write a list, with each number in quotes: {key}=['--flag','1']"
    if "string" in types and isinstance(value, bool | int | float):
        return f"put it into quotes: {key}=\"'{value}'\""
    if isinstance(value, str) and {"integer", "number"} & set(types):
        return "write a plain number; ${oc.decode:${oc.env:NAME}} makes one of an environment variable"
    advice = f"write {key}=auto if in doubt" if "anyOf" in schema else "choose such a value"
    if "object" in types:
        advice = f"set its parts: {key}.NAME=VALUE"
    return f"{advice}. {schema['description']}"


def settle(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Valid values as a RunSpec holds them: auto becomes None, and a whole number such as 2.0 becomes an int."""
    return {name: _settled(f"{prefix}{name}", value) for name, value in values.items()}


def _settled(key: str, value: Any) -> Any:
    schema = known_keys()[key]
    if isinstance(value, dict) and not holds_any_name(key):
        return settle(value, f"{key}.")
    if value == "auto" and "anyOf" in schema:
        return None
    return int(value) if isinstance(value, float) and "integer" in types_of(schema) else value


def _not_numbers(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """The keys whose value is NaN, which no range of a schema catches."""
    for name, value in values.items():
        if isinstance(value, float) and math.isnan(value):
            yield f"{prefix}{name}"
        elif isinstance(value, dict):
            yield from _not_numbers(value, f"{prefix}{name}.")


def _at(values: Mapping[str, Any], key: str) -> Any:
    value: Any = values
    for part in key.split("."):
        value = value[part]
    return value


def _shown(value: object) -> object:
    """A value for a one-line message: long text is cut."""
    if not isinstance(value, str | list | dict):
        return value
    text = str(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 3]}..."
