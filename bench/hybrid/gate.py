"""A plugin of vLLM for measurements: an engine waits here, modules imported, until the one before it is gone.

It is registered as an entry point `vllm.general_plugins` on the machine that measures; vLLM loads such plugins in each
process, in the engine core's before it touches the card.
"""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path
from typing import IO

_held: list[IO[str]] = []


def wait() -> None:
    """Take the lock on GATE_FILE in the engine core's process and keep it to that process's end."""
    import fcntl  # noqa: PLC0415 - the module can be imported where there is none

    path = os.environ.get("GATE_FILE")
    if path is None or _held or not multiprocessing.current_process().name.startswith("EngineCore"):
        return
    file = Path(path).open("w", encoding="utf-8")  # noqa: SIM115 - kept open: the lock ends with the process
    fcntl.flock(file, fcntl.LOCK_EX)
    _held.append(file)
