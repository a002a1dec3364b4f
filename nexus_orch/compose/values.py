"""Composed values against the schema: what is wrong with them, and the form in which a RunSpec holds them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator

from nexus_orch.compose.planned import PLANNED_ONLY
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
from nexus_orch.errors import Problem, render_value
from nexus_orch.suggest import did_you_mean, suggest

Origins = Mapping[str, str]

_HIDDEN = "***"
_LONGEST_SHOWN = 80


def judge_values(values: Mapping[str, Any], origins: Origins) -> list[Problem]:
    """All that is wrong with the composed values; `origins` tells where each was written. Empty when all is well."""
    problems: dict[str, Problem] = {}
    for error in _validator().iter_errors(values):
        parts = [str(part) for part in error.absolute_path]
        path = ".".join(parts)
        if error.validator == "additionalProperties":
            for name, value in error.instance.items():
                if name not in error.schema["properties"]:
                    key = ".".join([*parts, name])
                    problems[key] = make_unknown_key(key, value, origins.get(key))
        elif error.validator is None:  # the schema `false`, of `defaults` only; jsonschema 4.26 leaves the name out
            key = f"{path}.defaults"
            problems[key] = make_unknown_key(key, error.instance, origins.get(key))
        elif "propertyNames" in error.absolute_schema_path:
            problems[path] = _make_bad_name(path, error.instance, origins)
        else:
            problem = _make_bad_value(parts, values, origins)
            problems.setdefault(str(problem.key), problem)
    for place in _not_numbers(values):
        problems.setdefault(".".join(place), _make_bad_value(place, values, origins))
    return list(problems.values())


@cache
def _validator() -> Draft202012Validator:
    return Draft202012Validator(read_schema())


def make_unknown_key(key: str, value: object, origin: str | None) -> Problem:
    """The problem of a key that no run has, or that plans have and nobody sets."""
    if key in PLANNED_ONLY:
        return Problem(f"{key} is the planner's own and cannot be set", key, _shown(value), origin, PLANNED_ONLY[key])
    nearest = find_nearest_key(key)
    remedy = did_you_mean([nearest]) if nearest else "`nexus-run --cfg job` shows every key"
    return Problem(f"unknown key {key}", key, _shown(value), origin, remedy)


def _make_bad_name(key: str, name: str, origins: Origins) -> Problem:
    remedy = "use letters, digits and underscores, a digit not first"
    what = "an environment variable" if key == "engine.env" else "a setting"
    return Problem(f"{name!r} is no name of {what}", key, name, origins.get(key), remedy)


def _make_bad_value(parts: Sequence[str], values: Mapping[str, Any], origins: Origins) -> Problem:
    """The problem of the value at these names; one item of a list is told as the whole list."""
    owner = find_owner(".".join(parts))
    schema: Schema = known_keys()[owner]
    depth = owner.count(".") + 1
    if len(parts) > depth and holds_any_name(owner):
        schema, depth = schema.get("additionalProperties", schema), len(parts)
    key, value = ".".join(parts[:depth]), _at(values, parts[:depth])
    return make_bad_value(key, value, schema, origins.get(key))


def make_bad_value(key: str, value: object, schema: Schema, origin: str | None) -> Problem:
    """The problem of a value that its key's schema refuses."""
    message = f"{key} must be {render_expected(schema)}{_render_mismatch(schema, value)}"
    shown = _HIDDEN if schema.get("writeOnly") else _shown(value)
    return Problem(message, key, shown, origin, _render_remedy(key, schema, value))


def _render_mismatch(schema: Schema, value: object) -> str:
    """What kind of value stands there instead, when the value alone does not show it: 0.9 and "0.9" print alike."""
    types = types_of(schema)
    if value == [] and "array" in types:
        return ", not an empty one"
    if isinstance(value, str) and types and "string" not in types:
        return ", not text"
    if isinstance(value, bool) and "boolean" not in types:
        return ", not true or false"
    return ", not a number" if isinstance(value, int | float) and "string" in types else ""


def _render_remedy(key: str, schema: Schema, value: object) -> str:
    types = types_of(schema)
    words = [choice for choice in core_of(schema).get("enum", ()) if isinstance(choice, str)]
    if question := suggest(str(value), words):
        return question
    if "array" in types and "anyOf" in schema:
        listed = render_value(core_of(schema).get("examples", [[1, 2]])[0])
        return f"write a list: {key}={listed}" + (f", or {key}=auto" if value == [] else "")
    if "array" in types:
        return f"write a list, with each number in quotes: {key}=['--flag','1']"
    if "string" in types and isinstance(value, bool | int | float):
        written = str(value).lower() if isinstance(value, bool) else value
        return f"put it into quotes: {key}=\"'{written}'\""
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


def _not_numbers(values: Mapping[str, Any], parents: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The places whose value is NaN, which no range of a schema catches."""
    for name, value in values.items():
        if isinstance(value, float) and math.isnan(value):
            yield (*parents, name)
        elif isinstance(value, dict):
            yield from _not_numbers(value, (*parents, name))


def _at(values: Mapping[str, Any], parts: Sequence[str]) -> Any:
    value: Any = values
    for part in parts:
        value = value[part]
    return value


def _shown(value: object) -> object:
    """A value for a one-line message: long text is cut."""
    if not isinstance(value, str | list | dict):
        return value
    text = render_value(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 3]}..."
