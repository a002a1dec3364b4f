"""Clients that send nonsense, too much, too slowly, or do not read: each is answered or dropped, and harms nobody."""

from __future__ import annotations

import socket
import threading

import pytest

from nexus_orch.door import front_door
from nexus_orch.door.edge import body, client, listen
from nexus_orch.door.rules import HouseRules
from nexus_orch.testing import FakeEngine
from nexus_orch.types import MIB
from tests.door.conftest import PATIENCE_SECONDS, Stand, wait_for


def talk(stand: Stand, sent: bytes, *, half_closed: bool = False) -> bytes:
    """All that the door says to these bytes until it closes the connection."""
    with socket.create_connection(("127.0.0.1", stand.port), PATIENCE_SECONDS) as connection:
        connection.sendall(sent)
        if half_closed:
            connection.shutdown(socket.SHUT_WR)
        said = b""
        while piece := connection.recv(65536):
            said += piece
        return said


POST = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a client of TLS\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nHost: x\r\nX : spaced\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 20_000 + b"\r\n\r\n",
        b"GET /" + b"y" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(500)) + b"\r\n",
        POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        POST + b"Content-Length: -1\r\n\r\n",
        POST + b"Content-Length: 0x10\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    ],
)
def test_what_is_no_http_is_refused_and_the_connection_closed(stand: Stand, sent: bytes) -> None:
    stand.open()
    said = talk(stand, sent, half_closed=True)
    assert said == b"" or said.split(b" ", 2)[1] in (b"400", b"505")
    assert stand.counts()["nexus_door_held"] == stand.counts()["nexus_door_kept_bytes"] == 0


def test_json_that_is_none_or_too_deep_is_the_engines_business(stand: Stand) -> None:
    stand.open()
    stand.start_engine()
    with stand.client() as guest:
        for content in (b"{", b"[" * 100_000, b"\xff\xfe", b"null", b'{"n": 1e400}'):
            assert guest.post(
                "/v1/tokenize", content=content, headers={"Content-Type": "application/json"}
            ).status_code in (404, 405)
            stand_answer = guest.post("/tokenize", content=content, headers={"Content-Type": "application/json"})
            assert stand_answer.status_code == 404  # the fake engine has no such route: it was asked


def test_a_connection_that_asks_nothing_is_closed(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listen, "HEADER_SECONDS", 0.3)
    stand.open()
    assert talk(stand, b"GET /livez HTTP/1.1\r\nHost: slow") == b""
    assert talk(stand, b"") == b""


def test_too_large_bodies_are_refused_before_they_are_read(stand: Stand) -> None:
    stand.open(HouseRules(most_body_bytes=MIB))
    said = talk(stand, POST + b"Content-Length: 1048577\r\n\r\n" + b"x" * 1000)
    assert said.startswith(b"HTTP/1.1 413") and b"limits.body_mib" in said
    chunks = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    said = talk(stand, POST + b"Transfer-Encoding: chunked\r\n\r\n" + chunks * 20)
    assert said.startswith(b"HTTP/1.1 413")
    assert stand.counts()["nexus_door_kept_bytes"] == 0


def test_bodies_up_to_the_limit_pass(stand: Stand) -> None:
    stand.open()
    stand.start_engine()
    assert stand.complete("x" * (10 * MIB - 1000)).status_code == 200


def test_a_body_that_stops_coming_is_given_up(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "PAUSE_SECONDS", 0.3)
    stand.open()
    said = talk(stand, POST + b"Content-Length: 1000\r\n\r\nhello")
    assert said.startswith(b"HTTP/1.1 408")
    assert stand.counts()["nexus_door_kept_bytes"] == 0


def test_a_client_that_waits_for_leave_to_send_its_body_gets_it(stand: Stand) -> None:
    stand.open()
    stand.start_engine()
    with socket.create_connection(("127.0.0.1", stand.port), PATIENCE_SECONDS) as connection:
        connection.sendall(POST + b"Content-Length: 29\r\nExpect: 100-continue\r\n\r\n")
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b'{"prompt":"a","max_tokens":2}')
        said = b""
        while piece := connection.recv(65536):
            said += piece
    assert said.startswith(b"HTTP/1.1 200 ")


def test_old_clients_are_served(stand: Stand) -> None:
    stand.open()
    stand.start_engine()
    asked = b'{"prompt":"a","max_tokens":3,"stream":true}'
    head = b"POST /v1/completions HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    said = talk(stand, head % len(asked) + asked)
    assert said.startswith(b"HTTP/1.0 200 ") and b"chunked" not in said
    assert said.endswith(b"data: [DONE]\n\n")


def test_a_connection_too_many_is_refused(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front_door, "MOST_CONNECTIONS", 16)
    stand.open()
    many = [socket.create_connection(("127.0.0.1", stand.port), PATIENCE_SECONDS) for _ in range(16)]
    try:
        assert talk(stand, b"").startswith(b"HTTP/1.1 503 ")
    finally:
        for connection in many:
            connection.close()
    wait_for(lambda: talk(stand, b"GET /livez HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.0 200"), "room again")


def test_who_does_not_read_is_dropped_and_others_are_served(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "STALL_SECONDS", 0.5)
    stand.open()
    stand.start_engine()
    asked = b'{"prompt":"a","max_tokens":200000,"ignore_eos":true,"stream":true}'
    with socket.create_connection(("127.0.0.1", stand.port), PATIENCE_SECONDS) as connection:
        connection.sendall(POST + b"Content-Length: %d\r\n\r\n" % len(asked) + asked)
        assert stand.complete().status_code == 200
        wait_for(lambda: stand.counts()["nexus_door_left_total"] == 1, "the door to drop it")
    assert stand.complete().status_code == 200


def test_a_client_that_reads_slowly_gets_its_whole_answer(stand: Stand) -> None:
    stand.behaviour = FakeEngine(tokens_per_second=2000)
    stand.open()
    stand.start_engine()
    asked = b'{"prompt":"a","max_tokens":40,"ignore_eos":true,"stream":true}'
    with socket.create_connection(("127.0.0.1", stand.port), PATIENCE_SECONDS) as connection:
        connection.sendall(POST + b"Content-Length: %d\r\n\r\n" % len(asked) + asked)
        said = b""
        while piece := connection.recv(50):
            said += piece
            threading.Event().wait(0.005)
    assert b"data: [DONE]" in said and said.count(b"data: {") == 40
