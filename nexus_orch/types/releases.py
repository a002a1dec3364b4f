"""Releases of vLLM, compared."""

from __future__ import annotations

from functools import cache

from packaging.version import InvalidVersion, Version


@cache
def parse_version(text: str) -> Version:
    """A vLLM version; one that cannot be read counts as the newest known release. Remembered: a plan asks often."""
    try:
        return Version(text)
    except InvalidVersion:
        return Version("0.33.0")
