"""The sampler on real processes, and on cards through a driver that is made of plain Python."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_orch.nvml import Nvml
from nexus_orch.observe.sampler import (
    TELL_AGAIN_SECONDS,
    MetricsNews,
    SampledProcesses,
    Sampler,
    read_gpus,
    read_host,
)
from nexus_orch.types import GIB, MIB, HostSample, Metric, MetricsUnread, Observation, ProcessKey
from tests.nvml_driver import Card, Driver
from tests.observe.test_metrics import Address, serving

RUNNING = 'vllm:num_requests_running{model_name="m"} 1.0\n'

PATIENCE_SECONDS = 20.0

PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"])
print(child.pid, flush=True)
if sys.stdin.readline() == "end\\n":
    child.kill()
    child.wait()
    print("gone", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def parent(no_process_left: None) -> Iterator[subprocess.Popen[str]]:
    """A process with one child, ended with all below it."""
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    yield process
    try:
        for child in psutil.Process(process.pid).children(recursive=True):
            child.kill()
    except psutil.NoSuchProcess:
        pass
    process.kill()
    process.communicate()


def tell(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdin is not None
    process.stdin.write(word + "\n")
    process.stdin.flush()


def hear(process: subprocess.Popen[str]) -> str:
    """The next word of the parent, after the child's own."""
    assert process.stdout is not None
    word = process.stdout.readline().strip()
    return word if word != "up" else hear(process)


def key_of(pid: int) -> ProcessKey:
    return ProcessKey(pid, psutil.Process(pid).create_time())


def test_each_process_that_the_engine_names_is_sampled(parent: subprocess.Popen[str]) -> None:
    child = int(hear(parent))
    family = (key_of(parent.pid), key_of(child))
    samples = SampledProcesses(lambda: family).read()
    assert [sample.pid for sample in samples] == [parent.pid, child]
    assert all(sample.rss_bytes > 0 and sample.cpu_fraction >= 0 for sample in samples)


def test_a_process_that_ended_is_left_out_at_once(parent: subprocess.Popen[str]) -> None:
    family = (key_of(parent.pid), key_of(int(hear(parent))))
    processes = SampledProcesses(lambda: family)
    assert len(processes.read()) == 2
    tell(parent, "end")
    assert hear(parent) == "gone"
    assert [sample.pid for sample in processes.read()] == [parent.pid]


def test_what_the_main_process_left_behind_is_still_seen(parent: subprocess.Popen[str]) -> None:
    child = int(hear(parent))
    family = (key_of(parent.pid), key_of(child))
    processes = SampledProcesses(lambda: family)
    processes.read()
    parent.kill()
    parent.wait()
    assert [sample.pid for sample in processes.read()] == [child]
    psutil.Process(child).kill()


def test_a_process_that_never_was_and_one_whose_pid_was_used_again_are_left_out() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    this = key_of(os.getpid())
    family = (ProcessKey(gone.pid, this.create_time), ProcessKey(this.pid, this.create_time - 60))
    assert SampledProcesses(lambda: family).read() == ()


def test_cpu_use_is_told_from_the_second_look_on() -> None:
    this = key_of(os.getpid())
    tree = SampledProcesses(lambda: (this,))
    first = tree.read()[0]
    deadline = time.process_time() + 0.1
    while time.process_time() < deadline:
        sum(range(1000))
    assert first.cpu_fraction == 0
    assert tree.read()[0].cpu_fraction > 0


def test_the_host_is_what_the_system_says() -> None:
    sample = read_host(None, attempt=4)
    assert sample.attempt == 4
    assert sample.ram_total_bytes == psutil.virtual_memory().total
    assert 0 < sample.ram_used_bytes < sample.ram_total_bytes
    assert sample.processes == ()


def test_every_card_is_read() -> None:
    with Nvml(Driver(Card(used_mib=1024), Card(used_mib=2048))) as nvml:
        samples = read_gpus(nvml, attempt=3)
        second = read_gpus(nvml, attempt=3, indices=(1,))
    assert [(sample.attempt, sample.index, sample.memory_used_bytes) for sample in samples] == [
        (3, 0, GIB),
        (3, 1, 2 * GIB),
    ]
    assert samples[0].name == "NVIDIA GeForce RTX 4090"
    assert samples[0].memory_total_bytes == 24564 * MIB
    assert [sample.index for sample in second] == [1]


def test_a_card_that_does_not_answer_is_left_out() -> None:
    with Nvml(Driver(Card())) as nvml:
        pass
    assert nvml.devices
    assert read_gpus(nvml, attempt=1) == []


def test_what_a_driver_does_not_tell_is_none() -> None:
    lacking = ("nvmlDeviceGetUtilizationRates", "nvmlDeviceGetTemperature", "nvmlDeviceGetPowerUsage")
    with Nvml(Driver(Card(), lacking=lacking)) as nvml:
        sample = read_gpus(nvml, attempt=1)[0]
    assert (sample.utilization, sample.temperature_celsius, sample.power_watts) == (None, None, None)


def wait_for(seen: queue.Queue[Observation], wanted: Callable[[Observation], bool]) -> Observation:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        observation = seen.get(timeout=max(deadline - time.monotonic(), 0.01))
        if wanted(observation):
            return observation


def test_the_sampler_emits_until_it_is_stopped(parent: subprocess.Popen[str]) -> None:
    family = (key_of(parent.pid), key_of(int(hear(parent))))
    seen: queue.Queue[Observation] = queue.Queue()
    sampler = Sampler(None, family=lambda: family, attempt=2, emit=seen.put, interval_seconds=0.01)
    sampler.start()
    sample = wait_for(seen, lambda observation: isinstance(observation, HostSample) and len(observation.processes) == 2)
    assert sample.attempt == 2
    for _ in range(3):
        wait_for(seen, lambda observation: isinstance(observation, HostSample))
    sampler.stop()
    told = seen.qsize()
    sampler.stop()
    assert seen.qsize() == told


def test_a_sampler_that_was_never_started_can_be_stopped() -> None:
    Sampler(None, family=None, attempt=1, emit=print).stop()


def test_a_server_without_metrics_is_told_once_for_each_reason() -> None:
    """404, 404, nothing known, read, read, 404: each change is told, and every reading."""
    answers = [(404, ""), (404, ""), (200, "x 1"), (200, RUNNING), (200, RUNNING)]
    asked = iter(answers)
    seen: queue.Queue[Observation] = queue.Queue()
    with serving(lambda _: next(asked, (404, ""))) as url:
        sampler = Sampler(Address(url), family=None, attempt=1, emit=seen.put, interval_seconds=0.01)
        sampler.start()
        told = [wait_for(seen, lambda found: isinstance(found, Metric | MetricsUnread)) for _ in range(5)]
        for _ in range(5):  # the last answer comes again and again
            wait_for(seen, lambda found: isinstance(found, HostSample))
        sampler.stop()
    reasons = [found.reason.rpartition(" ")[2] if isinstance(found, MetricsUnread) else "read" for found in told]
    assert reasons == ["404", "stats)", "read", "read", "404"]
    assert not any(isinstance(found, Metric | MetricsUnread) for found in seen.queue)


SILENT, EMPTY = MetricsUnread(0.0, 1, "it answers 404"), MetricsUnread(0.0, 1, "it has no figures")
FIGURES = Metric(0.0, 1, {})


def test_a_reason_is_told_again_for_who_comes_later() -> None:
    news = MetricsNews()
    looks = [(SILENT, 0.0), (SILENT, 1.0), (SILENT, 4.9), (SILENT, 5.0), (SILENT, 9.9), (SILENT, 10.0)]
    assert [news.is_news(read, now) for read, now in looks] == [True, False, False, True, False, True]


def test_each_new_reason_and_each_reading_are_told_at_once() -> None:
    news = MetricsNews()
    reads: tuple[Metric | MetricsUnread, ...] = (SILENT, EMPTY, EMPTY, FIGURES, FIGURES, EMPTY, SILENT, SILENT)
    told = [news.is_news(read, number / 10) for number, read in enumerate(reads)]
    assert told == [True, True, False, True, True, True, True, False]


@given(st.lists(st.floats(0.1, 3.0), min_size=1, max_size=60), st.floats(0, 100))
def test_a_watch_hears_the_reason_whenever_it_begins(pauses: list[float], begins: float) -> None:
    """Within the time after which it is told again, and one pause between two looks."""
    news, now, looks = MetricsNews(), 0.0, [0.0]
    for pause in pauses:
        now += pause
        looks.append(now)
    told = [look for look in looks if news.is_news(SILENT, look)]
    if begins + TELL_AGAIN_SECONDS + max(pauses) <= looks[-1]:
        assert any(begins <= look <= begins + TELL_AGAIN_SECONDS + max(pauses) for look in told)
