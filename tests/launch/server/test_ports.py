"""Choosing a port, with real listeners in the way."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from nexus_orch.errors import ConfigError, Problem
from nexus_orch.launch.server import ports
from nexus_orch.launch.server.ports import choose_port, claim_port, find_port_problem, is_free, reachable_host


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def _problem_of(host: str, port: int | None = None) -> Problem:
    with pytest.raises(ConfigError) as caught:
        choose_port(host, port, origin="serve/mine.yaml:3")
    (problem,) = caught.value.problems
    return problem


def test_a_free_pinned_port_is_taken_as_it_is(free_port: int) -> None:
    assert choose_port("127.0.0.1", free_port) == free_port


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost", ""])
def test_a_taken_port_names_its_holder(host: str, taken_port: int) -> None:
    problem = _problem_of(host, taken_port)
    assert problem.cause == "port_in_use"
    assert (problem.key, problem.value, problem.origin) == ("serve.port", taken_port, "serve/mine.yaml:3")
    assert f"by process {os.getpid()} (" in problem.message
    assert problem.remedy is not None


def test_unpinned_takes_the_first_free_one(taken_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "FIRST_PORT", taken_port)
    monkeypatch.setattr(ports, "LAST_PORT", taken_port + 50)
    chosen = choose_port("127.0.0.1")
    assert taken_port < chosen <= taken_port + 50
    assert is_free("127.0.0.1", chosen)


def test_no_free_port_at_all(taken_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "FIRST_PORT", taken_port)
    monkeypatch.setattr(ports, "LAST_PORT", taken_port)
    assert _problem_of("127.0.0.1").cause == "port_in_use"


def test_a_closed_connection_does_not_count(free_port: int) -> None:
    with socket.create_server(("127.0.0.1", free_port)) as listener:
        client = socket.create_connection(("127.0.0.1", free_port))
        server, _ = listener.accept()
        server.close()  # the side that closes first keeps the port in TIME_WAIT
        client.close()
    assert is_free("127.0.0.1", free_port)


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_numbers_that_are_no_port(port: int) -> None:
    problem = find_port_problem("127.0.0.1", port)
    assert problem is not None
    assert problem.message == f"{port} is not a port"


@pytest.mark.parametrize("host", ["no such host", "host.invalid", "300.1.1.1", "203.0.113.1"])
def test_hosts_that_are_not_of_this_machine(host: str) -> None:
    problem = _problem_of(host)
    assert (problem.key, problem.value) == ("serve.host", host)
    assert host in problem.message


def test_ipv6() -> None:
    if not _has_ipv6():
        assert _problem_of("::1").key == "serve.host"
        return
    with socket.socket(socket.AF_INET6) as listener:
        listener.bind(("::1", 0))
        listener.listen()
        assert not is_free("::1", listener.getsockname()[1])


def test_where_a_client_finds_the_server() -> None:
    assert [reachable_host(host) for host in ("0.0.0.0", "::", "", "127.0.0.1", "box")] == [
        "127.0.0.1",
        "::1",
        "127.0.0.1",
        "127.0.0.1",
        "box",
    ]


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as trial:
            trial.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_a_reserved_port_is_passed_over_and_still_free_for_its_engine() -> None:
    first = choose_port("127.0.0.1")
    claim = claim_port(first)
    assert claim is not None
    with claim:
        assert claim_port(first) is None
        assert choose_port("127.0.0.1") != first
        with socket.socket() as engine:  # as vLLM binds and listens
            engine.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            engine.bind(("127.0.0.1", first))
            engine.listen()
    assert choose_port("127.0.0.1") == first


def test_old_connections_do_not_claim_a_port() -> None:
    first = choose_port("127.0.0.1")
    with socket.socket() as server, socket.socket() as client:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", first))
        server.listen()
        client.connect(("127.0.0.1", first))
        server.accept()[0].close()  # the side that closes first keeps the connection in TIME_WAIT
        client.recv(1)
    assert choose_port("127.0.0.1") == first
