"""Versions of vLLM: which releases were read, which release a version belongs to, and which of them lie around it."""

from __future__ import annotations

from functools import cache

from packaging.version import InvalidVersion, Version

from nexus_orch import data

CATALOGUE = "vllm_flags.json"
"""The catalogue of options, whose releases are those that were read."""

EXAMPLE = "0.32.0"
"""A release as one may write it, for messages."""


@cache
def known_releases() -> tuple[str, ...]:
    """The releases of vLLM that were read, oldest first."""
    return tuple(data.load(CATALOGUE)["releases"])


def release_of(version: str) -> Version:
    """The release that a version belongs to: without local part, and `.dev` or `rc` as the release they lead to.

    Raises InvalidVersion.
    """
    parsed = Version(version)
    return Version(parsed.base_version + (f".post{parsed.post}" if parsed.post is not None else ""))


@cache
def parse_release(version: str) -> Version:
    """The release that a version belongs to; a version that cannot be read, as forks have, counts as the newest known
    release. Remembered: a plan asks often."""
    try:
        return release_of(version)
    except InvalidVersion:
        return release_of(known_releases()[-1])


def is_readable(version: str) -> bool:
    """Whether a text is a version at all."""
    try:
        Version(version)
    except InvalidVersion:
        return False
    return True


def is_known(version: str) -> bool:
    """Whether the release that a version belongs to was read."""
    return str(parse_release(version)) in known_releases()


@cache
def neighbours(version: str) -> tuple[str, ...]:
    """The known releases that tell most about a version, the nearest first: the release itself, else those before and
    after it, of which there is one only at the ends.

    The nearer one has the nearer minor number (0.10.1 is nearer to 0.10.2 than to 0.9.2); of two equally near ones it
    is the older, which has not what came after the version.
    """
    wanted, known = parse_release(version), known_releases()
    before = [release for release in known if Version(release) <= wanted]
    after = [release for release in known if Version(release) > wanted]
    if before and Version(before[-1]) == wanted:
        return (before[-1],)
    around = (*before[-1:], *after[:1])
    return tuple(sorted(around, key=lambda release: _distance(Version(release), wanted)))


def _distance(one: Version, other: Version) -> tuple[int, int]:
    return abs(one.major - other.major), abs(one.minor - other.minor)
