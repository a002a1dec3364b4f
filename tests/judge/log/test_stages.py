"""The stages of a start: in order, never backwards, with the progress that bars tell."""

from __future__ import annotations

import pytest

from nexus_orch.judge.log.lines import parse_line
from nexus_orch.judge.log.stages import advance
from nexus_orch.types import Stage, Starting


def after(*lines: str, eager: bool = False) -> Starting:
    starting = Starting()
    for line in lines:
        starting = advance(starting, parse_line(line), eager=eager)
    return starting


@pytest.mark.parametrize(
    ("line", "stage", "progress"),
    [
        ("Loading safetensors checkpoint shards:  56% Completed | 5/9 [00:13<00:11,  2.87s/it]", "loading", 5 / 9),
        ("Loading pt checkpoint shards: 100% Completed | 2/2 [00:03<00:00,  1.5s/it]", "loading", 1.0),
        ("Multi-thread loading shards:  50% Completed | 4/8 [00:03<00:03]", "loading", 0.5),
        ("Capturing CUDA graphs (decode, FULL):   9%|▊   | 3/35 [00:00<00:09,  3.30it/s]", "capturing", 3 / 35),
        ("Capturing CUDA graph shapes: 100%|█████| 35/35 [00:16<00:00,  2.18it/s]", "capturing", 1.0),
        ("INFO 08-19 07:51:03 model_runner.py:732] Loading model weights took 2.3463 GB", "profiling", None),
        ("INFO 07-17 23:41:28 executor.py:56] # GPU blocks: 10039, # CPU blocks: 1310", "capturing", None),
        ("INFO 08-19 07:51:12 model_runner.py:1024] Capturing the model for CUDA graphs.", "capturing", None),
        ("INFO 11-22 12:31:50 [monitor.py:53] torch.compile took 17.65 s in total", "profiling", None),
        (
            "INFO 11-22 12:32:14 [core.py:337] init engine (profile, create kv cache, warmup model) took 41 s",
            "warming",
            None,
        ),
    ],
)
def test_a_line_shows_a_stage(line: str, stage: str, progress: float | None) -> None:
    starting = after(line)
    assert (starting.stage, starting.progress) == (Stage(stage), progress)


def test_without_graphs_the_kv_cache_is_followed_by_the_warm_up() -> None:
    line = "INFO 11-22 12:31:53 [gpu_worker.py:538] Available KV cache memory: 57.21 GiB"
    assert after(line).stage == Stage.CAPTURING
    assert after(line, eager=True).stage == Stage.WARMING


def test_a_start_never_goes_backwards() -> None:
    """A draft model is loaded after the model, and a slow rank reports what a fast one has long behind it."""
    starting = after(
        "Capturing CUDA graphs (FULL):  50%|█  | 5/10 [00:00<00:09]",
        "Loading safetensors checkpoint shards:   0% Completed | 0/9 [00:00<?, ?it/s]",
        "INFO 08-19 07:51:03 [model_runner.py:732] Loading drafter model...",
    )
    assert starting == Starting(Stage.CAPTURING, 0.5, "Capturing CUDA graphs (FULL) 5/10")


def test_an_unknown_bar_moves_within_the_stage() -> None:
    starting = after(
        "INFO 08-19 07:51:03 [m.py:732] Model loading took 2.3 GiB and 3.0 seconds",
        "DeepGEMM warmup:  25%|██   | 256/1024 [00:09<00:27]",
    )
    assert starting == Starting(Stage.PROFILING, 0.25, "DeepGEMM warmup 256/1024")


def test_a_build_of_kernels_is_progress() -> None:
    assert after("[12/300] nvcc -c sampling.cu -o sampling.o").progress == 12 / 300


@pytest.mark.parametrize(
    "line",
    ["100% sure", "5%|", "Loading:  50% Completed | 1/0 [", "[3/0] nothing", "a: 1%| | 9999999999999/1", "", "%"],
)
def test_what_only_looks_like_a_bar_is_none(line: str) -> None:
    assert after(line).progress is None


def test_a_line_that_says_nothing_changes_nothing() -> None:
    starting = Starting(Stage.LOADING, 0.5, "x 1/2")
    assert advance(starting, parse_line("INFO 08-19 07:51:03 [m.py:732] all is well"), eager=False) is starting
