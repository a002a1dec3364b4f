"""Where each value was written: the file and line of the last profile that sets a key, or the command line.

Hydra does not keep this, so the files of its own defaults list are read again, as YAML nodes that know their lines.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.core.default_element import ResultDefault
from hydra.core.override_parser.types import Override

from nexus_orch.compose.search_path import shown_path

COMMAND_LINE = "command line"

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MERGE = "tag:yaml.org,2002:merge"


def find_origins(
    defaults: Sequence[ResultDefault], folders: Sequence[Path], overrides: Sequence[Override]
) -> dict[str, str]:
    """The origin of each dotted key that a file or override writes; what is composed later wins, as in Hydra.

    `defaults` are the files in the order of their composition, `folders` those of the search path, the strongest first.
    """
    origins: dict[str, str] = {}
    for default in defaults:
        file = find_file(str(default.config_path), folders)
        if file is not None:
            package = (default.package or "").removeprefix("_global_").lstrip(".")
            origins |= {_joined(package, key): f"{shown_path(file)}:{line}" for key, line in _read_lines(file)}
    for override in overrides:
        if not override.is_delete():
            origins |= dict.fromkeys(_written_keys(override.key_or_group, override.value()), COMMAND_LINE)
    return origins


def find_file(config_path: str, folders: Sequence[Path]) -> Path | None:
    """The file of a config such as "model/qwen32b" in the first folder that has it; None for what is no file."""
    name = config_path if config_path.endswith((".yaml", ".yml")) else f"{config_path}.yaml"
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def _read_lines(file: Path) -> Iterator[tuple[str, int]]:
    node = yaml.compose(file.read_text(encoding="utf-8"), Loader=_LOADER)
    if isinstance(node, yaml.MappingNode):
        yield from _lines_of(node, "")
    elif isinstance(node, yaml.ScalarNode):  # OmegaConf takes a file that is one word for a key without a value
        yield node.value, node.start_mark.line + 1


def _lines_of(node: yaml.MappingNode, prefix: str) -> Iterator[tuple[str, int]]:
    """Each key of a mapping with its line (from 1), mappings themselves included, `<<` merged in first as in YAML."""
    for key, value in sorted(node.value, key=lambda pair: pair[0].tag != _MERGE):
        if key.tag == _MERGE:
            merged = value.value if isinstance(value, yaml.SequenceNode) else [value]
            for mapping in reversed(merged):
                yield from _lines_of(mapping, prefix)
        elif prefix or key.value != "defaults":
            name = f"{prefix}{key.value}"
            yield name, key.start_mark.line + 1
            if isinstance(value, yaml.MappingNode):
                yield from _lines_of(value, f"{name}.")


def _written_keys(key: str, value: Any) -> Iterator[str]:
    yield key
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from _written_keys(f"{key}.{name}", part)


def _joined(package: str, key: str) -> str:
    return f"{package}.{key}" if package else key
