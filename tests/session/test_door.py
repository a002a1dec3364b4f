"""`nexus-run serve.front_door=true` on a real process that behaves like vLLM: who waits, who is told, what ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest

from nexus_orch.record.events import AttemptEnded, Judged, Launched
from nexus_orch.testing import FakeEngine
from nexus_orch.types import Failed, Ready
from tests.session.conftest import PATIENCE_SECONDS, Desk, wait_for

Behave = Callable[[FakeEngine], None]
DOOR = "serve.front_door=true"
STREAM = {"prompt": "Hello", "max_tokens": 300, "ignore_eos": True, "stream": True}


class Guest:
    """Clients of a run with a door."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.url = f"http://127.0.0.1:{desk.port}"

    def ask(self, prompt: str = "Hello") -> httpx.Response:
        with httpx.Client(base_url=self.url, trust_env=False, timeout=PATIENCE_SECONDS) as client:
            return client.post("/v1/completions", json={"prompt": prompt, "max_tokens": 3})

    def get(self, path: str) -> httpx.Response:
        with httpx.Client(base_url=self.url, trust_env=False, timeout=PATIENCE_SECONDS) as client:
            return client.get(path)

    def stream(self, began: threading.Event) -> str:
        text = ""
        with (
            httpx.Client(base_url=self.url, trust_env=False, timeout=PATIENCE_SECONDS) as client,
            client.stream("POST", "/v1/completions", json=STREAM) as response,
        ):
            for piece in response.iter_text():
                text += piece
                began.set()
        return text

    def is_open(self) -> bool:
        try:
            return self.get("/livez").status_code == 200
        except httpx.TransportError:
            return False

    def figure(self, name: str) -> float:
        lines = self.get("/metrics").text.splitlines()
        return float(next(line for line in lines if line.startswith(f"nexus_door_{name} ")).split()[-1])


@pytest.fixture
def guest(desk: Desk) -> Guest:
    return Guest(desk)


def start(desk: Desk, *more: str) -> subprocess.Popen[str]:
    return desk.start(DOOR, f"serve.port={desk.port}", *more)


def end(running: subprocess.Popen[str]) -> tuple[int, str]:
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=PATIENCE_SECONDS)
    return running.returncode, out + err


def is_ready(desk: Desk, times: int = 1) -> bool:
    return sum(isinstance(entry.verdict, Ready) for entry in desk.journal(Judged)) >= times


def kill_core(desk: Desk) -> None:
    """As the kernel does when memory runs out."""
    engine = desk.journal(Launched)[-1].engine
    for child in psutil.Process(engine.pid).children():
        child.kill()


def test_clients_wait_for_the_start_and_through_a_restart(desk: Desk, guest: Guest, behave: Behave) -> None:
    behave(FakeEngine(boot_seconds=1))
    running = start(desk)
    wait_for(guest.is_open, "the door")
    assert guest.get("/readyz").status_code == 503
    assert guest.ask().status_code == 200  # held until the engine was ready
    wait_for(lambda: is_ready(desk), "ready")
    kill_core(desk)
    wait_for(lambda: guest.get("/readyz").status_code == 503, "the death to be seen")
    assert guest.get("/livez").status_code == 200
    assert guest.ask().status_code == 200
    assert guest.figure("engine_deaths_total") == 1
    code, text = end(running)
    assert code == 130
    assert f"curl http://127.0.0.1:{desk.port}/v1/completions" in text
    assert [entry.port for entry in desk.journal(Launched)] == [desk.port, desk.port]
    assert {entry.url for entry in desk.journal(Launched)} == {guest.url}
    first, *_ = desk.journal(AttemptEnded)
    assert isinstance(first.verdict, Failed)


def test_the_engine_listens_on_this_machine_only(desk: Desk, guest: Guest) -> None:
    running = start(desk, "serve.host=0.0.0.0")
    wait_for(lambda: is_ready(desk), "ready")
    argv = json.loads((desk.run_folders[-1] / "command.json").read_text(encoding="utf-8"))["argv"]
    assert argv[argv.index("--host") + 1] == "127.0.0.1"
    assert argv[argv.index("--port") + 1] != str(desk.port)
    assert guest.ask().status_code == 200
    assert guest.url in desk.nexus("ps").stdout
    code, _ = end(running)
    assert code == 130


def test_streams_are_told_of_the_death_and_others_are_sent_again(desk: Desk, guest: Guest, behave: Behave) -> None:
    behave(FakeEngine(tokens_per_second=30))
    running = start(desk)
    wait_for(lambda: is_ready(desk), "ready")
    began = threading.Event()
    with ThreadPoolExecutor() as pool:
        reading = pool.submit(guest.stream, began)
        assert began.wait(PATIENCE_SECONDS)
        kill_core(desk)
        text = reading.result()
    assert "the engine died" in text and "[DONE]" not in text
    assert guest.ask().status_code == 200
    end(running)


def test_one_bad_request_costs_two_restarts_and_is_answered_422(desk: Desk, guest: Guest, behave: Behave) -> None:
    behave(FakeEngine(dies_of="poison"))
    running = start(desk)
    wait_for(lambda: is_ready(desk), "ready")
    bad = guest.ask("poison")
    assert bad.status_code == 422 and "last two deaths" in bad.json()["error"]["message"]
    assert guest.ask().status_code == 200
    assert guest.ask("poison").status_code == 422
    assert guest.figure("engine_deaths_total") == 2
    assert end(running)[0] == 130


def test_a_stream_goes_on_after_a_restart(desk: Desk, guest: Guest, behave: Behave) -> None:
    behave(FakeEngine(tokens_per_second=40))
    running = start(desk, "serve.continue_streams=true")
    wait_for(lambda: is_ready(desk), "ready")
    began = threading.Event()
    with ThreadPoolExecutor() as pool:
        reading = pool.submit(guest.stream, began)
        assert began.wait(PATIENCE_SECONDS)
        kill_core(desk)
        text = reading.result()
    assert text.count("data: {") == 300 and text.endswith("data: [DONE]\n\n")
    assert ": continued after a restart" in text and "token_ids" not in text
    end(running)


def test_streams_go_on_only_behind_a_door_and_where_the_engine_tells_ids(desk: Desk, behave: Behave) -> None:
    done = desk.run("serve.continue_streams=true")
    assert done.returncode == 2 and "serve.front_door=true" in done.stderr
    behave(FakeEngine(version="0.9.2"))
    done = desk.run(DOOR, "serve.continue_streams=true", f"serve.port={desk.port}")
    assert done.returncode == 2 and "0.10.2 and later" in done.stderr
    assert desk.run_folders == []


def test_an_engine_that_is_given_up_is_told_to_who_waits(desk: Desk, guest: Guest, behave: Behave) -> None:
    behave(FakeEngine(boot_seconds=3, fails="weights_oom"))
    running = start(desk)
    wait_for(guest.is_open, "the door")
    answer = guest.ask()
    assert answer.status_code == 503 and "weights_oom" in answer.json()["error"]["message"]
    running.communicate(timeout=PATIENCE_SECONDS)
    assert running.returncode == 4


@pytest.mark.parametrize("how", ["nexus stop", "ctrl-c"])
def test_stopping_tells_streams_and_ends(desk: Desk, guest: Guest, behave: Behave, how: str) -> None:
    behave(FakeEngine(tokens_per_second=10))
    running = start(desk)
    wait_for(lambda: is_ready(desk), "ready")
    began = threading.Event()
    with ThreadPoolExecutor() as pool:
        reading = pool.submit(guest.stream, began)
        assert began.wait(PATIENCE_SECONDS)
        if how == "nexus stop":
            assert desk.nexus("stop", desk.run_folders[-1].name).returncode == 0
        else:
            running.send_signal(signal.SIGINT)
        text = reading.result()
    assert "the server is being stopped" in text and "[DONE]" not in text
    running.communicate(timeout=PATIENCE_SECONDS)
    assert running.returncode == (0 if how == "nexus stop" else 130)
    assert not guest.is_open()


def test_the_key_stands_in_nothing_that_is_written(desk: Desk, guest: Guest) -> None:
    desk.environ["MY_KEY"] = "planted-secret-7f3a"
    running = start(desk, "serve.api_key_env=MY_KEY")
    wait_for(lambda: is_ready(desk), "ready")
    assert guest.ask().status_code == 401
    answer = httpx.post(
        f"{guest.url}/v1/completions",
        json={"prompt": "a", "max_tokens": 2},
        headers={"Authorization": "Bearer planted-secret-7f3a"},
        trust_env=False,
    )
    assert answer.status_code == 200
    _, text = end(running)
    assert "planted-secret" not in text
    for path in desk.home.rglob("*"):
        if path.is_file():
            assert b"planted-secret" not in path.read_bytes(), path


def test_a_supervisor_that_is_killed_takes_the_door_with_it(desk: Desk, guest: Guest) -> None:
    running = start(desk)
    wait_for(lambda: is_ready(desk), "ready")
    running.kill()
    running.communicate(timeout=PATIENCE_SECONDS)
    assert not guest.is_open()
    assert desk.nexus("stop", desk.run_folders[-1].name).returncode == 0


def test_a_taken_port_is_a_mistake_before_anything_is_launched(desk: Desk, guest: Guest) -> None:
    first = start(desk)
    wait_for(guest.is_open, "the door")
    second = desk.run(DOOR, f"serve.port={desk.port}")
    assert second.returncode == 2 and f"port {desk.port} is taken" in second.stderr
    assert end(first)[0] == 130


def test_without_a_door_nothing_of_it_is_loaded() -> None:
    code = "import sys, nexus_orch.session.run; sys.exit('aiohttp' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == 0
