"""Packaged facts with their sources: GPUs, vLLM's flags and log lines, measured constants. Read once, never written."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any


@cache
def load(name: str) -> Any:
    """The content of the packaged file `name` (for example "gpus.json"); callers must not change it."""
    return json.loads(files(__name__).joinpath(name).read_text(encoding="utf-8"))
