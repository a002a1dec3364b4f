"""Standard input, output and error as a process may find them: closed, full, or with nobody who reads."""

from __future__ import annotations

import os
import sys
from contextlib import suppress


def open_closed_streams() -> None:
    """Give /dev/null to each standard stream that the caller closed (`nexus ps >&-`).

    Otherwise Python has None where a stream is expected, and the next file that is opened gets its number, so that a
    child's output would be written into it.
    """
    for number, mode in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.dup2(os.open(os.devnull, mode), number)
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115 - standard streams stay open
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def find_output_failure() -> OSError | None:
    """Why standard output cannot be written, or None when it can.

    It is tried out with one line end more, because a stream drops the text whose writing failed.
    """
    try:
        sys.stdout.flush()
        os.write(sys.stdout.fileno(), b"\n")
    except ValueError:  # no file at all, but a stream in memory
        return None
    except OSError as error:
        return error
    return None


def silence_output() -> None:
    """Send what is left in the buffer of standard output nowhere: Python must not complain again at its exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
