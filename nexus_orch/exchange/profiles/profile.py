"""Imported settings as a profile: YAML that `nexus plan profile=NAME` takes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from nexus_orch.exchange.imported import SECTIONS, Imported

_LONGEST_COMMENT = 60


def render_profile(imported: Imported, header: Sequence[str]) -> str:
    """The profile's text; each value says in a comment how the source says it."""
    lines = ["# @package _global_", *(f"# {line}" for line in header)]
    if imported.groups:
        lines += ["defaults:", *(f"  - override /{group}: {name}" for group, name in imported.groups.items())]
    tree = _tree(imported)
    for section in (*SECTIONS, *(name for name in tree if name not in SECTIONS)):
        if section in tree:
            lines += ["", f"{section}:"] if section == next(iter(_ordered(tree))) else [f"{section}:"]
            lines += _render(tree[section], f"{section}.", imported.said)
    return "\n".join(lines) + "\n"


def _ordered(tree: Mapping[str, Any]) -> list[str]:
    return [name for name in (*SECTIONS, *tree) if name in tree]


def _tree(imported: Imported) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    settings = dict(imported.settings)
    if imported.extra_args:
        settings["serve.extra_args"] = imported.extra_args
    for name, value in imported.env.items():
        settings[f"engine.env.{name}"] = value
    for key, value in settings.items():
        *parents, name = key.split(".")
        place = tree
        for parent in parents:
            place = place.setdefault(parent, {})
        place[name] = value
    return tree


def _render(tree: Mapping[str, Any], prefix: str, said: Mapping[str, str]) -> list[str]:
    lines: list[str] = []
    for name, value in tree.items():
        indent = "  " * prefix.count(".")
        if isinstance(value, dict):
            lines += [f"{indent}{name}:", *_render(value, f"{prefix}{name}.", said)]
        elif isinstance(value, list):
            lines += [f"{indent}{name}:", *(f"{indent}  - {render_scalar(item)}" for item in value)]
        else:
            lines.append(f"{indent}{name}: {render_scalar(value)}{_comment(said.get(prefix + name))}")
    return lines


def _comment(text: str | None) -> str:
    if not text or "\n" in text:
        return ""
    return f" # {text}" if len(text) <= _LONGEST_COMMENT else f" # {text[: _LONGEST_COMMENT - 3]}..."


def render_scalar(value: Any) -> str:
    """One YAML value on one line; `${` is not taken for an interpolation."""
    import yaml  # noqa: PLC0415 - only what writes YAML needs it

    plain = re.sub(r"(\\*)\$\{", r"\1\1\\${", value) if isinstance(value, str) else value
    return (
        yaml.safe_dump(plain, default_flow_style=True, width=float("inf"), allow_unicode=True)
        .removesuffix("...\n")
        .rstrip("\n")
    )
