"""Standard output of a fake engine, which may have lost its reader."""

from __future__ import annotations

import sys


def print_text(text: str) -> None:
    """Write it out now, line ends included in the text."""
    print_bytes(text.encode())


def print_bytes(content: bytes) -> int:
    """Write it out now and give its length; 0 when nobody reads any more."""
    try:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        return 0
    return len(content)
