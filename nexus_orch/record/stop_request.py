"""How one process asks another one's run to end: a small file in the run folder, which the supervisor looks for.

Signals would need the right to send them and mean something else on Windows; a file works everywhere, over a shared
folder too, and tells who asked and how. The supervisor calls `read_stop_request` about twice a second.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from nexus_orch.files import tell_write_errors, write_atomic
from nexus_orch.record.codec import decode, encode


@dataclass(frozen=True)
class StopRequest:
    """`force` leaves out the polite rungs of the stop ladder. `reason` is one short phrase for the journal."""

    time: float
    reason: str
    force: bool = False


def write_stop_request(path: Path, request: StopRequest) -> None:
    """Ask; a later request replaces an earlier one. Raises InterruptedByEnvironment."""
    with tell_write_errors(path):
        write_atomic(path, json.dumps(encode(request)))


def read_stop_request(path: Path) -> StopRequest | None:
    """The request, or None. A file that cannot be understood (made by hand with `touch`) is a request too."""
    try:
        text = path.read_bytes()
    except OSError:
        return None
    try:
        return decode(StopRequest, json.loads(text))
    except ValueError:
        return StopRequest(0.0, "stop.request")
