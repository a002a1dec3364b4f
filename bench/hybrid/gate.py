"""A plugin of vLLM for measurements: an engine waits here, modules imported, until the one before it has left the card.

It is registered as an entry point `vllm.general_plugins` on the machine that measures; vLLM loads such plugins in each
process, in the engine core's before it touches the card.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import time
from pathlib import Path
from typing import IO, Any

STEADY_READINGS = 4

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
    _await_quiet_card()


def _await_quiet_card() -> None:
    """The driver gives memory back some moments after the process that had it is gone: vLLM must not measure
    meanwhile. Quiet is a card whose memory has not moved for a second and a half; the lock alone is not enough, because
    a process that ends gives it back before its memory."""
    pynvml: Any = importlib.import_module("pynvml")
    pynvml.nvmlInit()
    card = pynvml.nvmlDeviceGetHandleByIndex(int(os.environ.get("CUDA_VISIBLE_DEVICES", "0")))
    seen: list[int] = []
    for _ in range(60):
        seen.append(pynvml.nvmlDeviceGetMemoryInfo(card).used)
        if len(seen) >= STEADY_READINGS and len(set(seen[-STEADY_READINGS:])) == 1:
            return
        time.sleep(0.5)
