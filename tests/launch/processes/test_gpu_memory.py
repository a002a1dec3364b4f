"""GPU memory after a stop, on the cards of a stand-in driver."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import pytest

from nexus_orch.launch.processes.gpu_memory import GpuHoldings, read_gpu_holdings, wait_for_gpu_memory
from nexus_orch.nvml import Nvml
from nexus_orch.types import MIB
from tests.launch.engines import PATIENCE_SECONDS
from tests.nvml_driver import Card, Driver

OURS = 4711
BOTH = (0, 1)


class Cards(Driver):
    """Two cards whose memory and processes the test sets."""

    def __init__(self) -> None:
        super().__init__(Card(used_mib=500), Card(used_mib=0))
        self.pids: dict[int, tuple[int, ...]] = {0: (), 1: ()}

    def hold(self, index: int, used_mib: int, *pids: int) -> None:
        cards = list(self.cards)
        cards[index] = replace(cards[index], used_mib=used_mib)
        self.cards = tuple(cards)
        self.pids[index] = pids

    def nvmlDeviceGetComputeRunningProcesses_v3(self, handle: int) -> list[SimpleNamespace]:
        return [SimpleNamespace(pid=pid, usedGpuMemory=None) for pid in self.pids[handle]]


@pytest.fixture
def cards() -> Cards:
    return Cards()


@pytest.fixture
def nvml(cards: Cards) -> Iterator[Nvml]:
    with Nvml(cards) as session:
        yield session


def test_all_back(cards: Cards, nvml: Nvml) -> None:
    before = read_gpu_holdings(nvml, BOTH)
    assert before == GpuHoldings({0: 500 * MIB, 1: 0}, sees_us=False)
    cards.hold(1, 20_000, OURS)
    running = read_gpu_holdings(nvml, BOTH, [OURS])
    assert running.sees_us
    cards.hold(1, 100)
    assert wait_for_gpu_memory(nvml, before, running, [OURS], timeout_seconds=0) == ()


def test_waits_until_the_driver_gives_it_back(cards: Cards, nvml: Nvml) -> None:
    before = read_gpu_holdings(nvml, BOTH)
    cards.hold(0, 20_000, OURS)
    running = read_gpu_holdings(nvml, BOTH, [OURS])
    threading.Timer(0.3, cards.hold, (0, 500)).start()
    assert wait_for_gpu_memory(nvml, before, running, [OURS], timeout_seconds=PATIENCE_SECONDS) == ()


def test_a_process_of_ours_that_holds_on_is_told(cards: Cards, nvml: Nvml) -> None:
    before = read_gpu_holdings(nvml, BOTH)
    cards.hold(1, 2048, OURS)
    running = read_gpu_holdings(nvml, BOTH, [OURS])
    (problem,) = wait_for_gpu_memory(nvml, before, running, [OURS], timeout_seconds=0)
    assert problem.message == "GPU 1 holds 2.0 GiB more than before the start, 0 s after the stop"
    assert problem.cause == "orphan_holds_memory"
    assert problem.remedy


def test_memory_that_somebody_else_took_meanwhile_does_not_count(cards: Cards, nvml: Nvml) -> None:
    before = read_gpu_holdings(nvml, BOTH)
    cards.hold(0, 20_000, OURS)
    running = read_gpu_holdings(nvml, BOTH, [OURS])
    cards.hold(0, 9_000, 99)
    assert wait_for_gpu_memory(nvml, before, running, [OURS], timeout_seconds=0) == ()


def test_where_pids_are_hidden_only_the_memory_counts(cards: Cards, nvml: Nvml) -> None:
    """Inside a container NVML shows the pids of the host, so that ours are never among them."""
    before = read_gpu_holdings(nvml, BOTH)
    cards.hold(0, 20_000, 123_456)
    running = read_gpu_holdings(nvml, BOTH, [OURS])
    assert not running.sees_us
    assert len(wait_for_gpu_memory(nvml, before, running, [OURS], timeout_seconds=0)) == 1


def test_a_card_of_others_that_fills_up_meanwhile_is_not_waited_for(cards: Cards, nvml: Nvml) -> None:
    """Nor does it hide what is not back on ours, also where pids are hidden."""
    before = read_gpu_holdings(nvml, [1])
    cards.hold(0, 20_000, 123_456)
    cards.hold(1, 20_000, 123_457)
    running = read_gpu_holdings(nvml, [1], [OURS])
    (problem,) = wait_for_gpu_memory(nvml, before, running, [OURS], timeout_seconds=0)
    assert problem.message.startswith("GPU 1 holds 19.5 GiB more")
    cards.hold(1, 0)
    assert wait_for_gpu_memory(nvml, before, running, [OURS], timeout_seconds=PATIENCE_SECONDS) == ()


def test_without_cards_there_is_nothing_to_wait_for() -> None:
    with Nvml(None) as nvml:
        holdings = read_gpu_holdings(nvml, BOTH, [OURS])
        assert holdings == GpuHoldings({})
        assert wait_for_gpu_memory(nvml, holdings, holdings, [OURS], timeout_seconds=PATIENCE_SECONDS) == ()
