"""Streams that go on after a restart: what is asked of the next engine, and what the client reads."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_orch.door.edge.continuing import CannotContinueError, Continuation, can_continue
from nexus_orch.door.edge.sse import read_data
from nexus_orch.door.rules import HouseRules
from nexus_orch.testing import FakeEngine
from tests.door.conftest import PATIENCE_SECONDS, Stand, wait_for

TEXTS = ["Hel", "lo", "", "", " wörld", " and", "", "😀", " on", "!"]
"""Of tokens 100 and up; an empty one is a part of a character."""
FIRST = 100
PROMPT = [1, 2, 3]


def play(asked: dict[str, Any], *, is_chat: bool, life: int) -> list[dict[str, Any]]:
    """The events of an engine that goes on greedily after the tokens in the prompt."""
    prompt = asked.get("prompt") if isinstance(asked.get("prompt"), list) else PROMPT
    assert isinstance(prompt, list)
    start = sum(token >= FIRST for token in prompt)
    texts = TEXTS[start : start + (asked.get("max_tokens") or len(TEXTS))]
    head = {"id": f"id-{life}", "object": "o", "created": life, "model": "m"}
    events: list[dict[str, Any]] = []
    for number, text in enumerate(texts):
        said: dict[str, Any] = {"delta": {"content": text}} if is_chat else {"text": text}
        choice = {"index": 0, **said, "token_ids": [FIRST + start + number]}
        if number == len(texts) - 1:
            choice["finish_reason"] = "length"
        event = {**head, "choices": [choice]}
        if number == 0:
            (event if is_chat else choice)["prompt_token_ids"] = prompt
        events.append(event)
    usage = {"prompt_tokens": len(prompt), "completion_tokens": len(texts), "total_tokens": len(prompt) + len(texts)}
    return [*events, {**head, "choices": [], "usage": usage}]


def encode(event: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(event).encode() + b"\n\n"


def read_text(event: Any) -> str:
    choice = event["choices"][0] if event["choices"] else {}
    return str(choice.get("text") or choice.get("delta", {}).get("content") or "")


@given(st.lists(st.integers(0, 11), max_size=4), st.booleans(), st.booleans())
def test_whenever_the_engine_dies_no_text_and_no_token_is_lost_or_doubled(
    deaths: list[int], is_chat: bool, shows_ids: bool
) -> None:
    path = "/v1/chat/completions" if is_chat else "/v1/completions"
    content = {"prompt": "x", "max_tokens": len(TEXTS), "stream": True, "stream_options": {"include_usage": True}}
    stream = Continuation(path, {**content, "return_token_ids": shows_ids})
    stream.max_model_len = 1000
    got: list[Any] = []
    for life, death in enumerate([*deaths, 100]):
        if stream.is_whole:
            got += [read_data(event + b"\n\n") for event in stream.make_end().split(b"\n\n")[:-2]]
            break
        asked_path, body = stream.make_request()
        events = play(json.loads(body), is_chat=asked_path != "/v1/completions", life=life)
        got += [read_data(stream.take(encode(event))) for event in events[:death]]
        if death >= len(events):
            break
    ids = [token for event in got for choice in event["choices"] for token in choice.get("token_ids", [])]
    assert ids == (list(range(FIRST, FIRST + len(TEXTS))) if shows_ids else [])
    if not shows_ids or not deaths:  # with ids, half a character that the client has as an id is not sent again
        assert "".join(map(read_text, got)) == "".join(TEXTS)
    assert len({event["id"] for event in got}) == 1
    assert got[-1]["usage"] == {"prompt_tokens": 3, "completion_tokens": 10, "total_tokens": 13}
    finishes = [choice.get("finish_reason") for event in got for choice in event["choices"]]
    assert [reason for reason in finishes if reason] == ["length"]


@pytest.mark.parametrize(
    "more",
    [
        {"n": 2},
        {"logprobs": 1},
        {"tools": [{"type": "function"}]},
        {"response_format": {"type": "json_object"}},
        {"structured_outputs": {"regex": "a"}},
        {"stop": ["\n"]},
        {"presence_penalty": 0.5},
        {"echo": True},
        {"stream": False},
        {"something_new": 1},
        {"prompt": ["a", "b"]},
        {"prompt": [[1], [2]]},
    ],
)
def test_what_would_be_changed_by_it_does_not_go_on(more: dict[str, Any]) -> None:
    plain = {"prompt": "a", "stream": True, "temperature": 0, "n": 1, "tools": None, "logprobs": None}
    assert can_continue("/v1/completions", plain)
    assert not can_continue("/v1/completions", {**plain, **more})


def test_chats_go_on_unless_they_show_images_or_think() -> None:
    text = {"role": "user", "content": [{"type": "text", "text": "a"}]}
    image = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}
    assert can_continue("/v1/chat/completions", {"messages": [text], "stream": True})
    assert not can_continue("/v1/chat/completions", {"messages": [text, image], "stream": True})
    assert not can_continue("/v1/responses", {"input": "a", "stream": True})
    stream = Continuation("/v1/chat/completions", {"messages": [text], "stream": True})
    stream.max_model_len = 100
    stream.make_request()
    delta = {"reasoning": "hm"}
    stream.take(encode({"id": "1", "prompt_token_ids": [1], "choices": [{"delta": delta, "token_ids": [100]}]}))
    with pytest.raises(CannotContinueError, match="reasoning"):
        stream.make_request()
    stream.take(encode({"id": "1", "choices": [{"delta": {"content": "so"}, "token_ids": [101]}]}))
    path, body = stream.make_request()
    assert path == "/v1/completions" and json.loads(body)["prompt"] == [1, 100, 101]
    assert json.loads(body)["max_tokens"] == 97


def read_events(stand: Stand, path: str, began: threading.Event, **more: Any) -> list[Any]:
    content = {"prompt": "a b"} if path == "/v1/completions" else {"messages": [{"role": "user", "content": "a b"}]}
    asked = {**content, "max_tokens": 120, "ignore_eos": True, "stream": True, "temperature": 0, **more}
    events: list[Any] = []
    with stand.client() as client, client.stream("POST", path, json=asked) as response:
        assert response.headers["X-Nexus-Continues"] == "yes"
        for line in response.iter_lines():
            if line.startswith("data: "):
                events.append("done" if line.endswith("[DONE]") else json.loads(line[6:]))
                began.set()
    return events


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
def test_a_stream_outlives_two_engines(stand: Stand, path: str) -> None:
    stand.behaviour = FakeEngine(tokens_per_second=40)
    stand.open(HouseRules(continues=True))
    stand.start_engine()
    began = threading.Event()
    usage = {"stream_options": {"include_usage": True}}
    with ThreadPoolExecutor() as pool:
        reading = pool.submit(read_events, stand, path, began, return_token_ids=True, **usage)
        assert began.wait(PATIENCE_SECONDS)
        for deaths in (1, 2):
            stand.kill_core()
            stand.restart("killed")
            went_on = partial(lambda times: stand.counts()["nexus_door_continued_total"] == times, deaths)
            wait_for(went_on, "the rest")
        *events, done = reading.result()
    assert done == "done"
    ids = [token for event in events for choice in event["choices"] for token in choice.get("token_ids", [])]
    assert ids == list(range(1000, 1120))
    assert events[-1]["usage"]["completion_tokens"] == 120
    assert len({event["id"] for event in events}) == 1


def test_what_cannot_go_on_is_told(stand: Stand) -> None:
    stand.behaviour = FakeEngine(tokens_per_second=40)
    stand.open(HouseRules(continues=True))
    stand.start_engine()
    asked = {"prompt": "a", "max_tokens": 100, "ignore_eos": True, "stream": True, "stop": ["never"]}
    text = ""
    with stand.client() as client, client.stream("POST", "/v1/completions", json=asked) as response:
        assert "X-Nexus-Continues" not in response.headers
        for piece in response.iter_text():
            if not text:
                stand.kill_core()
                stand.restart("killed")
            text += piece
    assert '"message": "killed"' in text and "[DONE]" not in text
