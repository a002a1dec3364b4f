"""Remedies for the release that wrote the log: an option that it does not have is no advice.

A remedy may hold pieces for some releases only, "[[>=0.9|text]]" or "[[<0.9|text]]". A piece is said when the release
is not known, too. A piece "[[path?|{path}]]" is said when the message named a path.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

_PIECE = re.compile(r"\[\[(?P<releases>[<>=!~,.\d]+)\|(?P<text>.*?)\]\](?!\])")
_NAMED = re.compile(r"\[\[(?P<name>\w+)\?\|(?P<text>.*?)\]\]")


def fill_remedy(remedy: str, values: Mapping[str, str]) -> str:
    """The remedy with what the message named in place of the names in braces."""
    pieces = _NAMED.sub(lambda piece: piece["text"] if values.get(piece["name"]) else "", remedy)
    return pieces.format_map(values)


def render_remedy(remedy: str, release: str | None) -> str:
    """The remedy without the pieces that do not hold for the release."""
    version = parse_release(release)
    if "[[" not in remedy:
        return remedy
    return _PIECE.sub(lambda piece: piece["text"] if _holds(piece["releases"], version) else "", remedy)


def parse_release(release: str | None) -> Version | None:
    """The number of a release, without what a build adds to it ("0.6.3.dev12+gabc" is taken for 0.6.3)."""
    if release is None:
        return None
    try:
        return Version(Version(release).base_version)
    except InvalidVersion:
        return None


def _holds(releases: str, version: Version | None) -> bool:
    return version is None or version in SpecifierSet(releases)
