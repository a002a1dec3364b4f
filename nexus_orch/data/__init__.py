"""Packaged facts with their sources: GPUs, vLLM's flags and log lines, measured constants. Read once, never written."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent
"""importlib.resources would do the same and takes 5 ms to import; the wheel is never imported from a zip file."""


@cache
def load(name: str) -> Any:
    """The content of the packaged file `name` (for example "gpus.json"); callers must not change it."""
    return json.loads((_FOLDER / name).read_text(encoding="utf-8"))
