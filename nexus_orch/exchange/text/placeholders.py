"""Words of examples that people replace by their own: `<MODEL>`, `...`, YOUR_MODEL, /path/to/model."""

from __future__ import annotations

import re

PLACEHOLDER_MARK = "\x04"
"""Begins a placeholder that stands in a script without quotes, where a shell would see redirections."""

_ANY = re.compile(
    r"""
      \.{3,} | …                                  # ...
    | <[A-Za-z_][^<>|/]*[ _-][^<>|/]*>            # <your model>, <MODEL_NAME>; <think> may be meant
    | (?:.*/)?YOUR[-_ ].*                         # YOUR_TOKEN
    | (?:[./~]|[A-Z]:\\)*path[/\\]to([/\\].*)?    # /path/to/template
    | [xX]{4,}
    | CHANGE[-_]?ME | REPLACE[-_]?ME
    """,
    re.VERBOSE | re.DOTALL,
)
_MODEL = re.compile(
    r"""
      <.*>
    | \{\{?\s*[\w .-]+\s*\}?\}                    # {model}, {{ model }}
    | \[[\w\ .|/-]+\]                             # [model]
    | your[-_ ].*                                 # your-model, your-org/...
    | x{3,} | todo | placeholder | path_to_.* | (?:change|replace)[-_]?me
    | (?-i:(?:[A-Z]+_)*(?:MODEL|CHECKPOINT)(?:_(?:NAME|ID|PATH|TAG|REPO|DIR))?)
    | (?-i:(?:OWNER|ORG|USER|NAMESPACE))
    | model[-_](?:name|id|path|tag)
    """,
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)


def is_placeholder(value: str) -> bool:
    """Whether a value stands for one that the reader was to write."""
    return value.startswith(PLACEHOLDER_MARK) or _ANY.fullmatch(value) is not None


def is_model_placeholder(value: str) -> bool:
    """The same for a model's name, which more words stand for."""
    if is_placeholder(value) or _MODEL.fullmatch(value) is not None:
        return True
    return "/" in value and any(_MODEL.fullmatch(part) for part in value.split("/", 1) if part)


def without_mark(value: str) -> str:
    return value.replace(PLACEHOLDER_MARK, "")
