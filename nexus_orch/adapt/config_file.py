"""The file of `vllm serve --config FILE`, as the arguments that it stands for. Pure: whoever asks reads the file.

Source: vllm/utils/argparse_utils.py (0.32.0): `_pull_args_from_config`, `load_config_file`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from nexus_orch.adapt.arguments import Spellings, negate, spell
from nexus_orch.releases.options import config_says_no
from nexus_orch.types import EngineFacts

CONFIG_OPTION = "--config"
_MODEL_KEYS = ("model", "model_tag", "model-tag")


def split_config(argv: Sequence[str]) -> tuple[str | None, tuple[str, ...]]:
    """The file that --config names, None when there is none, and the arguments without it."""
    words = list(argv)
    for index, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name == CONFIG_OPTION and (equals or index + 1 < len(words)):
            behind = index + 1 if equals else index + 2
            return value if equals else words[index + 1], (*words[:index], *words[behind:])
    return None, tuple(argv)


def insert_config(argv: Sequence[str], content: Mapping[str, Any], engine: EngineFacts) -> tuple[str, ...]:
    """The arguments with those of the file, whose mapping is `content`: behind the model and before all others, which
    win over them. A model in the arguments wins over that of the file."""
    has_model = bool(argv) and not argv[0].startswith("-")
    told = {key: value for key, value in content.items() if not (has_model and key in _MODEL_KEYS)}
    return (*argv[:has_model], *words_of_config(told, engine), *argv[has_model:])


def words_of_config(content: Mapping[str, Any], engine: EngineFacts) -> list[str]:
    """The arguments that the file stands for on this release.

    A switch that is false says nothing in older releases; in newer ones it is the --no- form where there is one.
    """
    spellings = Spellings(engine) if config_says_no(engine.version) else None
    words: list[str] = []
    for key, value in content.items():
        name = "--model" if key in _MODEL_KEYS else f"--{key}"
        if value is False:
            no_name = negate(spell(name))
            words += [no_name] if spellings is not None and spellings.find(no_name).is_negated else []
        elif isinstance(value, list):
            words += [name, *map(str, value)] if value else []
        elif value is True:
            words.append(name)
        else:
            words += [name, json.dumps(value) if isinstance(value, dict) else str(value)]
    return words
