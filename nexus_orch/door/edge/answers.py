"""What the door itself says to clients, in the words of the API that they speak."""

from __future__ import annotations

import json
from typing import Any

from nexus_orch.door.edge.routes import Style

_OPENAI_TYPES = {401: "authentication_error", 404: "not_found_error", 503: "service_unavailable_error"}
_ANTHROPIC_TYPES = {
    401: "authentication_error",
    404: "not_found_error",
    413: "request_too_large",
    503: "overloaded_error",
}


def make_error(style: Style, status: int, message: str, request_id: str) -> bytes:
    """The body of an answer with this status."""
    if style == "anthropic":
        error = {"type": _type_of(_ANTHROPIC_TYPES, status, "api_error"), "message": message}
        return _encode({"type": "error", "error": error, "request_id": request_id})
    return _encode({"error": _make_openai_error(status, message)})


def make_error_event(style: Style, status: int, message: str) -> bytes:
    """The last event of a stream that is broken off. It begins with an empty line, which ends what came before."""
    if style == "anthropic":
        error = {"type": _type_of(_ANTHROPIC_TYPES, status, "api_error"), "message": message}
        return b"\n\nevent: error\ndata: " + _encode({"type": "error", "error": error}) + b"\n\n"
    if style == "responses":
        event = {"type": "error", "code": "server_error", "message": message, "param": None}
        return b"\n\nevent: error\ndata: " + _encode(event) + b"\n\n"
    return b"\n\ndata: " + _encode({"error": _make_openai_error(status, message)}) + b"\n\n"


def _make_openai_error(status: int, message: str) -> dict[str, Any]:
    kind = _type_of(_OPENAI_TYPES, status, "server_error")
    return {"message": message, "type": kind, "param": None, "code": status}


def _type_of(types: dict[int, str], status: int, otherwise: str) -> str:
    return types.get(status) or ("invalid_request_error" if 400 <= status < 500 else otherwise)


def _encode(content: dict[str, Any]) -> bytes:
    return json.dumps(content, ensure_ascii=False).encode()
