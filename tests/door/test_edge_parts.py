"""The parts of the door's edge that need no connection: headers, routes, streams of events, what a body asks."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from nexus_orch.door.edge.answers import make_error, make_error_event
from nexus_orch.door.edge.asked import count_sequences, parse_body
from nexus_orch.door.edge.headers import choose_request_id, to_client, to_engine
from nexus_orch.door.edge.routes import Route, find_route
from nexus_orch.door.edge.sse import EventReader, is_error, read_data


def test_hop_by_hop_headers_end_at_the_door() -> None:
    given_headers = {
        "Host": "door",
        "Connection": "close, X-Mine",
        "X-Mine": "1",
        "Keep-Alive": "5",
        "Transfer-Encoding": "chunked",
        "Upgrade": "h2c",
        "TE": "trailers",
        "Content-Length": "3",
        "Expect": "100-continue",
        "Accept-Encoding": "br",
        "X-Forwarded-For": "1.2.3.4",
        "Authorization": "Bearer theirs",
        "X-Other": "stays",
    }
    told = to_engine(given_headers, request_id="r", key=None, client="5.6.7.8")
    assert dict(told) == {
        "X-Forwarded-For": "1.2.3.4, 5.6.7.8",
        "Authorization": "Bearer theirs",
        "X-Other": "stays",
        "X-Request-Id": "r",
        "Accept-Encoding": "identity",
    }
    assert to_engine({"x-api-key": "k"}, request_id="r", key="k", client=None)["Authorization"] == "Bearer k"
    assert "x-api-key" not in to_engine({"x-api-key": "k"}, request_id="r", key="k", client=None)


def test_answers_keep_their_headers_and_get_the_clients_id() -> None:
    engine = {"Content-Type": "text/event-stream", "Connection": "close", "X-Request-Id": "its", "Server": "uvicorn"}
    assert dict(to_client(engine, request_id="mine", sends=1)) == {
        "Content-Type": "text/event-stream",
        "X-Request-Id": "mine",
    }
    assert to_client(engine, request_id="mine", sends=2)["X-Nexus-Sent"] == "2"


def test_ids_that_could_do_harm_are_replaced() -> None:
    assert choose_request_id({"X-Request-Id": "abc-1"}) == "abc-1"
    for bad in ("", "a b", "a" * 129, "ä", "a\r\nX: y"):
        assert choose_request_id({"X-Request-Id": bad}) != bad


def test_stored_responses_can_be_read_and_cancelled_and_nothing_else() -> None:
    assert isinstance(find_route("GET", "/v1/responses/resp_12"), Route)
    assert isinstance(find_route("POST", "/v1/responses/resp_12/cancel"), Route)
    assert find_route("POST", "/v1/responses/resp_12") == find_route("GET", "/v1/responses/resp_12/cancel") == 405
    assert find_route("DELETE", "/v1/responses/resp_12") == 405
    assert find_route("GET", "/v1/responses/a/b") == find_route("GET", "/v1/responses/") == 404


EVENTS = st.lists(
    st.sampled_from(
        [
            b'data: {"choices": [{"text": "a"}]}\n\n',
            b'data: {"choices": [{"text": "she said \\"error\\""}], "error": null}\n\n',
            b": a comment\n\n",
            b'event: content_block_delta\ndata: {"type": "content_block_delta"}\n\n',
        ]
    )
)


@given(EVENTS, st.data())
def test_events_come_whole_and_unchanged_however_they_were_cut(events: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(events) + b"data: [DONE]\n\n"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)))))
    reader = EventReader("openai")
    pieces = []
    for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        pieces += list(reader.read(whole[start:end]))
    assert b"".join(piece.content for piece in pieces) == whole
    assert all(piece.content.endswith(b"\n\n") for piece in pieces)
    assert [piece.is_end for piece in pieces if piece.is_end] == [True]
    assert pieces[-1].is_end and not any(piece.is_error for piece in pieces)


def test_errors_of_all_apis_are_seen() -> None:
    assert is_error(b'data: {"error": {"message": "EngineCore encountered an issue."}}\n\n')
    assert is_error(b'event: error\ndata: {"type": "error"}\n\n')
    assert not is_error(b'data: {"choices": [], "error": null}\n\n')
    for style in ("openai", "anthropic", "responses"):
        event = make_error_event(style, 503, 'it "died"\n\nfor good')
        assert is_error(event) and event.endswith(b"\n\n") and event.count(b"\n\n") == 2
        assert 'it "died"' in json.dumps(read_data(event.strip()), ensure_ascii=False).replace("\\", "")


def test_errors_are_said_in_the_clients_api() -> None:
    assert json.loads(make_error("anthropic", 503, "wait", "r1")) == {
        "type": "error",
        "error": {"type": "overloaded_error", "message": "wait"},
        "request_id": "r1",
    }
    assert json.loads(make_error("openai", 422, "no", "r1"))["error"]["type"] == "invalid_request_error"


def test_sequences_are_answers_times_prompts() -> None:
    assert count_sequences({"prompt": "a"}) == count_sequences({"messages": []}) == count_sequences({}) == 1
    assert count_sequences({"prompt": ["a", "b"], "n": 3}) == 6
    assert count_sequences({"prompt": [1, 2, 3]}) == 1
    assert count_sequences({"prompt": [[1, 2], [3]], "n": None}) == 2
    assert count_sequences({"n": -1}) == count_sequences({"n": "many"}) == 1


@given(st.binary())
def test_any_body_can_be_looked_at(body: bytes) -> None:
    assert count_sequences(parse_body(body)) >= 1
