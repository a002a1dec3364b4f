"""Files of our own: whole or not at all, lines that only grow, private, and errors of the disk in words."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_orch.errors import ConfigError, ExitCode, InterruptedByEnvironment
from nexus_orch.files import (
    PROGRAM,
    LineFile,
    Lines,
    append_line,
    make_line,
    make_write_error,
    parse_lines,
    read_lines,
    tell_write_errors,
    write_atomic,
    write_result,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_we_keep_is_private_and_what_was_asked_for_is_not(tmp_path: Path) -> None:
    write_atomic(tmp_path / "kept", "x")
    append_line(tmp_path / "lines", 1)
    old_umask = os.umask(0o027)
    try:
        write_result(tmp_path / "deep" / "result", "x")
        write_result(tmp_path / "program", "x", mode=PROGRAM)
    finally:
        os.umask(old_umask)
    assert [_mode(tmp_path / name) for name in ("kept", "lines")] == [0o600, 0o600]
    assert [_mode(tmp_path / name) for name in ("deep/result", "program")] == [0o640, 0o750]


def test_a_failed_write_leaves_the_old_content_and_no_litter(tmp_path: Path) -> None:
    target = tmp_path / "plan.json"
    write_atomic(target, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomic(target, "new \udcff")
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        write_atomic(tmp_path / "folder", "a file in a folder's place")
    assert target.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "plan.json"]


READER = """
import pathlib, sys
path, seen = pathlib.Path(sys.argv[1]), set()
print("reading", flush=True)
while "last" not in seen:
    seen.add(path.read_text())
print(len(seen - {"old" * 100_000, "new" * 100_000, "last"}))
"""


def test_a_reader_never_sees_a_part(tmp_path: Path) -> None:
    target = tmp_path / "latest.json"
    write_atomic(target, "old" * 100_000)
    argv = [sys.executable, "-c", READER, str(target)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None
        reader.stdout.readline()
        for number in range(100):
            write_atomic(target, ("new", "old")[number % 2] * 100_000, durable=False)
        write_atomic(target, "last")
        assert reader.stdout.readline() == "0\n"


@given(st.lists(JSON, max_size=4), JSON, st.data())
def test_a_file_cut_at_any_byte_keeps_its_whole_lines_and_takes_new_ones(
    tmp_path_factory: pytest.TempPathFactory, values: list[Any], new: Any, data: st.DataObject
) -> None:
    """A line is whole when all of it but its line end is there: half a number would be another number, so that the
    values stand in lists."""
    whole = b"".join(make_line([value]) for value in values)
    path = tmp_path_factory.mktemp("cut") / "lines"
    size = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:size])
    kept = [json.loads(line) for line in whole[:size].split(b"\n") if _is_whole(line)]
    cut = read_lines(path, list)
    assert list(cut.items) == kept
    assert cut.damaged == ()
    append_line(path, [new])
    after = read_lines(path, list)
    assert list(after.items) == [*kept, [new]]
    assert after.damaged == ((len(kept) + 1,) if cut.is_torn else ())
    assert not after.is_torn


def _is_whole(line: bytes) -> bool:
    try:
        return bool(line) and isinstance(json.loads(line), list)
    except ValueError:
        return False


def test_lines_that_cannot_be_read_are_counted(tmp_path: Path) -> None:
    def parse(value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError(value)
        return value

    data = b'"a"\n\xff\n{"no": "text"}\n\n"skipped"\n' + b"[" * 100_000 + b'\n"b"\n"torn'
    assert parse_lines(BytesIO(data), parse, without=(b'"skip',)) == Lines(("a", "b"), (2, 3, 6), is_torn=True)
    assert read_lines(tmp_path / "none", parse) == Lines()


def test_after_a_full_disk_only_the_torn_line_is_lost(tmp_path: Path) -> None:
    """The system refuses to let the file grow beyond its first lines, then allows it again."""
    script = """
import resource, sys
from pathlib import Path
from nexus_orch.files import LineFile
file = LineFile(Path(sys.argv[1]))
file.append("first")
unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (12, unlimited[1]))
try:
    file.append("second")
except OSError as error:
    print(error.strerror)
resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
file.append("third")
file.close()
"""
    path = tmp_path / "lines"
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == "File too large\n"
    assert read_lines(path, str) == Lines(("first", "third"), (2,))


def test_a_full_device_is_told(tmp_path: Path) -> None:
    file = LineFile(Path("/dev/full"))
    with pytest.raises(InterruptedByEnvironment, match="the disk is full"), tell_write_errors(tmp_path / "journal"):
        file.append({})
    file.close(durable=False)


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "the disk is full"),
        (errno.EACCES, "no permission to write here"),
        (errno.EROFS, "no permission to write here"),
        (errno.EIO, "writing failed: Input/output error"),
    ],
)
def test_errors_of_the_disk_have_words_and_a_remedy(number: int, message: str) -> None:
    error = make_write_error(Path("/runs"), OSError(number, os.strerror(number)))
    (problem,) = error.problems
    assert error.exit_code == ExitCode.ENVIRONMENT
    assert problem.message == message
    assert problem.key == "/runs"
    assert problem.remedy is not None and "NEXUS_HOME" in problem.remedy


def test_a_result_that_cannot_be_written_there_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match=r"cannot write .*below\.json") as raised:
        write_result(tmp_path / "file" / "below.json", "x")
    assert raised.value.problems[0].remedy == "name another place"
