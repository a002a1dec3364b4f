"""Of a long crash loop the first and the last starts are read, all are counted, and one that came up ends it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nexus_orch.judge.log import starts
from nexus_orch.judge.log.loops import FIRST_STARTS, LAST_STARTS
from nexus_orch.judge.log.starts import History, read_history
from nexus_orch.judge.start.diagnosis import judge_history

STARTS = 300


def a_start(number: int, failure: str) -> Iterator[str]:
    server, core = f"(APIServer pid={number * 10})", f"(EngineCore pid={number * 10 + 3})"
    yield f"{server} INFO 01-15 09:00:00 [utils.py:2]  ▄▄ ▄█ █     █     █ ▀▄▀ █  version 0.29.0"
    yield f"{server} INFO 01-15 09:00:01 [api_server.py:2] vLLM API server version 0.29.0"
    yield f"{core} ERROR 01-15 09:00:09 [core.py:3] {failure} of start {number}"
    yield "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}"


def a_loop(wrapper: str = "") -> Iterator[str]:
    for number in range(STARTS):
        failure = "OSError: [Errno 28] No space left on device: 'end'" if number == STARTS - 1 else "StrangeError: x"
        yield from (wrapper + line for line in a_start(number, failure))


@pytest.mark.parametrize("wrapper", ["", "vllm-1  | "])
def test_all_starts_are_counted_and_the_last_one_is_judged(wrapper: str) -> None:
    history = read_history(a_loop(wrapper))
    (service,) = history.services.values()
    assert service.count == STARTS
    found = judge_history(history)
    assert found.cause == "disk_full"
    assert f"start {STARTS - 1}" in found.evidence[0]
    assert f"this is start {STARTS} of {STARTS}" in found.remedy


def test_few_starts_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    whole = History._add_whole

    def note(history: History, text: str) -> None:
        read.append(text)
        whole(history, text)

    monkeypatch.setattr(starts.History, "_add_whole", note)
    read_history(a_loop())
    assert len(read) <= 4 * (FIRST_STARTS + LAST_STARTS + 3)


def test_a_start_that_came_up_is_no_failure() -> None:
    lines = [*a_loop(), *a_start(STARTS, "INFO"), "INFO:     Application startup complete."]
    history = read_history([*lines, *a_loop()])
    (service,) = history.services.values()
    assert service.count == 2 * STARTS + 1
    assert any(start.reading.is_up for start in service.ended)


def test_another_service_within_a_loop_is_read() -> None:
    lines = list(a_loop("vllm-1  | "))
    lines[900:900] = [f"other-1  | {line}" for line in a_start(1, "ValueError: Unknown dtype: x")]
    history = read_history(lines)
    assert set(history.services) >= {"vllm-1", "other-1"}
    assert history.services["vllm-1"].count == STARTS
