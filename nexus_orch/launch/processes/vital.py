"""The processes that an engine cannot do without, beside its main one: their end is seen at once.

vLLM names them from 0.10.1 on (`set_process_title` in v1/engine/core.py and v1/executor/multiproc_executor.py): engine
cores and workers. Its API server learns of the end of an engine core within seconds, and has been seen to live on after
it; until then, clients wait. Processes of older releases have no names, and are not watched.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

from nexus_orch.launch.processes.family import GONE, find_process
from nexus_orch.types import ProcessKey

VITAL_NAMES = ("::EngineCor", "::DPEngineC", "::Worker")
"""What follows the prefix (VLLM_PROCESS_NAME_PREFIX). The kernel keeps 15 characters of a name."""
LOOK_SECONDS = 0.25
"""How long the end of a process may go unseen, and a new one unwatched."""
LOOKS = 480
"""How often a process is looked at for its name: for two minutes. The core imports PyTorch before it names itself."""

Tell = Callable[[ProcessKey, str], None]


class VitalWatch:
    """A thread that tells the end of each vital process with its name. Linux wakes it by a descriptor of the process
    (pidfd); elsewhere, and where no descriptor is to be had, it looks."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._lock = threading.Lock()
        self._others: dict[ProcessKey, int] = {}
        """Processes that had no vital name when they were looked at, with how often they were: they get it late."""
        self._vital: dict[ProcessKey, _Vital] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="nexus-vital", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Tell nothing more."""
        self._stop.set()

    def watch(self, family: Iterable[ProcessKey]) -> None:
        """These are the engine's processes now: watch those that are vital, as soon as they have their names."""
        with self._lock:
            self._others = {key: self._others.get(key, 0) for key in family if key not in self._vital}

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wait()
            with self._lock:
                self._find_vital()
                ended = {key: vital for key, vital in self._vital.items() if find_process(key) is None}
                for key in ended:
                    self._vital.pop(key).close()
            for key, vital in ended.items():
                if not self._stop.is_set():
                    self._tell(key, vital.name)
        with self._lock:
            for vital in self._vital.values():
                vital.close()
            self._vital.clear()

    def _find_vital(self) -> None:
        for key, looks in list(self._others.items()):
            name = find_vital_name(key) if looks < LOOKS else None
            if name is not None:
                self._vital[key] = _Vital(name, _open_descriptor(key.pid))
                del self._others[key]
            else:
                self._others[key] = looks + 1

    def _wait(self) -> None:
        """Until a vital process has ended, at most for a look's time."""
        with self._lock:
            descriptors = [vital.descriptor for vital in self._vital.values() if vital.descriptor is not None]
        if not descriptors:
            self._stop.wait(LOOK_SECONDS)
            return
        poll = select.poll()
        for descriptor in descriptors:
            poll.register(descriptor, select.POLLIN)
        poll.poll(LOOK_SECONDS * 1000)


@dataclass(frozen=True)
class _Vital:
    name: str
    descriptor: int | None

    def close(self) -> None:
        if self.descriptor is not None:
            os.close(self.descriptor)


def find_vital_name(key: ProcessKey) -> str | None:
    """The name of this process where it is one that an engine cannot do without."""
    process = find_process(key)
    if process is None:
        return None
    with suppress(*GONE):
        name = process.name()
        if any(vital in name for vital in VITAL_NAMES):
            return name
    return None


def _open_descriptor(pid: int) -> int | None:
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:  # it has ended, or the kernel is older than 5.3
        return None
