"""A source tree of a release of vLLM, written from what the catalogues know of one: the readers find just that."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from nexus_orch.types import Flag

_ACTIONS = {
    "store_true": "'store_true'",
    "append": "'append'",
    "bool_optional": "argparse.BooleanOptionalAction",
    "bool_value": "'StoreBoolean'",
}


def write_tree(folder: Path, release: str, flags: Mapping[str, Flag], architectures: Iterable[str]) -> Path:
    """Write the package `vllm` into `folder`: its command line, its registry of models and its version."""
    quantizations = flags["--quantization"].known_values
    registry = "".join(f"    {name!r}: ('module', {name!r}),\n" for name in sorted(architectures))
    files = {
        "__init__.py": "",
        "_version.py": f"__version__ = {release!r}\n",
        "entrypoints/openai/cli_args.py": _command_line(flags),
        "model_executor/layers/quantization/__init__.py": _quantizations(quantizations),
        "model_executor/models/registry.py": f"_ALL = {{\n{registry}}}\n_VLLM_MODELS = {{**_ALL}}\n",
        "engine/arg_utils.py": "",
    }
    for name, text in files.items():
        file = folder / "vllm" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return folder


def _quantizations(names: Iterable[object]) -> str:
    listed = ", ".join(map(repr, names))
    return f"from typing import Literal\n\nQuantizationMethods = Literal[{listed}]\n" if listed else ""


def _command_line(flags: Mapping[str, Flag]) -> str:
    lines = [
        "import argparse",
        "",
        "",
        "def make_arg_parser():",
        "    parser = argparse.ArgumentParser()",
    ]
    groups: dict[str | None, str] = {None: "parser"}
    for flag in flags.values():
        if flag.group not in groups:
            groups[flag.group] = f"group_{len(groups)}"
            lines.append(f"    {groups[flag.group]} = parser.add_argument_group({flag.group!r})")
        lines.append(f"    {groups[flag.group]}.add_argument({', '.join(_arguments(flag))})")
    return "\n".join([*lines, "    return parser", ""])


def _arguments(flag: Flag) -> list[str]:
    found = [repr(name) for name in (flag.name, *flag.aliases)]
    if flag.kind in _ACTIONS:
        found.append(f"action={_ACTIONS[flag.kind]}")
    if flag.kind == "json":
        found.append("json=True")
    if flag.kind == "optional_value":
        found.append("const=True")
    if flag.kind == "other":
        found.append("**make_unknown()")
    found += [
        f"{name}={value!r}"
        for name, value in (
            ("type", flag.type),
            ("choices", [*flag.choices] or None),
            ("nargs", flag.nargs),
            ("optional", flag.optional or None),
            ("metavar", [*flag.known_values] or None),
        )
        if value is not None
    ]
    found.append(f"default={flag.default_text or repr(flag.default)}")
    return found
