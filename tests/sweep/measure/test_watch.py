"""What spoils a measurement: compilation, throttling, neighbours."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from nexus_orch.launch.server.server import Server
from nexus_orch.sweep.measure.types import BenchTarget
from nexus_orch.sweep.measure.watch import find_compilation, watching
from tests.nvml_driver import Card, Driver

JIT = (
    "(EngineCore pid=9858) WARNING 11-28 17:13:29 [jit_monitor.py:129] Triton kernel JIT compilation during inference: "
    "fused_moe_kernel. This causes a latency spike; consider extending warmup to cover this shape/config."
)
"""As an H200 with 0.25.1 said it (docs/measurements.md)."""


def test_a_kernel_compiled_while_measuring_is_named() -> None:
    (reason,) = find_compilation(f"INFO fine\n{JIT}\n")
    assert "Triton kernel JIT compilation during inference: fused_moe_kernel." in reason


@pytest.mark.parametrize(
    "line",
    [
        "(EngineCore pid=1) INFO [jit_monitor.py:73] Kernel JIT monitor activated; monitored JIT compilations during "
        "inference will use mode=warn.",
        'INFO:     127.0.0.1:1 - "POST /v1/completions HTTP/1.1" 200 OK',
        "INFO 11-28 [loggers.py:1] Engine 000: Avg prompt throughput: 1.0 tokens/s, Running: 16 reqs",
    ],
)
def test_ordinary_lines_spoil_nothing(line: str) -> None:
    assert find_compilation(line) == []


def test_only_lines_of_the_time_count(tmp_path: Path) -> None:
    log = tmp_path / "engine.log"
    log.write_text(JIT + "\n", encoding="utf-8")
    with watching(make_target(log)) as found:
        pass
    assert found.spoilt == []
    with watching(make_target(log)) as found, log.open("a", encoding="utf-8") as file:
        file.write(JIT + "\n")
    assert len(found.spoilt) == 1
    with watching(make_target(log)) as found:
        log.write_text("cut over\n" + JIT[:0], encoding="utf-8")
    assert found.spoilt == []


class Throttling(Driver):
    """Cards that are too hot, and one more process after the first look."""

    looks = 0

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: object) -> int:
        self.looks += 1
        return 0x40 | 0x4


def test_a_card_that_throttles_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Throttling(Card())
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    with watching(make_target(tmp_path / "none", gpus=(0,))) as found:
        while not driver.looks:
            time.sleep(0.01)
    assert found.spoilt == ["the card throttled in 1 of 1 looks: too hot (hardware)"]


def make_target(log: Path, gpus: tuple[int, ...] = ()) -> BenchTarget:
    return BenchTarget(Server("127.0.0.1", 1), log=log, gpus=gpus)
