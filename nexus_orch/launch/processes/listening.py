"""Whose port it is: a server that answers may be another one than the engine that was started."""

from __future__ import annotations

from collections.abc import Collection

import psutil


def listens(pids: Collection[int], port: int) -> bool:
    """True when one of these processes listens on the port; also when the system does not let us look."""
    for pid in pids:
        try:
            connections = psutil.Process(pid).net_connections(kind="tcp")
        except psutil.NoSuchProcess:
            continue
        except (psutil.Error, OSError):
            return True
        if any(entry.status == psutil.CONN_LISTEN and entry.laddr.port == port for entry in connections):
            return True
    return False
