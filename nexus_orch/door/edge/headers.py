"""Headers on their way through the door: hop-by-hop ones end here, the request's id goes all the way."""

from __future__ import annotations

import hmac
import re
import uuid
from collections.abc import Iterator, Mapping

from multidict import CIMultiDict

Headers = CIMultiDict[str]

REQUEST_ID = "X-Request-Id"
SENT = "X-Nexus-Sent"
"""How often the request was sent to an engine, where that was more than once."""

_HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer"}
    | {"transfer-encoding", "upgrade"}
)
"""RFC 9110, 7.6.1, and its predecessors."""
_ONLY_HERE = frozenset({"host", "content-length", "expect", "accept-encoding"})
"""Of a request: said anew for the engine."""
_KEYS = frozenset({"authorization", "x-api-key"})
_NOT_FROM_ENGINE = frozenset({"content-length", "date", "server", "x-request-id"})

_PROPER_ID = re.compile(r"[\x21-\x7e]{1,128}")


def choose_request_id(headers: Mapping[str, str]) -> str:
    """The client's own id, else a new one."""
    given = headers.get(REQUEST_ID, "")
    return given if _PROPER_ID.fullmatch(given) else uuid.uuid4().hex


def has_key(headers: Mapping[str, str], key: str) -> bool:
    """Whether the client showed the key: as OpenAI's clients do, or as Anthropic's. The time tells nothing of it."""
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    shown = token.strip() if scheme.lower() == "bearer" else headers.get("X-Api-Key", "")
    return hmac.compare_digest(shown.encode("utf-8", "surrogateescape"), key.encode())


def to_engine(headers: Mapping[str, str], *, request_id: str, key: str | None, client: str | None) -> Headers:
    """What the engine is told. Its answer must come as it is: the door reads it."""
    dropped = _HOP_BY_HOP | _ONLY_HERE | {REQUEST_ID.lower()} | (_KEYS if key is not None else frozenset())
    passed: Headers = CIMultiDict(_pass(headers, dropped))
    passed[REQUEST_ID] = request_id
    passed["Accept-Encoding"] = "identity"
    if key is not None:
        passed["Authorization"] = f"Bearer {key}"
    if client:
        before = passed.get("X-Forwarded-For")
        passed["X-Forwarded-For"] = f"{before}, {client}" if before else client
    return passed


def to_client(headers: Mapping[str, str], *, request_id: str, sends: int) -> Headers:
    """What the client is told of the engine's answer."""
    passed: Headers = CIMultiDict(_pass(headers, _HOP_BY_HOP | _NOT_FROM_ENGINE))
    passed[REQUEST_ID] = request_id
    if sends > 1:
        passed[SENT] = str(sends)
    return passed


def _pass(headers: Mapping[str, str], dropped: frozenset[str]) -> Iterator[tuple[str, str]]:
    named = {name.strip().lower() for name in headers.get("Connection", "").split(",")}
    return ((name, value) for name, value in headers.items() if name.lower() not in dropped | named)
