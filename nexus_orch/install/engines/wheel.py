"""What a wheel says about itself: its METADATA, read from the file without installing it."""

from __future__ import annotations

import zipfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from packaging.markers import default_environment
from packaging.metadata import parse_email
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from nexus_orch.errors import Problem
from nexus_orch.install.work.failures import InstallError


@dataclass(frozen=True)
class WheelMetadata:
    """`requirements` are those without an extra, each with its marker, which is about the target's Python."""

    name: str
    version: str
    requires_python: str | None
    requirements: tuple[Requirement, ...]


def read_wheel_metadata(wheel: Path) -> WheelMetadata:
    """The METADATA of a wheel file. Raises InstallError when the file is damaged."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            member = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
            return parse_metadata(archive.read(member).decode("utf-8"))
    except (OSError, StopIteration, zipfile.BadZipFile, UnicodeDecodeError, InvalidRequirement, KeyError) as error:
        remedy = "repeat the command with PIP_NO_CACHE_DIR=1 and --force"
        raise InstallError(
            Problem(f"the downloaded wheel is damaged: {error}", "file", wheel, remedy=remedy)
        ) from error


def parse_metadata(text: str) -> WheelMetadata:
    """The content of a METADATA file. Raises KeyError without a name or version, InvalidRequirement."""
    # Raw: packaging's checks would refuse a wheel for a licence or a classifier that pip does not look at.
    fields, _ = parse_email(text)
    requirements = (Requirement(line) for line in fields.get("requires_dist", []))
    return WheelMetadata(
        name=fields["name"],
        version=fields["version"],
        requires_python=fields.get("requires_python"),
        requirements=tuple(requirement for requirement in requirements if not _belongs_to_extra(requirement)),
    )


def choose_requirements(metadata: WheelMetadata, without: Collection[str]) -> tuple[str, ...]:
    """The requirements as pip takes them, less the distributions named in `without`."""
    left_out = {canonicalize_name(name) for name in without}
    return tuple(str(wanted) for wanted in metadata.requirements if canonicalize_name(wanted.name) not in left_out)


def choose_pinned_version(metadata: WheelMetadata, name: str) -> str | None:
    """The public version ("2.13.0", without "+cpu") of a requirement pinned with == for this platform, or None."""
    # packaging's Environment is a TypedDict; the marker takes any mapping of strings.
    environment = {key: str(value) for key, value in default_environment().items()}
    for wanted in metadata.requirements:
        if canonicalize_name(wanted.name) != canonicalize_name(name):
            continue
        if wanted.marker is None or wanted.marker.evaluate(environment):
            pins = [specifier.version for specifier in wanted.specifier if specifier.operator == "=="]
            return Version(pins[0]).public if len(pins) == 1 and not pins[0].endswith("*") else None
    return None


def _belongs_to_extra(requirement: Requirement) -> bool:
    return requirement.marker is not None and "extra" in str(requirement.marker)
