"""Written histories of a server that is short of memory, and what must be found in them."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_orch.judge.serving.pressure import BLIND_SECONDS, Pressure, find_blindness, find_pressure, watch
from nexus_orch.types import GIB, MIB, Finding, HostSample, Metric, MetricsUnread, Observation, ProcessSample

WINDOW = 300.0


class Watched:
    """Samples once a second, folded as they come."""

    def __init__(self, step_seconds: float | None = None, window: float = WINDOW) -> None:
        self.pressure = Pressure(window, step_seconds)
        self.now = 1000.0

    def metrics(self, seconds: int, *, per_second: float = 0.0, **values: float) -> Watched:
        """The same readings for so long; `per_second` is how fast the preemptions grow."""
        before = self.pressure.metric
        count = 0.0 if before is None else before.values.get("preemptions", 0.0)
        for second in range(1, seconds + 1):
            told = {"preemptions": float(int(count + second * per_second)), **values}
            self._add(Metric(self.now, 1, told))
        return self

    def host(self, seconds: int, *, free_gib: float = 20.0, swapping_mib: float = 0.0) -> Watched:
        before = self.pressure.host
        moved = 0 if before is None or before.swapped_bytes is None else before.swapped_bytes
        engine = (ProcessSample(1, "vllm", 30 * GIB, 1.0),)
        for second in range(1, seconds + 1):
            swapped = moved + int(second * swapping_mib * MIB)
            used = 64 * GIB - int(free_gib * GIB)
            self._add(HostSample(self.now, 1, used, 64 * GIB, GIB, 8 * GIB, engine, swapped))
        return self

    def silence(self, seconds: float) -> Watched:
        self.now += seconds
        return self

    @property
    def kinds(self) -> list[str]:
        return [finding.kind for finding in find_pressure(self.pressure)]

    @property
    def finding(self) -> Finding:
        return find_pressure(self.pressure)[0]

    def _add(self, observation: Observation) -> None:
        self.pressure = watch(self.pressure, observation)
        self.now += 1.0


FULL = {"running": 12.0, "waiting": 4.0, "kv_cache_usage": 0.99}


def test_preemptions_that_go_on_are_told_with_their_rate() -> None:
    watched = Watched().metrics(10, running=12.0).metrics(310, per_second=17 / 60, running=12.0)
    assert watched.kinds == ["preemptions"]
    assert watched.finding.evidence == "17 preemptions a minute for 5 minutes: the KV cache is full at 12 requests"


def test_a_short_burst_is_nothing() -> None:
    assert Watched().metrics(200, per_second=2, **FULL).metrics(200, running=3.0, kv_cache_usage=0.2).kinds == []


def test_a_few_preemptions_an_hour_are_nothing() -> None:
    assert Watched().metrics(2000, per_second=1 / 50, running=12.0).kinds == []


def test_a_counter_that_falls_begins_anew() -> None:
    watched = Watched().metrics(200, per_second=1, running=12.0)
    watched.pressure = watch(watched.pressure, Metric(watched.now, 1, {"preemptions": 0.0, "running": 12.0}))
    assert watched.metrics(200, per_second=1, running=12.0).kinds == []
    assert watched.metrics(150, per_second=1, running=12.0).kinds == ["preemptions"]


def test_a_full_cache_with_requests_that_wait() -> None:
    watched = Watched().metrics(310, **FULL)
    assert watched.kinds == ["kv_cache_full"]
    assert "99% full for 5 minutes, with 12 requests running and 4 waiting" in watched.finding.evidence
    assert (watched.finding.running, watched.finding.waiting) == (12.0, 4.0)


def test_a_full_cache_for_which_nobody_waits_is_well_used() -> None:
    assert Watched().metrics(400, running=12.0, waiting=0.0, kv_cache_usage=1.0).kinds == []


def test_once_full_a_cache_that_is_nearly_full_still_counts() -> None:
    """Hysteresis: 90 % begins nothing, and ends nothing."""
    nearly = {**FULL, "kv_cache_usage": 0.9}
    assert Watched().metrics(400, **nearly).kinds == []
    assert Watched().metrics(2, **FULL).metrics(310, **nearly).kinds == ["kv_cache_full"]


def test_a_pause_ends_it_when_it_is_long() -> None:
    idle = {"running": 1.0, "waiting": 0.0, "kv_cache_usage": 0.1}
    assert Watched().metrics(200, **FULL).metrics(50, **idle).metrics(120, **FULL).kinds == ["kv_cache_full"]
    assert Watched().metrics(200, **FULL).metrics(70, **idle).metrics(120, **FULL).kinds == []


def test_a_cache_that_is_seldom_full_is_not_short() -> None:
    """Bad once in fifty seconds keeps a spell alive, but most of its samples are good."""
    watched = Watched()
    for _ in range(12):
        watched.metrics(1, **FULL).metrics(49, running=2.0, waiting=0.0, kv_cache_usage=0.3)
    assert watched.kinds == []


def test_silence_proves_nothing() -> None:
    assert Watched().metrics(10, **FULL).silence(600).metrics(10, **FULL).kinds == []


def test_the_bus_is_the_limit_when_every_step_takes_a_copy() -> None:
    """4 tokens/s are predicted for one request: 8 requests cannot get more than 32."""
    busy = {"running": 8.0, "waiting": 5.0, "kv_cache_usage": 0.4}
    assert Watched(0.25).metrics(310, generation_tokens_per_second=30.0, **busy).kinds == ["bus_bound"]
    assert Watched(0.25).metrics(310, generation_tokens_per_second=10.0, **busy).kinds == []
    assert Watched(None).metrics(310, generation_tokens_per_second=30.0, **busy).kinds == []
    assert Watched(0.25).metrics(310, generation_tokens_per_second=30.0, **{**busy, "waiting": 0.0}).kinds == []


def test_low_ram_and_swapping() -> None:
    assert Watched().host(310, free_gib=2).kinds == ["ram_low"]
    assert Watched().host(310, free_gib=4).kinds == []
    assert Watched().host(5, free_gib=2).host(310, free_gib=4).kinds == ["ram_low"]
    watched = Watched().host(310, swapping_mib=20)
    assert watched.kinds == ["swapping"]
    assert "20 MiB/s have moved to and from swap for 5 minutes" in watched.finding.evidence
    assert Watched().host(310, swapping_mib=0.1).kinds == []


def test_a_clock_that_was_set_back_begins_anew() -> None:
    watched = Watched().metrics(290, **FULL)
    watched.now -= 3600
    assert watched.metrics(20, **FULL).kinds == []


def _metrics(values: Iterable[tuple[float, float, float]]) -> list[Metric]:
    return [
        Metric(1000.0 + second, 1, {"kv_cache_usage": usage, "waiting": waiting, "running": 4.0, "preemptions": count})
        for second, (usage, waiting, count) in enumerate(values)
    ]


@given(
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 5).map(float), st.integers(0, 50).map(float)), max_size=80),
    st.integers(5, 60),
)
def test_nothing_is_found_before_the_window_has_passed(values: list[tuple[float, float, float]], window: int) -> None:
    pressure = Pressure(float(window))
    for metric in _metrics(values):
        pressure = watch(pressure, metric)
        for finding in find_pressure(pressure):
            assert finding.seconds >= window
            assert metric.time - 1000.0 >= window


@given(st.lists(st.tuples(st.floats(0, 0.84), st.integers(0, 5).map(float), st.just(7.0)), max_size=80))
def test_a_cache_with_room_is_never_full(values: list[tuple[float, float, float]]) -> None:
    pressure = Pressure(2.0)
    for metric in _metrics(values):
        pressure = watch(pressure, metric)
    assert find_pressure(pressure) == ()


@pytest.mark.parametrize("values", [{}, {"running": 3.0}, {"kv_cache_usage": 0.5}])
def test_a_server_that_tells_little_is_not_accused(values: dict[str, float]) -> None:
    watched = Watched()
    for _ in range(400):
        watched._add(Metric(watched.now, 1, values))
    assert watched.kinds == []


@pytest.mark.parametrize("window", [WINDOW, 10.0])
def test_metrics_that_stay_unread_are_found_with_their_newest_reason(window: float) -> None:
    wait = min(window, BLIND_SECONDS)
    pressure = watch(Pressure(window), MetricsUnread(100.0, 1, "busy"))
    assert find_blindness(pressure, 100.0 + wait - 1) is None
    pressure = watch(pressure, MetricsUnread(101.0, 1, "gone"))
    assert find_blindness(pressure, 100.0 + wait) == "gone"
    pressure = watch(pressure, Metric(140.0, 1, {"running": 1.0}))
    assert find_blindness(pressure, 1000.0) is None
    assert find_blindness(Pressure(window), 1000.0) is None
