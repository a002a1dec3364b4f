"""Who can reach the server that a run starts."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

from nexus_orch.types import ServeSpec


def exposure_notes(serve: ServeSpec) -> Iterator[str]:
    """What a user should hear of who asks what: that a door stands before the engine; that other machines can use the
    server, and whether a key stops them."""
    if serve.front_door:
        yield "clients ask the front door (serve.front_door); the engine listens on a private port of this machine"
    if _is_loopback(serve.host):
        return
    if serve.api_key_env is None:
        yield (
            f"serve.host={serve.host} opens the server to other machines, and no API key stops anybody: set "
            "serve.api_key_env=NAME, the variable that holds one, or serve.host=127.0.0.1"
        )
    else:
        yield f"serve.host={serve.host} opens the server to other machines that have the key of {serve.api_key_env}"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False  # a name: where it leads is the resolver's business
