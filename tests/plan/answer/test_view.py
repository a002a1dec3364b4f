"""The plan as a person sees it."""

from __future__ import annotations

import io
import shlex
from dataclasses import replace

import pytest

from nexus_orch.types import Alternative, Plan
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


def test_on_a_cpu_it_is_the_ram_that_ends() -> None:
    bad = _text(plan_of("Qwen/Qwen2.5-7B-Instruct", settings={"memory.kv_cache.size_gib": 30}, ram_gib=16))
    assert "the RAM ends here" in bad
    assert "card" not in bad


@pytest.mark.parametrize("kv_gib", [1, 2, 3, 5, 9, 30])
def test_the_mark_of_the_end_stands_on_one_line(kv_gib: int) -> None:
    """However little is too much: where there is no room behind the mark, the words stand before it."""
    settings = {"memory.kv_cache.size_gib": kv_gib}
    shown = _text(plan_of("Qwen/Qwen2.5-7B-Instruct", settings=settings, ram_gib=15.8))
    (line,) = [line for line in shown.splitlines() if "▲" in line]
    assert "the RAM ends here" in line


def test_values_are_spelled_as_they_are_written() -> None:
    settings = {
        "memory.strategy": "hybrid",
        "memory.offload_params": ("nothing", "experts"),
        "memory.cpu_offload_gib": 8,
    }
    assert "memory.offload_params = [nothing,experts]  (command line)" in _text(
        plan_of(Q32, make_gpu(), settings=settings)
    )


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


def test_the_command_is_pasted_into_a_shell_as_it_stands() -> None:
    argv = (*ARGV, "--hf-overrides", '{"a": "it\'s ' + "long " * 60 + '"}', "--seed", "x" * 300)
    stream = io.StringIO()
    print_plan(plan_of(Q32, make_gpu(), make_gpu()), argv, {"A": "b c", "OMP_NUM_THREADS": "4"}, stream)
    command = stream.getvalue().split("command\n")[1]
    assert shlex.split(command.replace("\\\n", "")) == ["A=b c", "OMP_NUM_THREADS=4", *argv]
    assert all(line.endswith("\\") for line in command.splitlines()[:-1])


def test_a_terminal_gets_the_command_without_filling() -> None:
    stream = _Terminal()
    print_plan(plan_of(Q32, make_gpu(), make_gpu()), (*ARGV, "--seed", "x" * 300), {}, stream)
    lines = stream.getvalue().splitlines()
    assert f"    --seed {'x' * 300}" in lines
    assert "    --dtype bfloat16 \\" in lines


def test_what_a_shipped_profile_writes_by_default_is_not_called_pinned() -> None:
    plan = plan_of(Q32, make_gpu(), make_gpu(), settings={"serve.host": "127.0.0.1"})
    assert "pinned: set on the command line" in _text(plan)
    shipped = replace(plan, spec=replace(plan.spec, origins={"serve.host": "conf/serve/default.yaml:3"}))
    assert "default: " in _text(shipped)
    assert "pinned" not in _text(shipped).split("settings")[1]
    other = replace(shipped, choices=tuple(replace(c, value="0.0.0.0") for c in plan.choices if c.key == "serve.host"))
    assert "pinned" in _text(other)


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


def test_alternatives_are_numbered_with_what_they_bring() -> None:
    plan = plan_of(Q32, make_gpu(), make_gpu())
    other = Alternative(
        "1 more card", ("hardware.gpu.count=3",), "6.1 times the speed", "hybrid", 6144, 2.5, 9, 10.7, 0
    )
    good = replace(plan, prediction=replace(plan.prediction, alternatives=(other, replace(other, change="a=b"))))
    text = _text(good)
    assert "\nalternatives\n  1. 1 more card: context 6,144, 2.5 at once, about 10.7 tokens/s (6.1 times" in text
    assert "  2. a=b: " in text
    assert "what would fit" in _text(replace(good, fits=False))
    assert "alternatives" not in _text(plan)


@pytest.mark.parametrize(("fits", "words"), [(True, "fits, borderline: "), (False, "does not fit, borderline: ")])
def test_a_borderline_verdict_says_so(fits: bool, words: str) -> None:
    plan = plan_of(Q32, make_gpu(), make_gpu())
    assert _text(replace(plan, fits=fits, prediction=replace(plan.prediction, borderline=True))).startswith(words)


def test_a_plan_that_does_not_fit_offers_no_command_and_only_what_was_pinned() -> None:
    text = _text(plan_of(Q32, make_gpu(), settings={"memory.strategy": "vram_only"}))
    assert "\ncommand\n" not in text
    assert "\nsettings\n" not in text
    assert "\npinned\n  memory.strategy = vram_only" in text
    assert "model.dtype" not in text
