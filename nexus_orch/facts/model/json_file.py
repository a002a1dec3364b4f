"""JSON files written by others: read with a bound, and every way in which they can be broken told in one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nexus_orch.errors import ConfigError, Problem

_MAX_BYTES = 256 << 20
"""An index of 100,000 tensors takes about 10 MB; whatever is larger than this is something else."""


def read_json_object(file: Path) -> dict[str, Any]:
    """The object in this file. Raises ConfigError that names the file and says what is wrong with it."""
    try:
        with file.open("rb") as stream:
            content = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(Problem(f"{file} cannot be read: {error.strerror or error}")) from error
    if len(content) > _MAX_BYTES:
        raise ConfigError(Problem(f"{file} is larger than {_MAX_BYTES >> 20} MiB, too large for what it should hold"))
    try:
        value = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            Problem(f"{file} is not valid JSON: {_render_reason(content, error)}", remedy="download this file again")
        ) from error
    if not isinstance(value, dict):
        raise ConfigError(Problem(f"{file} holds {_kind(value)}, not a JSON object", remedy="download this file again"))
    return value


def _render_reason(content: bytes, error: ValueError | RecursionError) -> str:
    if not content.strip():
        return "it is empty"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return "it is not text"
    if isinstance(error, json.JSONDecodeError):
        if error.msg.startswith("Unterminated string") or error.pos >= len(error.doc.rstrip()) - 1:
            return f"it seems to be cut off in line {error.lineno}"
        return f"{error.msg.lower()} in line {error.lineno}, column {error.colno}"
    return str(error)


def _kind(value: Any) -> str:
    names = {list: "a list", str: "a string", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(value), "null")
