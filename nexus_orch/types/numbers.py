"""Whole numbers as people write them: 32768, 32k or 32K."""

from __future__ import annotations

import re

_HUMAN = re.compile(r"(-?\d+(?:\.\d+)?)([kKmMgGtT])?")
_DECIMAL = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def looks_human(text: str) -> bool:
    """Whether a text is a number with or without one of the letters k, m, g, t behind it."""
    return _HUMAN.fullmatch(text.strip()) is not None


def read_human_number(text: str) -> int:
    """32k is 32,000 and 32K is 32,768: vLLM's own reading (`human_readable_int`, vllm/engine/arg_utils.py, 0.8.5 on).

    Raises ValueError for anything else, a fraction of a binary unit (1.5K) too.
    """
    match = _HUMAN.fullmatch(text.strip())
    if match is None or ("." in match[1] and match[2] not in _DECIMAL):
        raise ValueError(f"takes a whole number such as 32768, 32k or 32K, not {text}")
    if match[2] in _DECIMAL:
        return int(float(match[1]) * _DECIMAL[match[2]])
    return int(match[1]) * _BINARY.get(match[2], 1)
