from __future__ import annotations

import io
import os
import pty
from dataclasses import dataclass, field

import pytest
from rich.console import Console

from nexus_orch.judge.serving.advice import Advice
from nexus_orch.judge.start.proof import Comparison
from nexus_orch.types import (
    Command,
    Failed,
    GpuSample,
    LogLine,
    Observation,
    Plan,
    Probed,
    Ready,
    Stage,
    Started,
    Starting,
    Verdict,
)
from nexus_orch.view.frame import make_frame
from nexus_orch.view.live import SERVING_SECONDS, STARTING_SECONDS, LiveView
from nexus_orch.view.meters import ASCII
from nexus_orch.view.picture import Picture
from nexus_orch.view.proof import render_proof
from tests.record.examples import START, make_gpu, make_host, make_plan
from tests.view.histories import END, SERVING, replay, replay_all, replay_to_ready

SIZES = [(80, 24), (120, 40), (200, 60), (44, 12), (20, 6), (1, 1)]


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Screen:
    """A live view on a recording console."""

    width: int = 80
    height: int = 24
    out: io.StringIO = field(default_factory=io.StringIO)
    clock: Clock = field(default_factory=Clock)

    def view(self) -> LiveView:
        console = Console(file=self.out, force_terminal=True, width=self.width, height=self.height, highlight=False)
        return LiveView(self.out, console=console, clock=self.clock)

    @property
    def frames(self) -> int:
        """How often the screen was drawn: each time begins at home."""
        return self.out.getvalue().count("\x1b[H")


@dataclass
class PictureView:
    """A view that only keeps the picture."""

    picture: Picture = field(default_factory=Picture)

    def plan(self, plan: Plan, command: Command | None = None, *, run_id: str = "", url: str = "") -> None:
        self.picture.plan(plan, run_id, url)

    def observe(self, observation: Observation) -> None:
        self.picture.observe(observation)

    def verdict(self, verdict: Verdict) -> None:
        self.picture.judge(verdict)

    def message(self, text: str) -> None:
        self.picture.messages.append(text)

    def answer(self, question: str, answer: Probed) -> None:
        """The picture has it from the observation."""

    def proof(self, comparisons: tuple[Comparison, ...]) -> None:
        self.picture.prove(comparisons)

    def advice(self, advice: Advice) -> None:
        self.picture.messages.append(advice.text)

    def close(self) -> None:
        """There is nothing to give back."""


def _picture() -> Picture:
    """The picture of a run that serves."""
    view = PictureView()
    replay_to_ready(view)
    replay(view, SERVING[:1])
    return view.picture


def _text(picture: Picture, width: int = 80, height: int = 24) -> list[str]:
    return [line.plain.rstrip() for line in make_frame(picture, width, height)]


def test_a_frame_of_a_run_that_serves() -> None:
    assert _text(_picture()) == [
        " qwen32b · hybrid · vLLM 0.32.0                           http://127.0.0.1:8000",
        " ● ready  5.0 s                                                       attempt 2",
        " ✓ starting  ✓ loading  ✓ profiling  · capturing  ✓ warming  ● ready",
        "── GPU ─────────────────────────────────────────────────────────────────────────",
        " 0 RTX 4090 ████████████████████████░░░░  21.0 / 24.0 GiB   93%   61 °C   287 W",
        " 1 RTX 4090 ████████████████████████░░░░  20.5 / 24.0 GiB   93%   61 °C   287 W",
        "── host ────────────────────────────────────────────────────────────────────────",
        " RAM █████░░░░░░░░░░░░ 40.0 / 128.0 GiB   swap ░░░░░░░░░░░░░░░░░ 0.0 / 8.0 GiB",
        " Worker_TP0        4101 17.0 GiB  100%  vllm              4100  2.0 GiB   10%",
        "── server ──────────────────────────────────────────────────────────────────────",
        " running 3  waiting 1  KV 42%  prefix hits 61%  in 1,204 tok/s  out 87.4 tok/s",
        " preemptions 2",
        "── answer ──────────────────────────────────────────────────────────────────────",
        " Paris is the capital.",
        " It lies on the Seine.",
        "── messages ────────────────────────────────────────────────────────────────────",
        " attempt 2: offload more of the weights",
        "── log (3 MiB dropped) ─────────────────────────────────────────────────────────",
        " Worker_TP0 Attempted to load weight a",
        " Worker_TP0 Attempted to load weight b",
        " Worker_TP0 still loading",
        " Worker_TP0 profiling",
        " Worker_TP0 warm",
        " Ctrl-C stops   the whole log: nexus logs 20261123-140000-qwen32b-hybrid",
    ]


def test_there_is_room_for_durations_in_a_wide_terminal() -> None:
    assert _text(_picture(), 120, 40)[2] == (
        " ✓ starting 2.0 s  ✓ loading 31 s  ✓ profiling 13 s  · capturing  ✓ warming 2.0 s  ● ready"
    )


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_a_frame_fits_its_terminal(width: int, height: int) -> None:
    frame = make_frame(_picture(), width, height)
    assert len(frame) == height
    assert max(line.cell_len for line in frame) <= width
    assert not any("\n" in line.plain for line in frame)


ADVICE = (
    "advice: 17 preemptions a minute for 5 minutes: the KV cache is full at 12 requests; memory.kv_cache.dtype=fp8 "
    "would hold 24 requests instead of 12"
)


def test_a_long_message_goes_on_in_further_lines() -> None:
    picture = _picture()
    picture.messages.append(ADVICE)
    told = [
        " attempt 2: offload more of the weights",
        " advice: 17 preemptions a minute for 5 minutes: the KV cache is full at 12",
        "   requests; memory.kv_cache.dtype=fp8 would hold 24 requests instead of 12",
    ]
    assert "\n".join(told) in "\n".join(_text(picture, 80, 40))


def test_the_newest_message_stays_when_there_is_little_room() -> None:
    picture = _picture()
    picture.messages.extend(["ready", ADVICE])
    small = _text(picture)
    assert "   requests; memory.kv_cache.dtype=fp8 would hold 24 requests instead of 12" in small
    assert " ready" not in small


def test_the_proof_gives_way_to_what_is_said() -> None:
    picture = _picture()
    proof = (Comparison("KV cache", 2**30, 2**30, "bytes"),)
    picture.prove(proof)
    row = render_proof(proof)[-1]
    picture.messages.append(ADVICE)
    small, large = "\n".join(_text(picture)), "\n".join(_text(picture, 80, 40))
    assert "plan and measurement" not in small and row not in small
    assert "plan and measurement" in large and row in large


def test_a_message_without_end_is_cut() -> None:
    picture = _picture()
    picture.messages.append(ADVICE * 5)
    lines = _text(picture, 80, 40)
    start = next(number for number, line in enumerate(lines) if line.startswith(" advice:"))
    assert lines[start + 2].endswith("…") and lines[start + 3].startswith("── log")


def test_progress_inside_a_stage_is_a_bar() -> None:
    picture = Picture()
    picture.observe(LogLine(START, 1, ""))
    picture.judge(Starting(Stage.LOADING, 0.45, "checkpoint shards\n8/17"))
    assert _text(picture)[1] == " ● loading  0.0 s  █████████░░░░░░░░░░░ 45%  checkpoint shards 8/17"


def test_many_cards_push_other_lines_away_but_not_themselves() -> None:
    picture = _picture()
    for index in range(8):
        picture.observe(make_gpu(START + 70, index, 20.0))
    frame = "\n".join(_text(picture))
    assert all(f"\n {index} RTX 4090" in frame for index in range(8))
    assert " RAM " in frame and " running 3" in frame and "Worker_TP0        4101" not in frame


def test_cards_that_find_no_room_are_counted() -> None:
    picture = _picture()
    for index in range(16):
        picture.observe(make_gpu(START + 70, index, 20.0))
    frame = _text(picture, 80, 16)
    assert " and 12 more" in frame
    assert sum(" RTX 4090 " in line for line in frame) == 4


def test_the_cards_of_an_earlier_attempt_are_gone() -> None:
    picture = Picture()
    picture.observe(make_gpu(START, 0, 20.0, 1))
    picture.observe(Started(START + 1, 2, 7, ("vllm",)))
    picture.observe(make_gpu(START + 2, 3, 1.0))
    assert [gpu.index for gpu in picture.record.latest.gpus] == [3]


def test_what_the_driver_does_not_tell_is_left_out() -> None:
    picture = Picture()
    picture.observe(GpuSample(START, 1, 0, "NVIDIA GB10", 2**30, 2**31))
    assert _text(picture)[4].endswith("  1.0 / 2.0 GiB")


def test_a_failure_shows_its_cause_and_its_first_evidence() -> None:
    picture = Picture()
    picture.judge(Failed("weights_oom", ("CUDA out of memory",), ""))
    assert _text(picture)[1] == " ● failed: weights_oom  CUDA out of memory"


def test_warnings_and_errors_stand_out() -> None:
    picture = Picture()
    for level in ("INFO", "WARNING", "ERROR"):
        picture.observe(LogLine(START, 1, f"{level} 11-23 14:00:05 [a.py:1] text"))
    styles = [[str(span.style) for span in line.spans] for line in make_frame(picture, 80, 24) if "text" in line.plain]
    assert styles == [[], ["yellow"], ["bold red"]]


def test_the_servers_notes_of_being_watched_are_left_out() -> None:
    picture = Picture()
    for path in ("/health", "/metrics", "/v1/models"):
        picture.observe(LogLine(START, 1, f'INFO:     127.0.0.1:59412 - "GET {path} HTTP/1.1" 200 OK'))
    assert [line.text for line in picture.last_lines(9)] == ['127.0.0.1:59412 - "GET /v1/models HTTP/1.1" 200 OK']


def test_a_terminal_without_unicode_gets_plain_signs() -> None:
    frame = make_frame(_picture(), 80, 24, ASCII)
    answered = "".join(line.plain for line in frame)
    assert answered.isascii()


def test_the_screen_is_given_back_with_what_is_worth_keeping() -> None:
    screen = Screen()
    replay_all(screen.view())
    text = screen.out.getvalue()
    assert text.count("\x1b[?1049h") == text.count("\x1b[?1049l") == 1
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1
    before, _, after = text.partition("\x1b[?1049l")
    assert "fits: " in before.partition("\x1b[?1049h")[0]
    assert "hf_do_not_tell" not in text
    for kept in (
        "attempt 1 failed, weights_oom: torch.OutOfMemoryError",
        "attempt 2: memory.cpu_offload_gib 14.0 -> 16.0",
        "ready: http://127.0.0.1:8000",
        "Paris is the capital.",
        "4.2 tokens/s",
        "stopped: interrupted with Ctrl-C",
    ):
        assert kept in after, kept


@pytest.mark.parametrize(("verdict", "pause"), [(Starting(), STARTING_SECONDS), (Ready(), SERVING_SECONDS)])
def test_frames_are_drawn_no_more_often_than_needed(verdict: Starting | Ready, pause: float) -> None:
    screen = Screen()
    view = screen.view()
    view.verdict(verdict)
    drawn = screen.frames
    for tenth in range(100):
        screen.clock.now = tenth / 10
        view.observe(make_host(START + tenth / 10, 40.0))
    view.close()
    assert 8 <= screen.frames - drawn <= 10 / pause + 1


def test_the_terminals_size_may_change_at_any_time() -> None:
    screen = Screen()
    view = screen.view()
    replay_to_ready(view)
    for width, height in SIZES:
        view._console.size = (width, height)
        screen.clock.now += 10
        view.observe(make_host(START + 70, 40.0))
    view.close()
    assert screen.frames > len(SIZES)


def test_a_terminal_that_vanishes_does_not_end_the_run() -> None:
    leader, follower = pty.openpty()
    with os.fdopen(follower, "w", encoding="utf-8") as terminal:
        clock = Clock()
        view = LiveView(terminal, clock=clock)
        view.plan(make_plan())
        os.close(leader)
        for item in (*SERVING, *END):
            clock.now += 10
            replay(view, (item,))
        view.message("nobody reads this")
        view.close()
        assert view._stream.is_gone
