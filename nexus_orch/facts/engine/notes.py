"""What a user should know about an installed engine that is none of the releases which were checked."""

from __future__ import annotations

import re
from collections.abc import Iterator

from packaging.version import InvalidVersion, Version

from nexus_orch.releases.known import known_releases, neighbours, release_of

_PLATFORMS = ("rocm", "xpu", "tpu", "neuron", "hpu")
_NAMES = re.compile(r"vllm([-_]cpu.*)?")
_LOCALS = re.compile(r"(cpu|cu\d+|precompiled|[gd][0-9a-f]+)(\.(cpu|cu\d+|precompiled|d?\d+))*")
"""Local parts of vLLM's own builds: the platform (`+cpu`, `+cu128`), or commit and date of a development build."""


def make_notes(name: str, version: str) -> tuple[str, ...]:
    """The notes on a distribution of that name and version; none for a release that was checked."""
    return (*_platform_notes(f"{name} {version}".lower()), *_fork_notes(name, version), *_version_notes(version))


def _platform_notes(text: str) -> Iterator[str]:
    for platform in _PLATFORMS:
        if platform in text:
            yield f"this build is for {platform}, which is planned like CUDA and was not checked"


def _fork_notes(name: str, version: str) -> Iterator[str]:
    local = version.partition("+")[2]
    is_known = not local or _LOCALS.fullmatch(local) or any(platform in local for platform in _PLATFORMS)
    if not _NAMES.fullmatch(name) or not is_known:
        yield f"{name} {version} is not vLLM's own build: its options are its own, all else is taken for vLLM's"


def _version_notes(version: str) -> Iterator[str]:
    """How a release is treated that lies between the known ones, or after them, or before its own release."""
    releases = known_releases()
    try:
        parsed, release = Version(version), release_of(version)
    except InvalidVersion:
        yield f"{version!r} is no version that can be read"
        return
    known = neighbours(version)[0]
    if release > Version(releases[-1]):
        yield f"vLLM {version} is newer than {releases[-1]}, the newest release that was checked"
    elif release not in map(Version, releases):
        yield f"vLLM {version} was not checked: its options are its own, what they mean is taken from {known}"
    elif parsed.is_prerelease:
        yield f"vLLM {version} came before the release {known}, which was checked: its options are its own"
