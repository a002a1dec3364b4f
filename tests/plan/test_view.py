"""The plan as a person sees it."""

from __future__ import annotations

import io

import pytest

from nexus_orch.types import Plan
from nexus_orch.view.plan import print_plan, render_plan
from tests.plan.cases import make_gpu, plan_of

ARGV = ("vllm", "serve", "some model", "--dtype", "bfloat16", "--enforce-eager")
Q32 = "Qwen/Qwen2.5-32B-Instruct"


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _text(plan: Plan) -> str:
    stream = io.StringIO()
    print_plan(plan, ARGV, {"OMP_NUM_THREADS": "4"}, stream)
    return stream.getvalue()


def test_the_verdict_comes_first() -> None:
    assert _text(plan_of(Q32, make_gpu(), make_gpu())).startswith("fits: ")
    bad = _text(plan_of(Q32, make_gpu(), settings={"memory.strategy": "vram_only"}))
    assert bad.startswith("does not fit: ")
    assert "remedy: fits with" in bad
    assert "the card ends here" in bad


def test_a_pipe_gets_plain_text_of_at_most_its_width() -> None:
    text = _text(plan_of(Q32, make_gpu(), make_gpu()))
    assert "\x1b" not in text
    assert all(line == line.rstrip() for line in text.splitlines())
    assert max(map(len, text.splitlines())) <= 140
    for word in ("GPU 0 and 1", "weights", "KV cache", "host RAM", "tokens/s", "OMP_NUM_THREADS=4", "'some model'"):
        assert word in text


def test_pinned_settings_are_marked() -> None:
    text = _text(plan_of(Q32, make_gpu(), make_gpu(), settings={"model.max_model_len": 4096}))
    line = next(line for line in text.splitlines() if "pinned" in line and "GiB" not in line)
    assert "command line" in line


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_it_fits_the_terminal(width: int) -> None:
    from rich.console import Console

    stream = io.StringIO()
    console = Console(file=stream, width=width, highlight=False)
    console.print(render_plan(plan_of(Q32, make_gpu(), make_gpu()), ARGV, {}, width))
    assert max(len(line) for line in stream.getvalue().splitlines()) <= width


def test_a_terminal_gets_colours() -> None:
    stream = _Terminal()
    print_plan(plan_of(Q32, make_gpu(), make_gpu()), ARGV, {}, stream)
    assert "fits" in stream.getvalue()


def test_a_stream_without_unicode_gets_ascii() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii", errors="strict")
    print_plan(plan_of(Q32, make_gpu(), make_gpu()), ARGV, {}, stream)
    stream.flush()
    assert b"# weights" in raw.getvalue()


def test_the_cpu_engine_shows_the_hosts_ram() -> None:
    text = _text(plan_of("HuggingFaceTB/SmolLM2-135M-Instruct"))
    assert "on the CPU, vLLM" in text
    assert "host RAM  " in text
    assert "processes" in text


def test_a_plan_without_cards_still_says_why() -> None:
    text = _text(plan_of(Q32, make_gpu(), settings={"serve.tensor_parallel": 4}))
    assert "not_enough_gpus" in text
    assert "KV cache" not in text
