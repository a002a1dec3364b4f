"""Write what a command shows in a terminal as an SVG picture.

    python -m tools.make_picture docs/pictures/plan.svg --rows 20 -- \\
        nexus plan hardware=rtx4090x2 model=qwen32b memory=hybrid
    python -m tools.make_picture docs/pictures/live.svg --frame "ready  \\d.*running 4" -- \\
        nexus-run hardware=cpu model=smollm2_135m          # then ask it something, and `nexus stop` it

The command runs in a terminal of its own (POSIX). Of a command that fills the screen the last frame in which the
regular expression of --frame is found is drawn, of any other its first rows. Colours are those of rich's SVG export.
"""

from __future__ import annotations

import argparse
import errno
import fcntl
import io
import os
import pty
import re
import shutil
import struct
import sys
import termios
from pathlib import Path

from rich.console import Console
from rich.text import Text

ENTER_SCREEN, LEAVE_SCREEN, HOME = "\x1b[?1049h", "\x1b[?1049l", "\x1b[H"
_FONT_FACE = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
FINE = (0, 130)
"""Of what has ended by itself, and of what was told to stop."""
FONTS = 'ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace'


def read_terminal(argv: list[str], columns: int, rows: int) -> str:
    """Everything that the command writes to a terminal of that size. Raises ValueError when there is no such command,
    or when it fails."""
    if shutil.which(argv[0]) is None:
        raise ValueError(f"there is no command {argv[0]} on the PATH")
    pid, terminal = pty.fork()
    if pid == 0:
        fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        os.execvp(argv[0], argv)
    parts: list[bytes] = []
    while part := _read_part(terminal):
        parts.append(part)
    _, status = os.waitpid(pid, 0)
    text = b"".join(parts).decode("utf-8", errors="replace").replace("\r\n", "\n")
    if os.waitstatus_to_exitcode(status) not in FINE:
        raise ValueError(f"{argv[0]} ended with {os.waitstatus_to_exitcode(status)}: {text[-300:]}")
    return text


def _read_part(terminal: int) -> bytes:
    """What has been written since; nothing once the other end is closed, which Linux says by EIO."""
    try:
        return os.read(terminal, 65536)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return b""


def choose_lines(text: str, rows: int, shows: str) -> list[str]:
    """The lines of the last frame that is wanted, else the first rows. Raises ValueError when no frame is."""
    screen = text.partition(ENTER_SCREEN)[2].partition(LEAVE_SCREEN)[0]
    if not screen:
        return text.rstrip("\n").split("\n")[:rows]
    wanted = re.compile(shows, re.DOTALL)
    frames = [frame.split("\n") for frame in screen.split(HOME) if wanted.search(Text.from_ansi(frame).plain)]
    if not frames:
        raise ValueError(f"no frame shows what was asked for: {shows}")
    return frames[-1][:rows]


def render_svg(lines: list[str], columns: int, title: str) -> str:
    """The lines as a terminal window; fonts are those of the reader, so that nothing is loaded from elsewhere."""
    console = Console(
        record=True,
        width=columns,
        file=io.StringIO(),
        force_terminal=True,
        color_system="truecolor",
        legacy_windows=False,
    )
    for line in lines:
        console.print(Text.from_ansi(line), no_wrap=True, overflow="crop", crop=True)
    svg = _FONT_FACE.sub("", console.export_svg(title=title))
    return svg.replace("Fira Code, monospace", FONTS)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--columns", type=int, default=100)
    parser.add_argument("--rows", type=int, default=30)
    parser.add_argument("--frame", default="", help="what the frame must show, as a regular expression")
    parser.add_argument("--title", help="of the window; else the command")
    parser.add_argument("command", nargs="+")
    given = parser.parse_args()
    try:
        text = read_terminal(given.command, given.columns, given.rows)
        lines = choose_lines(text, given.rows, given.frame)
    except ValueError as error:
        parser.error(str(error))
    title = given.title or " ".join([Path(given.command[0]).name, *given.command[1:]])
    given.out.write_text(render_svg(lines, given.columns, title), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
