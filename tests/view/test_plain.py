from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

from nexus_orch.types import LogLine, Probed, Started, StopAsked
from nexus_orch.view.picture import make_shown_line
from nexus_orch.view.plain import WARNINGS_PER_ATTEMPT, PlainView
from nexus_orch.view.server import MeanRates
from tests.record.examples import START, make_plan
from tests.view.histories import QUESTION, replay_all

LOGS = Path(__file__).parents[1] / "data" / "logs"
AFTER_THE_PLAN = """\
       0.0 s  qwen32b, hybrid, vLLM 0.32.0, http://127.0.0.1:8000, 20261123-140000-qwen32b-hybrid
       0.0 s  attempt 1: engine started, pid 4050
       2.0 s  warning: Triton is not installed.
       2.0 s  loading
       8.0 s  error: EngineCore failed to start.
       8.0 s  failed: weights_oom
                torch.OutOfMemoryError: CUDA out of memory.
                remedy: offload more of the weights
       9.0 s  the engine exited with code 1
       9.0 s  attempt 2: offload more of the weights
       9.0 s  qwen32b, hybrid, vLLM 0.32.0, http://127.0.0.1:8000, 20261123-140000-qwen32b-hybrid
       9.0 s  memory.cpu_offload_gib 14.0 -> 16.0
        12 s  attempt 2: engine started, pid 4100
        14 s  loading 0%: checkpoint shards 0/17
        36 s  3 MiB of the engine's output was dropped
        36 s  loading 80%: checkpoint shards 14/17
        45 s  profiling
        58 s  warming
  1 min 00 s  ready after 48 s: http://127.0.0.1:8000
                ask it: curl http://127.0.0.1:8000/v1/completions -H 'Content-Type: application/json' -d \
'{"prompt": "The capital of France is", "max_tokens": 16}'
  1 min 02 s  question: What is the capital of France?
  1 min 02 s  answer, 4.2 tokens/s:
                Paris is the capital.
                It lies on the Seine.
  1 min 35 s  serving: running 3, waiting 1, KV 42%, prefix hits 61%, in 1,204 tok/s, out 87.4 tok/s, preemptions 2, \
GPU 0 21.0/24.0 GiB, GPU 1 20.5/24.0 GiB, RAM 40.0/128.0 GiB
  1 min 50 s  degraded: half of the prefix cache is lost
  1 h 06 min  serving: running 3, waiting 1, KV 42%, prefix hits 61%, in 1,204 tok/s, out 87.4 tok/s, preemptions 2, \
GPU 0 21.0/24.0 GiB, GPU 1 20.5/24.0 GiB, RAM 40.0/128.0 GiB
  1 h 06 min  stopped: interrupted with Ctrl-C
  1 h 06 min  the engine exited with code 0
"""


def _view() -> tuple[PlainView, io.StringIO]:
    out = io.StringIO()
    return PlainView(out), out


def test_a_whole_run_in_plain_lines() -> None:
    view, out = _view()
    replay_all(view)
    text = out.getvalue()
    assert text.endswith(AFTER_THE_PLAN)
    assert text.startswith("fits: qwen32b on 2 x 24.0 GiB (rtx4090x2) with hybrid, vLLM 0.32.0\n")
    assert text.count("fits: ") == 1
    assert "hf_do_not_tell" not in text
    assert "\x1b" not in text


def test_warnings_are_told_once_for_each_place_and_not_without_end() -> None:
    view, out = _view()
    view.observe(Started(START, 1, 1, ()))
    for number in range(3 * WARNINGS_PER_ATTEMPT):
        for _ in range(3):
            view.observe(LogLine(START, 1, f"WARNING 11-23 14:00:05 [file{number}.py:1] odd thing {number}"))
    assert out.getvalue().count("warning: odd thing") == WARNINGS_PER_ATTEMPT
    view.observe(Started(START, 2, 1, ()))
    view.observe(LogLine(START, 2, "WARNING 11-23 14:00:05 [file0.py:1] odd thing 0"))
    assert out.getvalue().endswith("warning: odd thing 0\n")


def test_what_an_engine_says_of_being_stopped_is_not_told() -> None:
    view, out = _view()
    view.observe(Started(START, 1, 4050, ("vllm",)))
    view.observe(StopAsked(START + 1, 1, "done"))
    view.observe(LogLine(START + 2, 1, "ERROR 11-23 06:31:21 [async_llm.py:704] AsyncLLM output_handler failed."))
    view.observe(Started(START + 3, 2, 4060, ("vllm",)))
    view.observe(LogLine(START + 4, 2, "ERROR 11-23 06:31:21 [async_llm.py:704] another attempt failed."))
    assert "output_handler" not in out.getvalue()
    assert "another attempt failed" in out.getvalue()


def test_control_sequences_of_the_engine_do_not_reach_the_pipe() -> None:
    view, out = _view()
    view.observe(LogLine(START, 1, "ERROR 11-23 14:00:05 [a.py:1] \x1b[31mred\x1b[0m \x1b]0;title\x07\x07bell\tend"))
    assert out.getvalue() == "       0.0 s  error: red bell end\n"


def test_a_question_without_an_answer_is_told() -> None:
    view, out = _view()
    view.answer(QUESTION, Probed(START, 1, "question", False, "the question was cancelled"))
    assert out.getvalue().endswith("no answer: the question was cancelled\n")


def test_a_plan_without_a_command_can_be_shown() -> None:
    view, out = _view()
    view.plan(replace(make_plan(), fits=False))
    assert out.getvalue().startswith("does not fit: ")


def test_the_status_line_tells_the_mean_since_the_last_one() -> None:
    rates = MeanRates()
    for rate in (0.0, 90.0, 60.0):
        rates.take({"generation_tokens_per_second": rate, "running": 3.0})
    assert rates.read() == {"generation_tokens_per_second": 50.0}
    assert rates.read() == {}


def test_a_healthy_start_shows_only_warnings_that_ask_something_of_a_person() -> None:
    lines = (LOGS / "vllm-0.32.0-cpu-ok.log").read_text(encoding="utf-8").splitlines()
    shown = {make_shown_line(line).text for line in lines if make_shown_line(line).level == "warning"}
    assert {text.split(" is not found")[0].split(" of 20000")[0] for text in shown} == {
        "Found ulimit",
        "libtcmalloc",
        "libiomp",
    }
