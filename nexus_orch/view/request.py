"""A request that a person can paste into a terminal once a server is ready."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any


def render_request(url: str, settings: Mapping[str, Any]) -> str:
    """One line of curl that asks the server at `url`; the API key stays in its variable.

    It completes a text, which every model can: a chat needs a template that base models lack.
    """
    body: dict[str, Any] = {"prompt": "The capital of France is", "max_tokens": 16}
    if settings.get("model.served_name"):
        body = {"model": settings["model.served_name"], **body}
    words = ["curl", f"{url}/v1/completions", "-H", "Content-Type: application/json"]
    text = shlex.join(words)
    if key := settings.get("serve.api_key_env"):
        text += f' -H "Authorization: Bearer ${key}"'
    return f"{text} -d {shlex.quote(json.dumps(body, ensure_ascii=False))}"
