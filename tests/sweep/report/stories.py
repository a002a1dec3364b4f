"""A small sweep with one of each: planned away, failed, fast, slow, unstable, flaky, confirmed."""

from __future__ import annotations

from nexus_orch.sweep.report.story import SweepStory, make_story
from nexus_orch.sweep.types import (
    INTERRUPTED,
    Begun,
    Ended,
    Finish,
    Goal,
    GridPoint,
    LaunchEnded,
    Outcome,
    Pick,
    Prior,
    SearchDecision,
    Soaked,
    Speed,
    Task,
    Verdict,
)

GRID = tuple(
    {"memory.cpu_offload_gib": offload, "model.max_model_len": context, "serve.max_num_seqs": requests}
    for offload in (4, 8)
    for context in (8192, 16384)
    for requests in (16, 64)
)


def make_prior(speed: float) -> Prior:
    return Prior(True, False, 1 << 30, 20 << 30, 131072.0, 90_000, 80_000, 100_000, 8192, 64, speed, 0.4)


def make_task() -> Task:
    points = tuple(
        GridPoint(
            number,
            settings,
            tuple(f"{key}={value}" for key, value in settings.items()),
            number,
            make_prior(500.0 + 40 * number),
            "weights do not fit: 3.1 GiB are missing" if number == 7 else None,
        )
        for number, settings in enumerate(GRID)
    )
    return Task(points, Goal(concurrency=16))


def outcomes() -> tuple[Outcome, ...]:
    return (
        Begun(2),
        LaunchEnded(2, None, 91_234, 3.0),
        Speed(2, 16, 400.0, 0.9, 0.03, 0, 64, True, 1.0),
        Speed(2, 16, 600.0, 0.5, 0.02, 0, 64, False, 1.0),
        Speed(2, 4, 200.0, 0.2, 0.01, 0, 16, False, 1.0),
        Ended(2),
        LaunchEnded(3, INTERRUPTED, None, 0.5),
        LaunchEnded(6, "no_kv_cache_memory", None, 2.0),
        LaunchEnded(5, None, 95_000, 3.0),
        Speed(5, 16, 720.0, 0.4, 0.02, 0, 64, False, 1.0),
        Soaked(5, 1, 300, 24_300, None, None, 5.0),
        LaunchEnded(3, None, 90_000, 3.0),
        Speed(3, 16, 700.0, 0.4, 0.02, 0, 64, False, 1.0),
        Soaked(3, 0, 1_240, None, 1e6, 5e6, 12.0),
        Ended(3),
        LaunchEnded(3, None, 90_000, 3.0, is_confirming=True),
        Speed(3, 16, 710.0, 0.41, 0.02, 0, 64, False, 1.0),
        Ended(3),
    )


def make_decision(*, is_over: bool = True) -> SearchDecision:
    pick = Pick(3, 705.0, 0.014, 2, 1_240, 0.0024, True, "the fastest that is stable")
    verdicts = (
        Verdict(7, "plan", "weights do not fit: 3.1 GiB are missing"),
        Verdict(0, "measured", "at most 560 tokens/s, and point 3 has 705"),
        Verdict(6, "started", "its own start failed"),
    )
    step = Finish(3, "confirmed by 1 further start") if is_over else Finish(None, "nothing was stable")
    return SearchDecision(
        step, verdicts, pick if is_over else None, 5, 1, 42.0, 2, 0, 0.0, ("the plan's ranking holds",)
    )


def tell(*, is_over: bool = True) -> SweepStory:
    return make_story(make_task(), outcomes(), make_decision(is_over=is_over))
