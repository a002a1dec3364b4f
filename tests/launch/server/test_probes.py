"""Questions put to a fake engine that answers well, badly or not at all."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from nexus_orch.launch.server.probes import probe_completion, probe_health, read_model
from nexus_orch.launch.server.question import ask_question
from nexus_orch.launch.server.server import Server, describe_status, open_client, run_until, text_of
from nexus_orch.testing import FakeEngine
from nexus_orch.types import Probed
from tests.launch.engines import PATIENCE_SECONDS, Watched

Start = Callable[..., Watched]


@pytest.fixture
def serve(start: Start, free_port: int) -> Callable[..., Server]:
    """A fake engine of this behaviour, ready for requests."""

    def serve_engine(engine: FakeEngine | None = None, *options: str, **server: str) -> Server:
        start((engine or FakeEngine()).command(free_port, "org/model", *options)).wait_until_ready()
        return Server("127.0.0.1", free_port, **server)

    return serve_engine


def _complete(server: Server, timeout_seconds: float = PATIENCE_SECONDS) -> Probed:
    async def complete() -> Probed:
        async with open_client(server) as client:
            return await probe_completion(client, server, 1, timeout_seconds)

    return asyncio.run(complete())


def _health(server: Server) -> Probed:
    async def ask() -> Probed:
        async with open_client(server) as client:
            return await probe_health(client, 1)

    return asyncio.run(ask())


def test_a_good_server(serve: Callable[..., Server]) -> None:
    server = serve()
    assert _health(server).ok
    probed = _complete(server)
    assert probed.ok
    assert probed.detail.startswith(" Paris.")
    assert probed.values["output_tokens"] == 8
    assert probed.values["total_seconds"] > 0


def test_the_served_name_is_asked_for(serve: Callable[..., Server]) -> None:
    server = serve(None, "--served-model-name", "mine")
    assert _complete(server).ok

    async def ask() -> str | None:
        async with open_client(server) as client:
            return await read_model(client)

    assert asyncio.run(ask()) == "mine"


def test_a_wrong_name_is_told(serve: Callable[..., Server]) -> None:
    probed = _complete(serve(model="other"))
    assert (probed.ok, probed.detail) == (False, "HTTP 404: The model `other` does not exist.")


def test_nothing_listens(free_port: int) -> None:
    server = Server("127.0.0.1", free_port)
    for probed in (_health(server), _complete(server), ask_question(server, "why?", attempt=1)):
        assert (probed.ok, probed.detail) == (False, "nothing listens there yet")


@pytest.mark.parametrize(
    ("completions", "detail"),
    [("error", "HTTP 500: EngineCore encountered an issue"), ("empty", "the completion is empty")],
)
def test_health_that_lies(completions: str, detail: str, serve: Callable[..., Server]) -> None:
    server = serve(FakeEngine(completions=completions))  # type: ignore[arg-type]
    assert _health(server).ok
    probed = _complete(server)
    assert not probed.ok
    assert probed.detail.startswith(detail)


def test_a_completion_that_hangs_is_given_up(serve: Callable[..., Server]) -> None:
    server = serve(FakeEngine(completions="hang"))
    probed = _complete(server, timeout_seconds=0.2)
    assert (probed.ok, probed.detail) == (False, "no answer within 0.2 s")


def test_the_key_is_sent_and_never_shown(serve: Callable[..., Server]) -> None:
    server = serve(None, "--api-key", "sesame", api_key="sesame")
    assert _complete(server).ok
    assert "sesame" not in repr(server)
    stranger = Server(server.host, server.port)
    assert _complete(stranger).detail == "HTTP 401: Unauthorized"
    assert ask_question(stranger, "why?", attempt=1).detail == "HTTP 401: Unauthorized"


def test_a_proxy_in_the_environment_is_not_used(serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve()
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert _health(server).ok


def test_a_question_is_answered_as_a_stream(serve: Callable[..., Server]) -> None:
    pieces: list[str] = []
    server = serve(FakeEngine(tokens_per_second=200))
    probed = ask_question(server, "What is the capital of France?", attempt=3, max_tokens=5, on_text=pieces.append)
    assert (probed.kind, probed.ok, probed.attempt) == ("question", True, 3)
    assert probed.detail == "".join(pieces) == " Paris. It is the largest"
    assert len(pieces) == 5
    assert probed.values["output_tokens"] == 5
    assert 0 < probed.values["time_to_first_token_seconds"] < probed.values["total_seconds"]
    assert probed.values["tokens_per_second"] > 0


def test_without_a_chat_template_the_text_is_completed(serve: Callable[..., Server]) -> None:
    probed = ask_question(serve(FakeEngine(chat_template=False)), "Paris is", attempt=1, max_tokens=4)
    assert probed.ok
    assert probed.detail == " Paris. It is the"


def test_an_empty_answer_is_no_answer(serve: Callable[..., Server]) -> None:
    probed = ask_question(serve(FakeEngine(completions="empty")), "why?", attempt=1)
    assert (probed.ok, probed.detail) == (False, "the answer is empty")


def test_tokens_without_text_show_that_the_engine_generates(serve: Callable[..., Server]) -> None:
    """Random weights choose special tokens, or ones beyond the tokenizer's vocabulary."""
    server = serve(FakeEngine(completions="wordless", tokens_per_second=200))
    completed = _complete(server)
    assert (completed.ok, completed.detail) == (True, "the completion has 8 tokens and no text")
    answered = ask_question(server, "why?", attempt=1, max_tokens=5)
    assert (answered.ok, answered.detail) == (True, "the answer has 5 tokens and no text")
    assert answered.values["tokens_per_second"] > 0


def test_a_refused_question_tells_the_first_refusal(serve: Callable[..., Server]) -> None:
    probed = ask_question(serve(model="other"), "why?", attempt=1)
    assert (probed.ok, probed.detail) == (False, "HTTP 404: The model `other` does not exist.")


def test_a_question_can_be_cancelled(serve: Callable[..., Server]) -> None:
    stop = threading.Event()
    server = serve(FakeEngine(tokens_per_second=0.001))
    threading.Timer(0.3, stop.set).start()
    probed = ask_question(server, "why?", attempt=1, stop=stop)
    assert (probed.ok, probed.detail) == (False, "the question was cancelled")


def test_a_server_of_another_kind_is_not_ready() -> None:
    with _serving(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\n[1, [2]]\n") as server:
        assert _health(server).ok
        assert _complete(server).detail == "the completion is empty"
        assert ask_question(server, "why?", attempt=1).detail == "the answer is empty"


def test_a_server_that_breaks_off_is_an_answer_too() -> None:
    with _serving(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{") as server:
        assert not _complete(server).ok
    with _serving(b"this is not HTTP\r\n\r\n") as server:
        assert not _health(server).ok
    broken = b'HTTP/1.1 200 OK\r\nContent-Length: 27\r\nConnection: close\r\n\r\ndata: {"error": "no more"}\n\n'
    with _serving(broken) as server:
        assert ask_question(server, "why?", attempt=1).detail == "no more"


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        ({"choices": [{"text": " Paris"}]}, " Paris"),
        ({"choices": [{"delta": {"content": "Par"}}]}, "Par"),
        ({"choices": [{"delta": {"content": None, "reasoning_content": "Hmm"}}]}, "Hmm"),
        ({"choices": [{"message": {"content": "Paris"}}]}, "Paris"),
        ({"choices": []}, ""),
        ({"choices": [{"text": 7}]}, ""),
        ({}, ""),
    ],
)
def test_text_of_the_forms_of_an_answer(reply: dict[str, object], text: str) -> None:
    assert text_of(reply) == text


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (b'{"error": {"message": "new form"}}', "HTTP 400: new form"),
        (b'{"object": "error", "message": "old form"}', "HTTP 400: old form"),
        (b"plain text\n", "HTTP 400: plain text"),
        (b"", "HTTP 400"),
    ],
)
def test_messages_of_errors(content: bytes, detail: str) -> None:
    assert describe_status(400, content) == detail


def test_run_until_gives_the_result_or_none() -> None:
    async def answer() -> int:
        await asyncio.sleep(0)
        return 42

    stop = threading.Event()
    assert run_until(stop, answer()) == 42
    stop.set()
    assert run_until(stop, answer()) is None


def test_ipv6_hosts_stand_in_brackets() -> None:
    assert Server("::", 8000).url == "http://[::1]:8000"
    assert Server("0.0.0.0", 8000).url == "http://127.0.0.1:8000"


@contextmanager
def _serving(answer: bytes) -> Iterator[Server]:
    """A server that gives the same bytes to everyone."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)

        threading.Thread(target=run, daemon=True).start()
        yield Server("127.0.0.1", listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)
