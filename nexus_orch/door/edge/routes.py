"""Which requests pass the door. What is not listed does not: vLLM's development routes, its weight updates, its LoRA
adapters, its profiler (0.32.0: entrypoints/serve, entrypoints/rl, entrypoints/scale_out) are for who starts the engine.

The path is compared as it was sent: nothing is decoded or normalized, so that no spelling of another path passes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Style = Literal["openai", "anthropic", "responses"]
"""How errors are said, and how a stream ends."""


@dataclass(frozen=True)
class Route:
    """A path of the engine that clients may use."""

    path: str
    style: Style = "openai"
    generates: bool = True
    """Whether it takes one of the engine's sequences."""


_POST = {
    route.path: route
    for route in (
        Route("/v1/chat/completions"),
        Route("/v1/completions"),
        Route("/v1/responses", "responses"),
        Route("/v1/messages", "anthropic"),
        Route("/v1/messages/count_tokens", "anthropic", generates=False),
        Route("/v1/embeddings"),
        Route("/v2/embed"),
        Route("/v1/score"),
        Route("/score"),
        Route("/v1/rerank"),
        Route("/v2/rerank"),
        Route("/rerank"),
        Route("/pooling"),
        Route("/classify"),
        Route("/v1/audio/transcriptions"),
        Route("/v1/audio/translations"),
        Route("/tokenize", generates=False),
        Route("/detokenize", generates=False),
    )
}
_GET = {route.path: route for route in (Route("/v1/models", generates=False), Route("/version", generates=False))}

_STORED = re.compile(r"/v1/responses/[A-Za-z0-9_-]{1,128}(?P<cancel>/cancel)?")


def find_route(method: str, path: str) -> Route | int:
    """The route, else the HTTP status that says why there is none: 404, or 405 for another method's path."""
    stored = _STORED.fullmatch(path)
    if stored is not None:
        allowed = {"GET": None, "POST": "/cancel"}
        is_right = method in allowed and allowed[method] == stored["cancel"]
        return Route(path, "responses", generates=False) if is_right else 405
    if path not in _GET and path not in _POST:
        return 404
    return {"GET": _GET, "POST": _POST}.get(method, {}).get(path, 405)
