"""Frozen records to JSON and back, driven by their type annotations.

A record becomes an object with its fields. Where several kinds of record are possible (a field annotated `A | B`, a
line of the journal) the object also says which one it is, in `kind`: the class name in snake case. A record's own
field of that name then moves to `<kind>_kind` (`Probed.kind` becomes `probed_kind`).

JSON has no NaN and no infinity: those are written as the strings "nan", "inf" and "-inf". Values annotated `Any` pass
through as plain JSON, so a tuple inside one comes back as a list and a path as its text. Unknown fields are ignored and
missing ones take their default, so that a newer journal can be read by an older release and the other way round.
"""

from __future__ import annotations

import re
import types
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from math import isfinite
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

Record = TypeVar("Record")

_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class CodecError(ValueError):
    """The data does not describe the wanted record."""


def kind_of(record_type: type) -> str:
    """The stable name of a record type: `GpuSample` is "gpu_sample"."""
    return _WORD_START.sub("_", record_type.__name__).lower()


def encode(value: object) -> Any:
    """The plain JSON form of a record, or of a mapping, sequence or scalar that holds records."""
    if is_dataclass(value) and not isinstance(value, type):
        return _encode_fields(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, float):
        return value if isfinite(value) else str(value)
    if value is None or isinstance(value, str | int):
        return value
    return _encode_collection(value)


def encode_tagged(record: object) -> dict[str, Any]:
    """The JSON form of a record that says its own kind."""
    kind = kind_of(type(record))
    encoded: dict[str, Any] = encode(record)
    if "kind" in encoded:
        encoded[f"{kind}_kind"] = encoded.pop("kind")
    return {"kind": kind, **encoded}


def decode(record_type: type[Record], data: object) -> Record:
    """The record that `encode` wrote. Raises CodecError when the data is something else."""
    return cast("Record", _decode(record_type, data))


def decode_tagged(record_types: Iterable[type[Any]], data: object) -> Any:
    """The record that `encode_tagged` wrote, one of these types. Raises CodecError for any other kind."""
    if not isinstance(data, Mapping):
        raise CodecError(f"expected an object, not {type(data).__name__}")
    kind = data.get("kind")
    for record_type in record_types:
        if kind_of(record_type) == kind:
            own = f"{kind}_kind"
            return decode(record_type, {**data, "kind": data[own]} if own in data else data)
    raise CodecError(f"unknown kind {kind!r}")


def _encode_collection(value: object) -> Any:
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in value.items()}
    if isinstance(value, frozenset | set):
        return sorted((encode(item) for item in value), key=repr)
    if isinstance(value, Iterable):
        return [encode(item) for item in value]
    return str(value)


def _encode_fields(record: Any) -> dict[str, Any]:
    hints = _hints(record.__class__)
    encoded = {}
    for field in fields(record):
        value = getattr(record, field.name)
        tagged = _is_tagged(hints[field.name]) and is_dataclass(value)
        encoded[field.name] = encode_tagged(value) if tagged else encode(value)
    return encoded


def _decode(hint: Any, data: Any) -> Any:
    if hint is Any:
        return data
    if get_origin(hint) is not None:
        return _decode_generic(hint, get_origin(hint), data)
    if isinstance(hint, type) and is_dataclass(hint):
        return _decode_record(hint, data)
    if isinstance(hint, type) and issubclass(hint, Enum):
        _check(data in [member.value for member in hint], data, hint)
        return hint(data)
    return _decode_scalar(hint, data)


def _decode_generic(hint: Any, origin: Any, data: Any) -> Any:
    if origin in (Union, types.UnionType):
        return _decode_union(hint, data)
    if origin is Literal:
        _check(data in get_args(hint), data, hint)
        return data
    if issubclass(origin, Mapping):
        return _decode_mapping(hint, data)
    return _decode_sequence(hint, origin, data)


def _decode_scalar(hint: Any, data: Any) -> Any:
    if hint is float:
        if isinstance(data, str) and data in ("nan", "inf", "-inf"):
            return float(data)
        _check(isinstance(data, int | float) and not isinstance(data, bool), data, hint)
        return float(data)
    _check(isinstance(data, hint) and not (hint is int and isinstance(data, bool)), data, hint)
    return data


def _decode_union(hint: Any, data: Any) -> Any:
    options = get_args(hint)
    if data is None and type(None) in options:
        return None
    if _is_tagged(hint):
        records: list[Any] = [option for option in options if is_dataclass(option)]
        return decode_tagged(records, data)
    for option in options:
        try:
            return _decode(option, data)
        except CodecError:
            continue
    raise CodecError(f"expected {hint}, not {data!r}")


def _decode_mapping(hint: Any, data: Any) -> dict[str, Any]:
    _check(isinstance(data, Mapping), data, hint)
    _, value_hint = get_args(hint)
    return {str(key): _decode(value_hint, value) for key, value in data.items()}


def _decode_sequence(hint: Any, origin: type, data: Any) -> Any:
    _check(isinstance(data, list | tuple), data, hint)
    item_hints = get_args(hint)
    if origin is tuple and (len(item_hints) < 2 or item_hints[1] is not Ellipsis):
        _check(len(data) == len(item_hints), data, hint)
        return tuple(_decode(item_hint, item) for item_hint, item in zip(item_hints, data, strict=True))
    return origin(_decode(item_hints[0], item) for item in data)


def _decode_record(record_type: Any, data: Any) -> Any:
    _check(isinstance(data, Mapping), data, record_type)
    hints = _hints(record_type)
    values = {}
    for field in fields(record_type):
        if field.name in data:
            values[field.name] = _decode(hints[field.name], data[field.name])
        elif field.default is MISSING and field.default_factory is MISSING:
            raise CodecError(f"{record_type.__name__} has no {field.name}")
    return record_type(**values)


def _check(good: bool, data: Any, hint: Any) -> None:
    if not good:
        raise CodecError(f"expected {getattr(hint, '__name__', hint)}, not {data!r}")


@cache
def _hints(record_type: Any) -> dict[str, Any]:
    return get_type_hints(record_type)


def _is_tagged(hint: Any) -> bool:
    """Whether a value of this annotation can be one of several records."""
    return sum(1 for option in get_args(hint) if is_dataclass(option)) > 1
