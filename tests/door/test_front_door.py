"""The door with real connections and a real engine process behind it."""

from __future__ import annotations

import json
import threading
from concurrent.futures import Future, ThreadPoolExecutor

import httpx
import pytest

from nexus_orch.door.rules import HouseRules
from nexus_orch.errors import ConfigError
from nexus_orch.testing import FakeEngine
from tests.door.conftest import PATIENCE_SECONDS, Stand, wait_for

STREAM = {"prompt": "Hello", "max_tokens": 200, "ignore_eos": True, "stream": True}


def read_stream(stand: Stand, began: threading.Event | None = None, path: str = "/v1/completions") -> str:
    """All that a streaming client gets; `began` is set at its first byte."""
    body = STREAM if path == "/v1/completions" else {**STREAM, "messages": [{"role": "user", "content": "Hi"}]}
    text = ""
    with stand.client() as client, client.stream("POST", path, json=body) as response:
        for piece in response.iter_text():
            text += piece
            if began is not None:
                began.set()
    return text


def test_requests_pass_with_their_id_and_answers_come_back(stand: Stand) -> None:
    stand.open()
    stand.start_engine()
    with stand.client() as client:
        answer = client.post("/v1/completions", json={"prompt": "a", "max_tokens": 2}, headers={"X-Request-Id": "me"})
        assert answer.status_code == 200 and answer.json()["choices"][0]["text"]
        assert answer.headers["X-Request-Id"] == "me"
        assert "Server" not in answer.headers or "BaseHTTP" not in answer.headers["Server"]
        assert len(client.get("/v1/models").headers["X-Request-Id"]) == 32
    text = read_stream(stand)
    assert text.endswith("data: [DONE]\n\n") and text.count("data: ") == 201


def test_an_error_of_the_engine_is_handed_on(stand: Stand) -> None:
    stand.open()
    stand.start_engine()
    assert stand.complete(model="another").status_code == 404
    assert stand.complete(model="another").json()["error"]["message"].startswith("The model")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/reset_prefix_cache"),
        ("POST", "/sleep"),
        ("POST", "/wake_up"),
        ("POST", "/collective_rpc"),
        ("POST", "/v1/load_lora_adapter"),
        ("POST", "/v1/unload_lora_adapter"),
        ("POST", "/start_profile"),
        ("POST", "/update_weights"),
        ("POST", "/scale_elastic_ep"),
        ("POST", "/abort_requests"),
        ("POST", "/pause"),
        ("POST", "/fault_tolerance/apply"),
        ("POST", "/inference/v1/generate"),
        ("POST", "/invocations"),
        ("GET", "/server_info"),
        ("GET", "/docs"),
        ("GET", "/openapi.json"),
        ("POST", "/v1/completions/../../sleep"),
        ("POST", "/v1/../sleep"),
        ("POST", "//sleep"),
        ("POST", "/%73leep"),
        ("POST", "/v1/responses/%2e%2e/%2e%2e/sleep"),
        ("GET", "/v1/completions"),
        ("DELETE", "/v1/completions"),
        ("OPTIONS", "/v1/completions"),
        ("POST", "/v1/models"),
    ],
)
def test_what_is_for_who_starts_the_engine_never_passes(stand: Stand, method: str, path: str) -> None:
    stand.open()  # no engine: what passed would wait for one
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", stand.port, timeout=30)
    connection.request(method, path, body=b"{}")  # unlike httpx, it sends the path as it stands
    assert connection.getresponse().status in (404, 405)
    connection.close()


def test_a_request_waits_for_the_first_start(stand: Stand) -> None:
    stand.open()
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(stand.complete)
        wait_for(lambda: stand.counts()["nexus_door_held"] == 1, "the request")
        stand.start_engine()
        assert answer.result().status_code == 200


def test_health_says_what_it_means(stand: Stand) -> None:
    stand.open()
    with stand.client() as client:
        assert client.get("/livez").status_code == 200
        assert client.get("/readyz").status_code == client.get("/health").status_code == 503
        assert client.get("/health").json()["engine"] == "starting"
        stand.start_engine()
        assert client.get("/readyz").status_code == client.get("/health").status_code == 200
        stand.door.troubled("no answer for 60 s")
        assert client.get("/health").status_code == 503
        assert client.get("/health").json()["reason"] == "no answer for 60 s"
        assert client.get("/readyz").status_code == 200
        stand.door.down("it died", is_death=True)
        assert client.get("/readyz").json() | {"retry_after_seconds": 1} == {
            "engine": "down",
            "waiting": 0,
            "running": 0,
            "reason": "it died",
            "retry_after_seconds": 1,
        }
        assert client.get("/livez").status_code == 200
        stand.door.given_up("it died too often")
        assert client.get("/health").json()["engine"] == "given up"


def test_the_figures_of_the_engine_come_with_those_of_the_door(stand: Stand) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    stand.open()
    stand.start_engine()
    stand.complete()
    with stand.client() as client:
        families = {family.name: family for family in text_string_to_metric_families(client.get("/metrics").text)}
    assert families["nexus_door_answered"].samples[0].value == 1
    assert families["nexus_door_queue_seconds"].type == "histogram"
    assert families["vllm:generation_tokens"].samples[0].value == 4


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
def test_a_stream_that_the_engine_breaks_ends_with_an_error_and_no_done(stand: Stand, path: str) -> None:
    stand.behaviour = FakeEngine(tokens_per_second=50)
    stand.open()
    stand.start_engine()
    began = threading.Event()
    with ThreadPoolExecutor() as pool:
        reading = pool.submit(read_stream, stand, began, path)
        assert began.wait(30)
        stand.kill_core()
        stand.restart("EngineCore died")
        text = reading.result()
    *_, last = [line for line in text.splitlines() if line]
    assert json.loads(last.removeprefix("data: "))["error"] == {
        "message": "EngineCore died",
        "type": "service_unavailable_error",
        "param": None,
        "code": 503,
    }
    assert "[DONE]" not in text
    assert stand.counts()["nexus_door_broken_total"] == 1


def test_a_stream_is_broken_off_when_the_connection_ends_and_nobody_tells_of_a_death(stand: Stand) -> None:
    stand.behaviour = FakeEngine(tokens_per_second=50)
    stand.open()
    stand.start_engine()
    began = threading.Event()
    with ThreadPoolExecutor() as pool:
        reading = pool.submit(read_stream, stand, began)
        assert began.wait(30)
        assert stand.engine is not None
        stand.engine.kill()
        text = reading.result()
    assert "error" in text and "[DONE]" not in text


def test_what_had_not_begun_is_sent_again_and_says_so(stand: Stand) -> None:
    stand.behaviour = FakeEngine(completion_seconds=PATIENCE_SECONDS)
    stand.open()
    stand.start_engine()
    with ThreadPoolExecutor(8) as pool:
        answers: list[Future[httpx.Response]] = [pool.submit(stand.complete, f"number {n}") for n in range(8)]
        wait_for(lambda: stand.counts()["nexus_door_running"] == 8, "all requests")
        stand.kill_core()
        stand.behaviour = FakeEngine()
        stand.restart()
        for answer in answers:
            assert answer.result().status_code == 200
            assert answer.result().headers["X-Nexus-Sent"] == "2"
    assert stand.counts()["nexus_door_sent_again_total"] == 8


def test_a_request_that_kills_is_quarantined_after_two_deaths(stand: Stand) -> None:
    stand.behaviour = FakeEngine(dies_of="poison", completion_seconds=0.2)
    stand.open()
    stand.start_engine()
    deaths = 0
    with ThreadPoolExecutor(8) as pool:
        answers = {word: pool.submit(stand.complete, word) for word in ("one", "two", "poison", "three", "four")}
        while not answers["poison"].done():
            assert stand.engine is not None
            if stand.engine.poll() is not None:
                deaths += 1
                stand.restart(convicts=True)
        for word, answer in answers.items():
            assert answer.result().status_code == (422 if word == "poison" else 200)
    assert deaths == 2
    assert "last two deaths" in answers["poison"].result().json()["error"]["message"]
    assert stand.complete("poison").status_code == 422
    assert stand.complete("five").status_code == 200


def test_clients_who_left_are_dropped(stand: Stand) -> None:
    stand.open()
    with stand.client() as client, pytest.raises(httpx.ReadTimeout):
        client.post("/v1/completions", json={"prompt": "a"}, timeout=0.3)
    wait_for(lambda: stand.counts()["nexus_door_left_total"] == 1, "the client's leave")
    assert stand.counts()["nexus_door_held"] == stand.counts()["nexus_door_kept_bytes"] == 0


def test_the_engine_is_told_when_a_streaming_client_leaves(stand: Stand) -> None:
    stand.behaviour = FakeEngine(tokens_per_second=20)
    stand.open()
    stand.start_engine()
    with stand.client() as client, client.stream("POST", "/v1/completions", json=STREAM) as response:
        next(response.iter_text())
    wait_for(lambda: stand.counts()["nexus_door_running"] == 0, "the door to forget it")
    url = f"http://127.0.0.1:{stand.engine_port}/metrics"
    wait_for(lambda: "num_requests_running" in httpx.get(url, trust_env=False).text, "the engine")
    wait_for(
        lambda: any(
            line.startswith("vllm:num_requests_running") and line.endswith(" 0.0")
            for line in httpx.get(url, trust_env=False).text.splitlines()
        ),
        "the engine to end it",
    )


def test_the_key_is_checked_at_the_door(stand: Stand) -> None:
    stand.environ = {"VLLM_API_KEY": "secret-key"}
    stand.open(HouseRules(api_key="secret-key"))
    stand.start_engine()
    body = {"prompt": "a", "max_tokens": 2}
    with stand.client() as client:
        for headers, status in (
            ({}, 401),
            ({"Authorization": "Bearer wrong"}, 401),
            ({"Authorization": "Basic secret-key"}, 401),
            ({"Authorization": "Bearer secret-key"}, 200),
            ({"x-api-key": "secret-key"}, 200),  # Anthropic's clients
        ):
            answer = client.post("/v1/completions", json=body, headers=headers)
            assert answer.status_code == status, headers
        assert client.get("/v1/models").status_code == 401
        assert client.post("/v1/messages", json=body).json()["error"]["type"] == "authentication_error"
        assert client.get("/livez").status_code == client.get("/health").status_code == 200


def test_draining_lets_answers_end_and_holds_what_comes(stand: Stand) -> None:
    stand.behaviour = FakeEngine(tokens_per_second=100)
    stand.open()
    stand.start_engine()
    began = threading.Event()
    with ThreadPoolExecutor() as pool:
        reading = pool.submit(read_stream, stand, began)
        assert began.wait(30)
        stand.door.draining("a better plan", 60)
        held = pool.submit(stand.complete)
        assert reading.result().endswith("data: [DONE]\n\n")
        assert stand.counts()["nexus_door_held"] == 1
        stand.door.down("a better plan", is_death=False)
        assert stand.engine is not None
        stand.engine.terminate()
        stand.wait_for_end()
        stand.start_engine()
        assert held.result().status_code == 200


def test_closing_tells_everybody_why(stand: Stand) -> None:
    stand.behaviour = FakeEngine(tokens_per_second=20)
    stand.slots = 1
    stand.open()
    stand.start_engine()
    began = threading.Event()
    with ThreadPoolExecutor() as pool:
        reading = pool.submit(read_stream, stand, began)
        assert began.wait(30)
        held = pool.submit(stand.complete)
        wait_for(lambda: stand.counts()["nexus_door_held"] == 1, "the second request")
        stand.door.close("the server is being stopped")
        assert "the server is being stopped" in reading.result()
        assert held.result().status_code == 503
    with pytest.raises(httpx.ConnectError):
        stand.complete()


def test_a_taken_port_is_told(stand: Stand) -> None:
    stand.open()
    with pytest.raises(ConfigError, match=f"port {stand.port} cannot be listened on"):
        stand.open()
