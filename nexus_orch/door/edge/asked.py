"""What the door must know of a request's body; all else is the engine's business."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

MOST_PARSED_BYTES = 2 * 2**20
"""A larger body (images, sound) is not parsed: that would hold up all others for tens of milliseconds."""


def fingerprint(path: str, body: bytes) -> str:
    """The same for requests that ask the same, and nothing that gives the request away."""
    return hashlib.sha256(path.encode() + b"\0" + body).hexdigest()


def parse_body(body: bytes) -> Mapping[str, Any]:
    """The body as a JSON object; empty when it is none, which the engine will answer."""
    if len(body) > MOST_PARSED_BYTES:
        return {}
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def count_sequences(content: Mapping[str, Any]) -> int:
    """How many sequences the engine will work on for it: answers times prompts, as far as the body tells."""
    prompt = content.get("prompt")
    prompts = len(prompt) if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int) else 1
    answers = content.get("n")
    return prompts * answers if isinstance(answers, int) and answers > 0 else prompts
