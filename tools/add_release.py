"""Add a release of vLLM to the catalogues of options and architectures, or read one of them anew.

    python -m tools.add_release TREE [--version RELEASE]

TREE holds the package `vllm` of that release or is that package, unpacked from its wheel or source archive. Nothing of
it is imported. What did not change keeps its line in both files. At the end it says what is new, what is gone, and
which settings lose their option.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from packaging.version import Version

from nexus_orch import data
from nexus_orch.facts.engine.architectures import (
    FILE,
    catalogue_architectures,
    make_architecture_catalogue,
    read_architectures,
)
from nexus_orch.facts.engine.installed import read_distribution
from nexus_orch.facts.options.catalogue import catalogue_flags, make_catalogue
from nexus_orch.facts.options.source import read_flags
from nexus_orch.releases.known import CATALOGUE, known_releases, release_of
from nexus_orch.types import Flag

DATA = Path(data.__file__).parent


def main() -> int:
    """Read the tree and write both catalogues; 1 when its architectures cannot be read."""
    parser = argparse.ArgumentParser(description="Add a release of vLLM to the catalogues.")
    parser.add_argument("tree", type=Path, help="the folder that holds the package vllm, or the package itself")
    parser.add_argument("--version", help="the release; otherwise the tree tells it")
    arguments = parser.parse_args()
    inner = arguments.tree / "vllm"
    root = inner if (inner / "engine").is_dir() else arguments.tree
    release = str(release_of(arguments.version or read_distribution(root).version))
    flags, architectures = read_flags(root)[0], read_architectures(root)
    if architectures is None:
        sys.stderr.write(f"{root}: no architectures found in model_executor/models\n")
        return 1
    before = known_releases()
    options = {known: dict(catalogue_flags(known)) for known in before} | {release: flags}
    registries = {known: catalogue_architectures(known) for known in before} | {release: architectures}
    releases = sorted(options, key=Version)
    write_catalogue(DATA / CATALOGUE, make_catalogue(options), "flags")
    write_catalogue(DATA / FILE, make_architecture_catalogue(registries, releases), "architectures")
    older = releases[: releases.index(release)]
    sys.stdout.writelines(f"{line}\n" for line in describe(release, flags, older[-1] if older else None))
    return 0


def write_catalogue(file: Path, content: Mapping[str, Any], section: str) -> None:
    """Write a catalogue with a line for each entry of its section, so that a difference shows entries."""
    head = json.dumps({key: value for key, value in content.items() if key != section}, indent=1).removesuffix("\n}")
    lines = [f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in content[section].items()]
    text = head + f',\n "{section}": {{\n' + ",\n".join(lines) + "\n}}\n"
    file.write_text(text, encoding="utf-8")


def describe(release: str, flags: Mapping[str, Flag], older: str | None) -> Iterator[str]:
    """What the release has and the one before it had not, and the other way round."""
    known = {} if older is None else catalogue_flags(older)
    new, gone = [name for name in flags if name not in known], [name for name in known if name not in flags]
    yield f"vLLM {release}: {len(flags)} options, {len(new)} of them new since {older}, {len(gone)} gone"
    yield f"new: {' '.join(sorted(new)) or 'none'}"
    yield f"gone: {' '.join(sorted(gone)) or 'none'}"
    yield "settings that lose their option fail in: python -m pytest tests/adapt/test_lost.py"


if __name__ == "__main__":
    sys.exit(main())
