"""The documents of a YAML or JSON file as plain values: keys are text, dates stay text, and a file that unfolds to more
than anybody writes is refused."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any

from nexus_orch.exchange.start import broken

_MOST_VALUES = 200_000
_DEEPEST = 100


def read_json(text: str, name: str) -> Any:
    """The value of a JSON file. Raises ConfigError."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise broken(f"{name} is no readable JSON: {_first_line(error)}", "mend the file") from None
    return _Copier(name).copy(content)


def read_yaml(text: str, name: str) -> list[Any]:
    """The documents of a YAML file that are not empty. Raises ConfigError."""
    import yaml  # noqa: PLC0415 - commands need no YAML

    from nexus_orch.bounded_yaml import check_yaml  # noqa: PLC0415

    try:
        check_yaml(text)  # merging keys multiplies while it is read, before the values can be counted
        documents = list(yaml.load_all(text, Loader=_make_loader()))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark is not None else ""
        remedy = "render the template first: helm template" if "{{" in text else "mend the file"
        what = getattr(error, "problem", None) or _first_line(error)
        raise broken(f"{name} is no readable YAML{where}: {what}", remedy) from None
    except (ValueError, RecursionError, TypeError, OverflowError) as error:
        raise broken(f"{name} is no readable YAML: {_first_line(error)}", "mend the file") from None
    copier = _Copier(name)
    return [copier.copy(document) for document in documents if document is not None]


@functools.cache
def _make_loader() -> Any:
    """YAML's safe loader without dates: 2026-02-03 is text in every file of ours."""
    import yaml  # noqa: PLC0415 - commands need no YAML

    class Loader(yaml.SafeLoader):
        pass

    Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    for tag in ("!reference", "!Ref", "!Sub", "!vault", "!env", "!reset", "!override"):
        Loader.add_constructor(tag, lambda _loader, node: node.value if isinstance(node.value, str) else None)
    return Loader


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


class _Copier:
    """Copies values whose aliases may multiply."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.left = _MOST_VALUES

    def copy(self, value: Any, depth: int = 0) -> Any:
        self.left -= 1
        if self.left < 0 or depth > _DEEPEST:
            what = "nested too deep" if depth > _DEEPEST else f"more than {_MOST_VALUES:,} values, aliases counted"
            raise broken(f"{self.name} cannot be read: {what}", "name the file that holds the command only")
        if isinstance(value, dict):
            return {_key(key): self.copy(item, depth + 1) for key, item in value.items()}
        if isinstance(value, (list, tuple, set)):
            return [self.copy(item, depth + 1) for item in value]
        return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _key(key: Any) -> str:
    return str(key).lower() if isinstance(key, bool) else str(key)


def mapping_of(value: Any) -> Mapping[str, Any]:
    """The value if it is a mapping, else an empty one."""
    return value if isinstance(value, dict) else {}


def mappings(value: Any) -> list[Mapping[str, Any]]:
    """The mappings in a list; nothing of what should not stand there."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def texts(value: Any) -> list[str]:
    """The values of a list as words; a single value is a list of one."""
    items = value if isinstance(value, list) else [] if value is None or isinstance(value, dict) else [value]
    return [_text(item) for item in items if not isinstance(item, (dict, list)) and item is not None]


def text_of(value: Any) -> str:
    """A value as text; nothing for what is none."""
    return "" if value is None or isinstance(value, (dict, list)) else _text(value)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def count_of(value: Any) -> int | None:
    """A whole number above 0, None for anything else."""
    text = text_of(value)
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 7 and int(text) > 0 else None
