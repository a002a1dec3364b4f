"""What an option of vLLM reads in a text: the one place that knows how the types of options take their values.

Sources: argparse, and vLLM's own readers `human_readable_int`, `human_readable_int_or_auto` and `optional_type`
(vllm/engine/arg_utils.py, 0.8.5 to 0.33.0).
"""

from __future__ import annotations

import json
from typing import Any

from nexus_orch.facts.options.catalogue import releases_where, render_releases
from nexus_orch.suggest import suggest_or_list
from nexus_orch.types import Flag
from nexus_orch.types.numbers import looks_human, read_human_number

_TYPES = {
    "int": "whole number",
    "float": "number",
    "human_readable_int": "whole number, 32k too",
    "human_readable_int_or_auto": "whole number, 32k too, or auto",
    "json.loads": "JSON",
    "optional_type(json.loads)": "JSON",
    "from_cli": "JSON",
    "from_json": "JSON",
}


def describe_type(flag: Flag) -> str:
    """What kind of value the option reads, in words. A reader that is only a piece of code reads text."""
    return "JSON" if flag.kind == "json" else _TYPES.get(flag.type or "", "text")


def read_value(flag: Flag, text: str) -> Any:
    """The value in the option's own type; JSON stays text. Raises ValueError with what is wrong."""
    allowed = {str(choice): choice for choice in flag.choices}
    if text in allowed:
        return allowed[text]
    if flag.optional and text in ("None", ""):
        return text
    if allowed:
        raise ValueError(f"does not take {text}; {suggest_or_list(text, list(allowed), 'it takes')}")
    match flag.type:
        case "human_readable_int_or_auto" if text.strip().lower() in ("auto", "-1"):
            return "auto"
        case "human_readable_int" | "human_readable_int_or_auto":
            return read_human_number(text)
        case "int" | "float":
            return _read_number(flag, text)
    if flag.kind == "json" and text.lstrip().startswith(("{", "[")):
        _check_json(text)
    return text


def _read_number(flag: Flag, text: str) -> int | float:
    try:
        return int(text) if flag.type == "int" else float(text)
    except ValueError:
        since = releases_where(flag.name, lambda known: (known.type or "").startswith("human_readable"))
        late = f" ({render_releases(since)} of vLLM read 32k)" if since and looks_human(text) else ""
        raise ValueError(f"takes a {'whole ' if flag.type == 'int' else ''}number, not {text}{late}") from None


def _check_json(text: str) -> None:
    try:
        json.loads(text)
    except ValueError as error:
        raise ValueError(f"takes JSON, which {text} is not: {error}") from None
