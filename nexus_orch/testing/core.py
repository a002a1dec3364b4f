"""The EngineCore of a fake engine: a real process that does nothing. Run as a file, without importing the package.

    core.py [--ignore SIGNAL]... [--outlive] [--escape] [--workers N]

It ends when its standard input does (its parent is gone), unless it outlives. It prints its pid, which after an escape
(own session, another parent) is not the one that was started. On Linux it has the name that vLLM gives its own.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import signal
import subprocess
import sys
import threading


def main(words: list[str]) -> None:
    """Run until told otherwise."""
    if "--escape" in words:
        rest = [word for word in words if word != "--escape"]
        subprocess.Popen([sys.executable, "-I", "-S", __file__, *rest], start_new_session=True, close_fds=False)
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    for name, value in itertools.pairwise(words):
        if name == "--ignore":
            signal.signal(signal.Signals[value], signal.SIG_IGN)
    workers = int(words[words.index("--workers") + 1]) if "--workers" in words else 0
    worker = [word for word in words if word not in ("--workers", str(workers))]
    name_process(b"VLLM::Worker" if "--worker" in words else b"VLLM::EngineCore")
    for _ in range(workers):
        subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, "--worker", *worker],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )
    sys.stdout.write(f"{os.getpid()}\n")
    sys.stdout.flush()
    os.close(1)
    if "--outlive" in words:
        threading.Event().wait()
    sys.stdin.buffer.read()


def name_process(name: bytes) -> None:
    """Give this process a name in the process table, as setproctitle does (prctl, option 15)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(15, name, 0, 0, 0)


if __name__ == "__main__":
    main(sys.argv[1:])
