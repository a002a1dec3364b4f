"""`nexus bench` on a server of ours, as a user calls it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

import pytest

from nexus_orch.testing import FakeEngine
from tests.session.conftest import Desk, wait_for


@pytest.fixture
def served(desk: Desk, behave: Callable[[FakeEngine], None]) -> Desk:
    behave(FakeEngine(tokens_per_second=400))
    return desk


def serve(desk: Desk, *overrides: str) -> subprocess.Popen[str]:
    process = desk.start(f"serve.port={desk.port}", "--format", "plain", *overrides)
    wait_for(lambda: '"state": "ready"' in desk.nexus("ps", "--format", "json").stdout, "a ready server")
    return process


def test_loads_of_the_only_run_as_table_and_json(served: Desk) -> None:
    process = serve(served, "workload.input_tokens=24", "workload.output_tokens=6")
    done = served.nexus("bench", "--concurrency", "1,4", "--format", "json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["run"] == served.run_folders[-1].name
    loads = [(taken["load"]["concurrency"], taken["load"]["output_tokens"]) for taken in document["measurements"]]
    assert loads == [(1, 6), (4, 6)]
    assert all(taken["figures"]["failed"] == 0 for taken in document["measurements"])
    assert document["measurements"][0]["figures"]["client"].startswith("vllm bench serve")
    table = served.nexus("bench", served.run_folders[-1].name, "--client", "nexus", "--requests", "3")
    assert "0 of 3" in table.stdout
    assert "measured by nexus_orch" in table.stdout
    by_url = served.nexus("bench", "--url", f"http://127.0.0.1:{served.port}", "--input-tokens=8", "--output-tokens=4")
    assert by_url.returncode == 0, by_url.stderr
    assert "measured by nexus_orch" in by_url.stdout
    assert served.nexus("stop", "--all").returncode == 0
    process.communicate()


def test_a_context_too_short_for_the_workload(served: Desk) -> None:
    process = serve(served, "model.max_model_len=256", "workload.input_tokens=200", "workload.output_tokens=50")
    shown = served.nexus("bench", "--input-tokens", "240", "--output-tokens", "20")
    assert shown.returncode == 2
    assert "240 tokens in and 20 out are more than the context of 256 tokens" in shown.stderr
    assert served.nexus("stop", "--all").returncode == 0
    process.communicate()


def test_a_server_that_answers_nothing_is_a_failure(desk: Desk, behave: Callable[[FakeEngine], None]) -> None:
    behave(FakeEngine(dies_after_requests=2))
    done = desk.nexus("bench", "--url", f"http://127.0.0.1:{desk.port}")
    assert done.returncode == 4
    assert "no request was answered" in done.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "nothing runs"),
        (("20990101",), "there are no runs yet"),
        (("--url", "ftp://x"), "this is no address of a server"),
        (("--url", "127.0.0.1:1", "--concurrency", "0"), "whole numbers from 1"),
        (("--url", "127.0.0.1:1", "--requests", "0", "--input-tokens", "-1"), "2 problems"),
        (("--url", "127.0.0.1:1", "--client", "vllm"), "the server's engine is not known"),
        (("--api-key-env", "KEY"), "belongs to --url"),
        (("--url", "127.0.0.1:1", "--api-key-env", "NOBODY_SET_THIS"), "this variable is not set"),
    ],
)
def test_mistakes_are_told(desk: Desk, words: tuple[str, ...], told: str) -> None:
    done = desk.nexus("bench", *words)
    assert told in done.stderr
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
