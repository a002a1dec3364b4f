"""A shim: keeps one engine apart from whoever started it, as containerd's shims keep containers.

    python _shim.py run FOLDER [--nice N] -- COMMAND ...      prints {"socket": ..., "pid": ..., "create_time": ...}

The shim detaches itself, starts the command and answers on FOLDER/control.sock until all that the command started has
ended: one JSON object for each connection, `{"do": "wait" | "logs" | "list" | "signal" | "owns", ...}`. It adopts what
its engine leaves behind, so that nothing gets lost, whatever changes group, session or parent.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

SET_CHILD_SUBREAPER = 36
"""prctl(2), Linux: orphans below this process become its children instead of init's."""
POLL_SECONDS = 0.05
GRACE_SECONDS = 5.0
"""How long the exit code is kept for somebody who asks for it."""


def main(words: list[str]) -> int:
    """Detach and run; the exit code says whether the command was started."""
    own, command = words[: words.index("--")], words[words.index("--") + 1 :]
    folder, nice = Path(own[1]), int(own[3]) if own[2:3] == ["--nice"] else 0
    folder.mkdir(mode=0o700, parents=True)
    reading, writing = os.pipe()
    if os.fork():
        os.close(writing)
        with os.fdopen(reading) as handshake:
            told = handshake.read()
        sys.stdout.write(told)
        return 0 if "socket" in told else 1
    os.setsid()
    if os.fork():
        os._exit(0)
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    ctypes.CDLL(None).prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    os.nice(nice)
    with os.fdopen(writing, "w") as handshake:
        shim = _start(folder, command, handshake)
    if shim is not None:
        shim.serve()
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


def _start(folder: Path, command: list[str], handshake: Any) -> _Shim | None:
    try:
        with (folder / "output").open("ab") as output:
            child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
    except OSError as error:
        json.dump({"error": f"cannot start {command[0]}: {error.strerror}"}, handshake)
        return None
    shim = _Shim(folder, child.pid)
    identity = {"socket": shim.address, "pid": child.pid, "create_time": psutil.Process(child.pid).create_time()}
    json.dump(identity, handshake)
    return shim


class _Shim:
    """One engine, and who asks for it."""

    def __init__(self, folder: Path, pid: int) -> None:
        self.address = str(folder / "control.sock")
        self.output = folder / "output"
        self.pid = pid
        self.returncode: int | None = None
        self.main_ended = threading.Event()
        self.all_ended = threading.Event()
        self.told = threading.Event()
        self.server = socketserver.ThreadingUnixStreamServer(self.address, _make_handler(self))
        self.server.daemon_threads = False

    def serve(self) -> None:
        """Answer until the last process has ended and its exit code was told."""
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        with suppress(ChildProcessError):  # no child is left, none that was adopted either
            while True:
                pid, status = os.wait()
                if pid == self.pid:
                    self.returncode = os.waitstatus_to_exitcode(status)
                    self.main_ended.set()
        self.all_ended.set()
        self.told.wait(GRACE_SECONDS)
        self.server.shutdown()
        self.server.server_close()

    def processes(self) -> list[psutil.Process]:
        """The main process first, then all others that live."""
        found = [process for process in psutil.Process().children(recursive=True) if _is_alive(process)]
        return sorted(found, key=lambda process: process.pid != self.pid)

    def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        match asked["do"]:
            case "wait":
                self.main_ended.wait()
                return {"returncode": self.returncode}
            case "signal":
                for process in self.processes():
                    with suppress(psutil.Error):
                        process.send_signal(signal.Signals[asked["signal"]])
                return {}
            case "owns":
                return {"owns": any(_listens(process, asked["port"]) for process in self.processes())}
        return {"processes": list(_describe(self.processes()))}

    def follow_output(self) -> Iterator[bytes]:
        """All that the engine prints, from its first word to its last."""
        with self.output.open("rb") as source:
            while True:
                is_last = self.all_ended.is_set()
                while piece := source.read(1 << 16):
                    yield piece
                if is_last:
                    return
                time.sleep(POLL_SECONDS)


def _make_handler(shim: _Shim) -> type[socketserver.StreamRequestHandler]:
    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            asked = json.loads(self.rfile.readline())
            with suppress(OSError):  # whoever asked is gone
                if asked["do"] == "logs":
                    for piece in shim.follow_output():
                        self.wfile.write(piece)
                    return
                self.wfile.write(json.dumps(shim.answer(asked)).encode())
                if asked["do"] == "wait":
                    shim.told.set()

    return Handler


def _is_alive(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return process.status() != psutil.STATUS_ZOMBIE or process.num_threads() > 1
    return False


def _listens(process: psutil.Process, port: int) -> bool:
    with suppress(psutil.Error):
        found = process.net_connections(kind="tcp")
        return any(entry.status == psutil.CONN_LISTEN and entry.laddr.port == port for entry in found)
    return False


def _describe(processes: list[psutil.Process]) -> Iterator[dict[str, Any]]:
    for process in processes:
        with suppress(psutil.Error):
            yield {
                "pid": process.pid,
                "create_time": process.create_time(),
                "name": process.name(),
                "rss_bytes": process.memory_info().rss,
            }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
