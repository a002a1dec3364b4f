"""Plan and launch side by side, and what is seen of a launch from outside."""

from __future__ import annotations

import pytest

from nexus_orch.judge.start.proof import Comparison, Footprint, make_proof, note_footprint, single_speed
from nexus_orch.types import GIB, MIB, GpuSample, HostSample, Metric, ProcessSample
from tests.judge.histories import History
from tests.plan.cases import make_gpu, plan_of

MODEL = "Qwen/Qwen2.5-14B-Instruct"


def _host(rss_gib: float = 1.0) -> HostSample:
    """Two processes, the second of 1 GiB, on a machine where others have taken most of the RAM."""
    processes = (ProcessSample(1, "vllm", int(rss_gib * GIB), 0.0), ProcessSample(2, "core", GIB, 0.0))
    return HostSample(1.0, 1, 60 * GIB, 64 * GIB, 0, 0, processes)


def _gpu(index: int, used_gib: float) -> GpuSample:
    return GpuSample(1.0, 1, index, "card", int(used_gib * GIB), 24 * GIB)


def _fold(*samples: HostSample | GpuSample) -> Footprint:
    footprint = Footprint()
    for sample in samples:
        footprint = note_footprint(footprint, sample)
    return footprint


def _by_name(comparisons: tuple[Comparison, ...]) -> dict[tuple[str, str], Comparison]:
    return {(line.name, line.unit): line for line in comparisons}


def test_a_footprint_is_what_was_added_since_the_start() -> None:
    footprint = _fold(_host(), _gpu(0, 1), _gpu(1, 0.5), _host(12), _gpu(0, 20), _gpu(1, 21), _host(30))
    assert footprint.host_bytes == 31 * GIB
    assert footprint.gpu_growth_bytes == int(20.5 * GIB)


def test_nothing_is_known_before_the_first_sample() -> None:
    assert (Footprint().host_bytes, Footprint().gpu_growth_bytes) == (None, None)


def test_each_planned_quantity_stands_beside_what_was_measured() -> None:
    plan = plan_of(MODEL, make_gpu(), ram_gib=128)
    card = plan.per_gpu[0]
    numbers = {"weights_bytes": card.weights_bytes, "offloaded_bytes": 1.05 * card.offloaded_bytes}
    numbers |= {"kv_cache_tokens": plan.kv_cache_tokens, "tokens_per_second": 3.0}
    lines = _by_name(make_proof(plan, numbers, _fold(_host(), _gpu(0, 1), _host(31), _gpu(0, 21))))
    assert lines["weights on the device", "bytes"].difference == 0
    assert lines["weights in host RAM", "bytes"].difference == pytest.approx(0.05)
    assert lines["KV cache", "tokens"].difference == 0
    kept = plan.host.required_bytes - plan.host.loading_bytes
    assert lines["host RAM", "bytes"] == Comparison("host RAM", kept, 32 * GIB, "bytes")
    assert lines["GPU memory", "bytes"].measured == 20 * GIB
    assert lines["one request", "tokens/s"].planned == plan.prediction.decode_tokens_per_second


def test_on_the_cpu_engine_cards_are_not_compared() -> None:
    plan = plan_of("Qwen/Qwen2.5-7B-Instruct")
    lines = _by_name(make_proof(plan, {}, _fold(_gpu(0, 1), _host(1), _gpu(0, 1))))
    assert ("GPU memory", "bytes") not in lines and lines["host RAM", "bytes"].measured == 2 * GIB


def _metric(running: float, rate: float, waiting: float = 0, prompt: float = 0) -> Metric:
    values = {"running": running, "waiting": waiting, "generation_tokens_per_second": rate}
    return Metric(1.0, 1, {**values, "prompt_tokens_per_second": prompt})


def test_the_speed_of_one_request_needs_two_readings_of_one_alone() -> None:
    alone = _metric(1, 8.0)
    assert single_speed(alone, alone) == 8.0
    assert single_speed(None, alone) is None
    assert single_speed(_metric(2, 16.0), alone) is None
    assert single_speed(alone, _metric(1, 8.0, waiting=1)) is None
    assert single_speed(alone, _metric(1, 8.0, prompt=100)) is None
    assert single_speed(alone, _metric(1, 0.0)) is None


def test_the_first_speed_is_kept_and_an_answer_is_more_exact() -> None:
    history = History().ready()
    for rate in (7.0, 8.0, 9.0):
        history.metric(running=1, waiting=0, generation_tokens_per_second=rate, prompt_tokens_per_second=0)
    assert history.state().numbers["tokens_per_second"] == 8.0


def test_shared_memory_counts_once() -> None:
    """Three processes with 100 MiB of libraries each, and pinned memory that one of them has mapped."""
    processes = (
        ProcessSample(1, "server", 500 * MIB, 0.0, 100 * MIB),
        ProcessSample(2, "engine", 9000 * MIB, 0.0, 8100 * MIB),
        ProcessSample(3, "tracker", 110 * MIB, 0.0, 100 * MIB),
    )
    assert HostSample(1.0, 1, 0, 0, 0, 0, processes).engine_bytes == (400 + 900 + 10 + 8100) * MIB
    assert HostSample(1.0, 1, 0, 0, 0, 0).engine_bytes == 0
