from __future__ import annotations

from pathlib import Path

import pytest

from nexus_orch.errors import InterruptedByEnvironment
from nexus_orch.record.stop_request import StopRequest, read_stop_request, write_stop_request


def test_a_request_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "stop.request"
    assert read_stop_request(path) is None
    write_stop_request(path, StopRequest(1.0, "nexus stop"))
    assert read_stop_request(path) == StopRequest(1.0, "nexus stop")
    write_stop_request(path, StopRequest(2.0, "nexus stop --force", force=True))
    assert read_stop_request(path) == StopRequest(2.0, "nexus stop --force", force=True)


@pytest.mark.parametrize("content", [b"", b"please", b"\xff\xfe", b"[1]", b'{"time": "now"}'])
def test_a_file_made_by_hand_is_a_request_too(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "stop.request"
    path.write_bytes(content)
    assert read_stop_request(path) == StopRequest(0.0, "stop.request")


def test_a_request_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(InterruptedByEnvironment, match="NEXUS_HOME"):
        write_stop_request(tmp_path / "missing" / "stop.request", StopRequest(1.0, "nexus stop"))
