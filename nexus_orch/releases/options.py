"""Options of `vllm serve`, beyond what the catalogue lists: how they are read, and which changed their names."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TypeVar

from nexus_orch.releases.fact import Fact

T = TypeVar("T")

takes_json_keys = Fact(
    "an option that takes JSON takes its keys one by one, with dots",
    since="0.9.0",
    source="utils.py: create_nested_dict",
)
appends_json_keys = Fact(
    "such a key ends with + to append to a list",
    since="0.9.2",
    source='utils/__init__.py: endswith("+")',
)
config_says_no = Fact(
    "a switch that is false in the file of --config is the --no- form of the option; before, it says nothing",
    since="0.28.0",
    source="utils/argparse_utils.py: load_config_file",
)

RENAMED: dict[tuple[str, str], Fact] = {
    ("--max-context-len-to-capture", "--max-seq-len-to-capture"): Fact(
        "the longest sequence that CUDA graphs cover is --max-seq-len-to-capture",
        before="0.11.0",
        source="engine/arg_utils.py of 0.4.3: DEPRECATED. Use --max-seq-len-to-capture instead",
    ),
    ("--override-pooler-config", "--pooler-config"): Fact(
        "the configuration of pooling is --pooler-config",
        since="0.11.0",
        source="config/model.py: override_pooler_config, [DEPRECATED] Use `pooler_config` instead",
    ),
}
"""Options that mean the same under another name, oldest first: the old name, the new one, and the releases that have
the new one. Both may stand in one of them. An option whose values changed too is none of these: it needs a `Way`."""


@cache
def names_of(option: str) -> tuple[str, ...]:
    """All names that an option had and has, the given one first, then the newest first."""
    names = {option}
    while found := {name for pair in RENAMED if names & set(pair) for name in pair} - names:
        names |= found
    others = (name for pair in reversed(RENAMED) for name in reversed(pair) if name in names - {option})
    return (option, *dict.fromkeys(others))


def find_by_option(table: Mapping[str, T], option: str) -> T | None:
    """What a table has under one of the option's names, or None."""
    return next((table[name] for name in names_of(option) if name in table), None)
