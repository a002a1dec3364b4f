"""The pick of a sweep as a profile of the user's project, with the evidence for it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import yaml

from nexus_orch.types import EvidenceSpec

HEADER = "# @package _global_"
NOT_KEPT = ("hydra", "sweep", "probe")
"""Sections of a command line that say how to sweep, not what to serve."""


def render_profile(overrides: Sequence[str], evidence: EvidenceSpec, told: Sequence[str]) -> str:
    """The profile's text. `overrides` are those of the sweep and of the pick, the later one wins; choices of groups
    (`model=qwen14b`) become its defaults list. `told` are lines of comment."""
    groups: dict[str, str] = {}
    tree: dict[str, Any] = {}
    for override in overrides:
        key, _, text = override.lstrip("+").partition("=")
        if key.partition("/")[0] in NOT_KEPT or key.partition(".")[0] in NOT_KEPT:
            continue
        if "." in key:
            _put(tree, key.split("."), yaml.safe_load(text))
        else:
            groups[key] = text
    measured = {name: value for name, value in asdict(evidence).items() if value is not None}
    lines = [HEADER, *(f"# {line}" for line in told)]
    if groups:
        lines += ["defaults:", *(f"  - override /{group}: {name}" for group, name in groups.items()), ""]
    return "\n".join(lines) + "\n" + _dump({**tree, "evidence": measured})


def render_difference(before: str, after: str, name: str) -> str:
    """What would change in the file, as a unified diff; "" where nothing would."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), name, name, lineterm="")
    return "\n".join(lines)


def _put(tree: dict[str, Any], path: Sequence[str], value: Any) -> None:
    *parents, name = path
    for parent in parents:
        tree = tree.setdefault(parent, {})
    tree[name] = value


def _dump(tree: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(tree), sort_keys=False, allow_unicode=True, default_flow_style=False)
