"""A text stream whose reader may go away at any time."""

from __future__ import annotations

from typing import TextIO

from nexus_orch.view.detached import DetachedStream


class QuietStream:
    """Writes until the terminal or the reader vanishes, and is silent from then on: a run must outlive its terminal.

    It can stand in for a text file wherever one is only written.
    """

    def __init__(self, stream: TextIO | DetachedStream) -> None:
        self._stream = stream
        self.is_gone = False

    @property
    def encoding(self) -> str:
        return getattr(self._stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        return not self.is_gone and self._stream.isatty()

    def write(self, text: str) -> int:
        """Write the text; characters that the stream's encoding lacks become "?"."""
        if not self.is_gone:
            try:
                self._stream.write(self._encodable(text))
            except (OSError, ValueError):  # ValueError: somebody closed it
                self.is_gone = True
        return len(text)

    def flush(self) -> None:
        """Hand everything on to the reader."""
        if not self.is_gone:
            try:
                self._stream.flush()
            except (OSError, ValueError):
                self.is_gone = True

    def end(self) -> None:
        """The last text was written: wait until the reader of a detached stream has it."""
        self.flush()
        if isinstance(self._stream, DetachedStream):
            self._stream.close()

    def write_line(self, text: str) -> None:
        """Write one line and hand it on at once."""
        self.write(text + "\n")
        self.flush()

    def _encodable(self, text: str) -> str:
        return text.encode(self.encoding, "replace").decode(self.encoding)
