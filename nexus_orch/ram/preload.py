"""Parallel readers that bring weight files into the page cache: large reads into a buffer that is thrown away."""

from __future__ import annotations

import os
import queue
import threading

from nexus_orch.errors import Problem
from nexus_orch.ram.weights import Piece, PreloadWork, make_changed, make_unreadable
from nexus_orch.types import MIB

READ_BYTES = 4 * MIB
"""One read. The kernel reads ahead of it by itself within a piece."""


class Preload:
    """A preload that is on. The readers are threads: reading needs no Python, and a stuck disk holds only them."""

    def __init__(self, reading: PreloadWork, channels: int) -> None:
        self.reading = reading
        self.channels = min(channels, len(reading.pieces))
        """More readers than pieces would have nothing to do."""
        self._pieces: queue.SimpleQueue[Piece] = queue.SimpleQueue()
        for piece in reading.pieces:
            self._pieces.put(piece)
        self._lock = threading.Lock()
        self._done_bytes = 0
        self._problem: Problem | None = None
        self._cancelled = threading.Event()
        self._readers = [
            threading.Thread(target=self._read, name=f"nexus-preload-{number}", daemon=True)
            for number in range(self.channels)
        ]
        for reader in self._readers:
            reader.start()

    @property
    def done_bytes(self) -> int:
        return self._done_bytes

    @property
    def problem(self) -> Problem | None:
        """The first file that could not be read; the other readers have been told to end then."""
        return self._problem

    @property
    def is_over(self) -> bool:
        return not any(reader.is_alive() for reader in self._readers)

    def cancel(self) -> None:
        """End the readers after the read that each of them is in; does not wait for them."""
        self._cancelled.set()

    def _read(self) -> None:
        buffer = memoryview(bytearray(READ_BYTES))
        while not self._cancelled.is_set():
            try:
                piece = self._pieces.get_nowait()
            except queue.Empty:
                return
            self._read_piece(piece, buffer)

    def _read_piece(self, piece: Piece, buffer: memoryview) -> None:
        offset, end = piece.offset, piece.offset + piece.length
        try:
            with piece.file.open("rb", buffering=0) as stream:
                stream.seek(offset)
                while offset < end and not self._cancelled.is_set():
                    count = stream.readinto(buffer[: min(READ_BYTES, end - offset)])
                    if not count:
                        size = os.fstat(stream.fileno()).st_size
                        self._fail(make_changed(piece.file, f"it ends at byte {size}, {end} or more were planned"))
                        return
                    offset += count
                    with self._lock:
                        self._done_bytes += count
        except OSError as error:
            self._fail(make_unreadable(piece.file, error, offset))

    def _fail(self, problem: Problem) -> None:
        with self._lock:
            self._problem = self._problem or problem
        self._cancelled.set()
