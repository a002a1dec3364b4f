from __future__ import annotations

import subprocess
import sys
from io import BytesIO
from pathlib import Path

import pytest

from nexus_orch.errors import ExitCode, InterruptedByEnvironment
from nexus_orch.record.events import Entry, Finished, Stopping
from nexus_orch.record.journal import JournalWriter, parse_journal, read_journal
from nexus_orch.record.read_run import read_run
from nexus_orch.types import Exited
from tests.record.examples import make_created, make_gpu, make_line

ENTRIES: tuple[Entry, ...] = (
    make_created(),
    make_gpu(1.0, 0, 20.0),
    Stopping(2.0, "Strg-C — bitte"),
    Exited(3.0, 1, -9),
    Finished(4.0, 130),
)
TEXT = b"".join(make_line(entry) for entry in ENTRIES)

ROOT = Path(__file__).parents[2]

WRITER = """
import itertools, sys
from pathlib import Path
from nexus_orch.record.run_folder import RunFolder
from nexus_orch.record.writer import RunWriter
from tests.record.examples import make_created, make_gpu, make_host

writer = RunWriter(RunFolder(Path(sys.argv[1])))
writer.write(make_created())
for second in itertools.count():
    writer.observe(make_gpu(float(second), 0, 20.0))
    writer.observe(make_host(float(second), 40.0))
    if second == 50:
        print("writing", flush=True)
"""

SHORT_OF_SPACE = """
import resource, sys
from pathlib import Path
from nexus_orch.errors import InterruptedByEnvironment
from nexus_orch.record.journal import JournalWriter
from tests.record.examples import make_line
from tests.record.test_journal import ENTRIES

writer = JournalWriter(Path(sys.argv[1]))
writer.append(ENTRIES[0])
unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (len(make_line(ENTRIES[0])) + 10, unlimited[1]))
try:
    writer.append(ENTRIES[1])
except InterruptedByEnvironment:
    resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    writer.append(ENTRIES[2])
    writer.close()
"""


def test_a_whole_journal_is_read_without_a_note() -> None:
    journal = parse_journal(BytesIO(TEXT))
    assert journal.entries == ENTRIES
    assert journal.notes == ()


def test_a_journal_torn_at_any_byte_gives_every_entry_before_the_tear() -> None:
    ends = [index for index, byte in enumerate(TEXT) if byte == ord("\n")]
    for size in range(len(TEXT) + 1):
        journal = parse_journal(BytesIO(TEXT[:size]))
        whole = sum(1 for end in ends if end <= size)  # a line that lacks only its line end is whole
        assert journal.entries == ENTRIES[:whole], size
        torn = size > 0 and size not in ends and size - 1 not in ends
        assert journal.notes == (("the last line is torn",) if torn else ()), size


def test_a_journal_torn_anywhere_can_be_continued(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    last = Finished(9.0, 5)
    for size in range(0, len(TEXT) + 1, 7):
        path.write_bytes(TEXT[:size])
        whole = parse_journal(BytesIO(TEXT[:size])).entries
        writer = JournalWriter(path)
        writer.append(last)
        writer.close()
        assert read_journal(path).entries == (*whole, last), size


def test_a_damaged_middle_is_left_out_and_noted() -> None:
    lines = TEXT.splitlines(keepends=True)
    lines[1] = b"\x00" * 30 + b"\n"
    lines[2] = b'{"kind": "stopping", "time": "never"}\n'
    journal = parse_journal(BytesIO(b"".join(lines)))
    assert journal.entries == (ENTRIES[0], *ENTRIES[3:])
    assert journal.notes == ("damaged lines were left out: 2, the first is line 2",)


def test_lines_of_a_newer_release_are_left_out_and_noted() -> None:
    journal = parse_journal(BytesIO(TEXT + b'{"kind": "teleported", "time": 1.0}\n'))
    assert journal.entries == ENTRIES
    assert journal.notes == ("entries of unknown kind 'teleported' were left out",)


def test_samples_can_be_left_out() -> None:
    assert parse_journal(BytesIO(TEXT), samples=False).entries == (ENTRIES[0], *ENTRIES[2:])


def test_a_missing_journal_is_empty(tmp_path: Path) -> None:
    journal = read_journal(tmp_path / "journal.jsonl")
    assert journal.entries == ()
    assert journal.notes == ("there is no journal",)


def test_a_writer_killed_in_the_middle_leaves_a_readable_run(tmp_path: Path) -> None:
    for round_number in range(3):
        folder = tmp_path / f"20261123-14153{round_number}-killed"
        folder.mkdir()
        child = subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, cwd=ROOT)
        assert child.stdout is not None
        with child.stdout:
            assert child.stdout.readline().strip() == b"writing"
            child.kill()
            child.wait()
        record = read_run(folder, lambda process, host: False)
        assert record.state == "lost"
        assert record.model == "qwen32b"
        assert record.latest.time >= 50
        assert set(record.notes) <= {"the last line is torn"}


def test_a_full_disk_is_told_in_one_message(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.symlink_to("/dev/full")
    writer = JournalWriter(path)
    with pytest.raises(InterruptedByEnvironment) as caught:
        writer.append(ENTRIES[0])
    with pytest.raises(InterruptedByEnvironment):
        writer.close()  # it cannot be made durable either; the file is closed all the same
    assert caught.value.exit_code == ExitCode.ENVIRONMENT
    assert caught.value.problems[0].message == "the disk is full"
    assert "NEXUS_HOME" in str(caught.value)


def test_after_a_failed_write_only_that_line_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    subprocess.run([sys.executable, "-c", SHORT_OF_SPACE, str(path)], cwd=ROOT, check=True, timeout=60)
    journal = read_journal(path)
    assert journal.entries == (ENTRIES[0], ENTRIES[2])
    assert journal.notes == ("damaged lines were left out: 1, the first is line 2",)


def test_a_folder_that_cannot_be_written_is_told_in_one_message(tmp_path: Path) -> None:
    with pytest.raises(InterruptedByEnvironment, match="writing failed"):
        JournalWriter(tmp_path / "missing" / "journal.jsonl")
