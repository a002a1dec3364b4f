"""What people type instead of Hydra's grammar: `model=FOLDER`, `model=ORG/NAME`, and paths with any letter in them.

Overrides are rewritten before anything reads them, so that a run, a sweep, `--cfg` and the records all see the same.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from nexus_orch.compose.schema import core_of, known_keys, types_of

_LOCAL = "local"
"""The model profile that serves any folder or hub id."""

_PLACE = re.compile(r"[/\\]|^[.~]|\.gguf$", re.IGNORECASE)
"""A name of a profile holds no slash, and begins with no dot or tilde; a place to find a model in does."""

_QUOTED = re.compile(r"""^(['"]).*\1$""", re.DOTALL)
_PATH_LINE = re.compile(r"^path: *['\"]?([^'\"#\n]+?)['\"]? *(?:#.*)?$", re.MULTILINE)


def expand_overrides(texts: Sequence[str], folders: Sequence[Path]) -> tuple[str, ...]:
    """The overrides in Hydra's own grammar; `folders` hold the profiles, the strongest first.

    `model=PLACE` becomes the profile whose path is that hub id, else `model=local model.path=PLACE`. The value of a key
    that takes text is put into quotes where Hydra's grammar has no word for it (umlauts, brackets, `#`, `=`).
    """
    return tuple(written for text in texts for written in _expand(text, folders))


def _expand(text: str, folders: Sequence[Path]) -> Iterator[str]:
    key, equals, value = text.partition("=")
    if not equals or key.startswith("~"):
        yield text
    elif key == "model" and (places := _read_places(value, folders)):
        profiles = [_find_profile(place, folders) for place in places]
        if all(profiles):
            yield f"model={','.join(str(name) for name in profiles)}"
        else:
            yield f"model={_LOCAL}"
            yield f"model.path={','.join(_quote(_absolute(place)) for place in places)}"
    elif _takes_text(key.lstrip("+")) and not _is_readable(text):
        yield f"{key}={_quote(value)}"
    else:
        yield text


def _read_places(value: str, folders: Sequence[Path]) -> list[str]:
    """The places that a value of the group `model` names, those of a sweep too; none where it names a profile."""
    if _is_place(value, folders) and (_QUOTED.match(value) or Path(_unquote(value)).expanduser().exists()):
        return [_unquote(value)]  # one folder, whatever commas stand in its name
    parts = [_unquote(part) for part in value.split(",")]
    return parts if all(_is_place(part, folders) for part in parts) else []


def _is_place(value: str, folders: Sequence[Path]) -> bool:
    plain = _unquote(value)
    if any((folder / "model" / f"{plain}.yaml").is_file() for folder in folders):
        return False
    return bool(_PLACE.search(plain)) or (bool(plain) and Path(plain).is_dir())


def _find_profile(hub_id: str, folders: Sequence[Path]) -> str | None:
    """The name of the profile with this path, unless a folder of that name lies here, whose files would count."""
    if Path(hub_id).expanduser().exists():
        return None
    for folder in folders:
        for file in sorted((folder / "model").glob("*.yaml")):
            found = _PATH_LINE.search(file.read_text(encoding="utf-8", errors="replace"))
            if found and found[1].casefold() == hub_id.casefold():
                return file.stem
    return None


def _absolute(place: str) -> str:
    """The whole path of what lies here, so that `model=.` has a name; a hub id as it is."""
    path = Path(place).expanduser()
    return os.path.abspath(path) if path.exists() else place  # noqa: PTH100 - Path.absolute keeps the dots


def _takes_text(key: str) -> bool:
    schema = known_keys().get(key)
    return schema is not None and "string" in types_of(schema) and "enum" not in core_of(schema)


def _is_readable(text: str) -> bool:
    try:
        OverridesParser.create().parse_overrides([text])
    except HydraException:
        return False
    return True


def _quote(text: str) -> str:
    """The text as one quoted word of Hydra's grammar: backslashes count only before a quote."""
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", text)
    escaped = re.sub(r"(\\+)$", r"\1\1", escaped)
    return f"'{escaped}'"


def _unquote(text: str) -> str:
    return text[1:-1] if _QUOTED.match(text) and len(text) > 1 else text
