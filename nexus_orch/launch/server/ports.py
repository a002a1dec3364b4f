"""The port that a server will listen on: the user's own, or the first free one."""

from __future__ import annotations

import errno
import socket
import sys
from contextlib import AbstractContextManager, closing, nullcontext

from nexus_orch.errors import ConfigError, Problem

FIRST_PORT, LAST_PORT = 8000, 8999
FIRST_PRIVATE_PORT, LAST_PRIVATE_PORT = 18000, 18999
"""Where an engine behind a front door listens, on the loopback address."""
PRIVATE_HOST = "127.0.0.1"

_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}


def choose_port(host: str, pinned: int | None = None, *, origin: str | None = None) -> int:
    """The pinned port, else 8000 or the next free one, on an address of this machine.

    `origin` tells where the user wrote the port. Raises ConfigError when the host is not one of this machine or the
    port cannot be used; a port that is taken is the cause `port_in_use`, with the process that holds it when known.
    """
    address_of(host)
    if pinned is not None:
        problem = find_port_problem(host, pinned, origin=origin)
        if problem is not None:
            raise ConfigError(problem)
        return pinned
    return _find_port(host, FIRST_PORT, LAST_PORT)


def choose_private_port() -> int:
    """A free port for an engine behind a front door. Raises ConfigError when there is none."""
    return _find_port(PRIVATE_HOST, FIRST_PRIVATE_PORT, LAST_PRIVATE_PORT)


def _find_port(host: str, first: int, last: int) -> int:
    for port in range(first, last + 1):
        if is_free(host, port) and not _is_claimed(port):
            return port
    raise ConfigError(
        Problem(
            f"every port from {first} to {last} is taken on {host}",
            key="serve.port",
            remedy="name a free port with serve.port",
            cause="port_in_use",
        )
    )


def find_port_problem(host: str, port: int, *, origin: str | None = None) -> Problem | None:
    """Why this port cannot be listened on, None when it can. Raises ConfigError for a host that is not ours."""
    if not 1 <= port <= 65535:
        remedy = "choose a port from 1024 to 65535, or leave it out"
        return Problem(f"{port} is not a port", key="serve.port", value=port, origin=origin, remedy=remedy)
    error = _bind_error(host, port)
    if error is None:
        return None
    if error.errno in (errno.EACCES, errno.EPERM) and port < 1024:
        message, cause = f"port {port} is reserved for the administrator", None
        remedy = "choose a port from 1024 to 65535, or leave it out"
    else:
        message, cause = f"port {port} is taken on {host}{_render_holder(port)}", "port_in_use"
        remedy = "stop that server (nexus ps, nexus stop), choose another serve.port, or leave it out"
    return Problem(message, key="serve.port", value=port, origin=origin, remedy=remedy, cause=cause)


def is_free(host: str, port: int) -> bool:
    """True when a server could listen there now."""
    return _bind_error(host, port) is None


def claim_port(port: int) -> AbstractContextManager[object] | None:
    """Hold the port until the context is left: `choose_port` of every nexus process passes it over. None when another
    one holds it already.

    vLLM binds its port many seconds before it listens on it, and hangs for ever, saying that its startup is complete,
    when another server listens there first (seen with 0.32.0). Two starts at the same time must therefore not take the
    same port. The claim is an abstract socket, the only one of its name on the machine; it is free again as soon as its
    process ends, however it ends. Elsewhere than on Linux every claim is granted.
    """
    if sys.platform != "linux":
        return nullcontext()
    claim = socket.socket(socket.AF_UNIX)
    try:
        claim.bind(f"\0nexus_orch/port/{port}")
    except OSError:
        claim.close()
        return None
    return claim


def _is_claimed(port: int) -> bool:
    claim = claim_port(port)
    if claim is None:
        return True
    with claim:
        return False


def reachable_host(host: str) -> str:
    """Where a client on this machine finds a server that listens on `host`."""
    return _ANY.get(host, host)


def address_of(host: str) -> tuple[socket.AddressFamily, str]:
    """Family and numeric address of a host to listen on. Raises ConfigError when it is not one of this machine."""
    try:
        found = socket.getaddrinfo(host or None, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise ConfigError(_describe_host(host, f"{host} is not a host name or address ({error})")) from error
    # vLLM takes IPv6 only for an address that is written so (launcher.py: create_server_socket); a name means IPv4.
    family, *_, address = next((entry for entry in found if entry[0] == socket.AF_INET), found[0])
    with closing(socket.socket(family, socket.SOCK_STREAM)) as trial:
        try:
            trial.bind((address[0], 0))
        except OSError as error:
            raise ConfigError(_describe_host(host, f"{host} is not an address of this machine")) from error
    return family, str(address[0])


def _describe_host(host: str, message: str) -> Problem:
    return Problem(message, key="serve.host", value=host, remedy="use 127.0.0.1, or 0.0.0.0 for every network")


def _bind_error(host: str, port: int) -> OSError | None:
    """What the operating system says to binding as vLLM does: with SO_REUSEADDR, so that old connections do not count.

    On Windows that option would allow two listeners; there the opposite one is asked for.
    """
    family, address = address_of(host)
    with closing(socket.socket(family, socket.SOCK_STREAM)) as trial:
        if sys.platform == "win32":
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((address, port))
            trial.listen(1)
        except OSError as error:
            return error
    return None


def _render_holder(port: int) -> str:
    """The process that listens on a port, as " by process 41 (python3 -m http.server)"; empty when not known."""
    import psutil  # noqa: PLC0415 - only to explain a failure

    try:
        pids = {
            connection.pid or 0
            for connection in psutil.net_connections(kind="tcp")
            if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port
        }
        if not any(pids):
            return ""
        process = psutil.Process(max(pids))
        return f" by process {process.pid} ({' '.join(process.cmdline())[:80] or process.name()})"
    except (psutil.Error, OSError):  # macOS shows other users' connections only to root
        return ""
