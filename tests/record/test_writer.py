from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from nexus_orch.record.events import Family, Judged
from nexus_orch.record.journal import read_journal
from nexus_orch.record.run_folder import RunFolder
from nexus_orch.record.samples import SampleThinner, read_latest
from nexus_orch.record.writer import RunWriter
from nexus_orch.types import (
    GIB,
    Degraded,
    Exited,
    GpuSample,
    LogLine,
    Metric,
    Observation,
    Probed,
    ProcessKey,
    Ready,
    Stage,
    Started,
    Starting,
    Verdict,
)
from tests.record.examples import make_gpu, make_host

HOUR = 3600
DAY = 24 * HOUR


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


def _observe(folder: RunFolder, *observations: Observation) -> list[object]:
    writer = RunWriter(folder)
    for observation in observations:
        writer.observe(observation)
    writer.close()
    return list(read_journal(folder.journal).entries)


def _judge(folder: RunFolder, *verdicts: Verdict) -> list[Verdict]:
    writer = RunWriter(folder)
    for second, verdict in enumerate(verdicts):
        writer.judge(float(second), 1, verdict)
    writer.close()
    return [entry.verdict for entry in read_journal(folder.journal).entries if isinstance(entry, Judged)]


def test_a_series_keeps_at_most_one_sample_a_second(folder: RunFolder) -> None:
    kept = _observe(folder, *(make_gpu(100 + tenth / 10, 0, 20.0) for tenth in range(100)))
    times = [sample.time for sample in kept if isinstance(sample, GpuSample)]
    assert len(times) == 10
    assert all(later - earlier >= 1.0 for earlier, later in pairwise(times))


def test_each_gpu_is_a_series(folder: RunFolder) -> None:
    assert len(_observe(folder, make_gpu(1.0, 0, 20.0), make_gpu(1.0, 1, 20.0), make_host(1.0, 8.0))) == 3


@pytest.mark.slow
def test_a_week_of_samples_stays_small() -> None:
    thinner = SampleThinner()
    kept = [second for second in range(7 * DAY) if thinner.wants(Metric(float(second), 1, {}))]
    assert kept[:600] == list(range(600))
    assert len(kept) < 5000
    assert max(later - earlier for earlier, later in pairwise(kept)) <= 7 * DAY / 600 + 1


def test_a_clock_that_was_set_back_does_not_silence_a_series() -> None:
    thinner = SampleThinner()
    assert thinner.wants(Metric(5000.0, 1, {}))
    assert thinner.wants(Metric(1400.0, 1, {}))


def test_peaks_between_two_kept_samples_are_not_lost(folder: RunFolder) -> None:
    samples = [make_gpu(100.0, 0, 20.0), make_gpu(100.2, 0, 23.0), make_gpu(100.4, 0, 20.0)]
    assert len(_observe(folder, *samples, Metric(100.5, 1, {"tokens": float("nan")}))) == 2
    latest = read_latest(folder.latest)
    assert latest is not None
    assert latest.peaks.gpu_memory_bytes == {"0": 23 * GIB}
    assert latest.gpus[0].memory_used_bytes == 20 * GIB
    assert latest.peaks.metrics == {}


def test_the_latest_cards_are_those_of_the_newest_attempt(folder: RunFolder) -> None:
    _observe(folder, make_gpu(100.0, 0, 20.0, 1), make_gpu(200.0, 2, 21.0), make_gpu(200.0, 3, 22.0))
    latest = read_latest(folder.latest)
    assert latest is not None
    assert [gpu.index for gpu in latest.gpus] == [2, 3]
    assert latest.peaks.gpu_memory_bytes.keys() == {"0", "2", "3"}


def test_log_lines_are_not_repeated_but_dropped_bytes_are_counted(folder: RunFolder) -> None:
    started = Started(1.0, 1, 7, ("vllm",))
    assert _observe(folder, started, LogLine(1.0, 1, "a"), LogLine(2.0, 1, "b", 300), LogLine(3.0, 1, "c", 5)) == []
    latest = read_latest(folder.latest)
    assert latest is not None and latest.dropped_bytes == 305


def test_health_is_kept_when_it_changes(folder: RunFolder) -> None:
    answers = [False, False, True, True, False]
    probes = [Probed(float(second), 1, "health", ok) for second, ok in enumerate(answers)]
    exited = Exited(9.0, 1, -9)
    assert _observe(folder, *probes, exited) == [probes[0], probes[2], probes[4], exited]


def test_completions_are_thinned_like_samples(folder: RunFolder) -> None:
    probes = [Probed(100 + tenth / 10, 1, "completion", True, "Paris") for tenth in range(30)]
    assert len(_observe(folder, *probes)) == 3


def test_only_news_is_written_of_verdicts(folder: RunFolder) -> None:
    news: list[Verdict] = [
        Starting(Stage.STARTING),
        Starting(Stage.LOADING, 0.0),
        Starting(Stage.LOADING, 0.1),
        Ready({"weights_bytes": 1.0}),
        Ready({"weights_bytes": 1.0, "kv_cache_tokens": 2.0}),
        Degraded("slow"),
        Ready({}),
    ]
    old: list[Verdict] = [
        Starting(Stage.STARTING, detail="importing"),
        Starting(Stage.LOADING, 0.05),
        Starting(Stage.LOADING, 0.15),
        Ready({"weights_bytes": 1.5}),
        Ready({"weights_bytes": 1.5, "kv_cache_tokens": 2.5}),
        Degraded("slow"),
        Ready({}),
    ]
    both = [verdict for pair in zip(news, old, strict=True) for verdict in pair]
    assert _judge(folder, *both) == news


def test_a_process_is_written_once(folder: RunFolder) -> None:
    first, second = ProcessKey(1, 1.0), ProcessKey(1, 9.0)
    writer = RunWriter(folder)
    writer.write(Family(1.0, 1, (first,)))
    writer.write(Family(2.0, 1, (first,)))
    writer.write(Family(3.0, 1, (first, second)))
    writer.close()
    assert read_journal(folder.journal).entries == (Family(1.0, 1, (first,)), Family(3.0, 1, (second,)))


def test_a_run_goes_on_when_its_samples_cannot_be_written(folder: RunFolder) -> None:
    folder.journal.symlink_to("/dev/full")
    folder.latest.mkdir()
    writer = RunWriter(folder)
    writer.observe(make_gpu(1.0, 0, 20.0))
    assert writer.lost_samples == 2
    writer.observe(make_host(2.0, 20.0))
    assert writer.lost_samples == 4
    with pytest.raises(Exception, match="writing failed"):
        writer.close()
