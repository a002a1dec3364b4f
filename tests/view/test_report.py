from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from nexus_orch.record.read_run import read_run
from nexus_orch.record.run_record import RunRecord
from nexus_orch.view.report import make_comparisons, make_report, render_report
from tests.record.examples import write_stopped_run

REPORT = """\
# 20261123-140000-qwen32b-hybrid

- **stopped: Ctrl-C (exit code 130)**
- model qwen32b, strategy hybrid, hardware rtx4090x2
- vLLM 0.32.0, nexus_orch 0.1.0
- started 2026-11-23 14:00:00, ended 2026-11-23 15:00:06, took 1 h 00 min

## Plan and measurement

|                       |       planned |      measured | error |
| --------------------- | ------------: | ------------: | ----: |
| weights on the device |      16.0 GiB |      16.2 GiB | +1.2% |
| weights in host RAM   |      14.0 GiB |             - |     - |
| KV cache              |       3.0 GiB |             - |     - |
| activations           |       1.0 GiB |             - |     - |
| other                 |       512 MiB |             - |     - |
| KV cache              | 24,000 tokens | 23,552 tokens | -1.9% |
| concurrency           |  2.9 requests |             - |     - |
| one request           |  4.2 tokens/s |  4.1 tokens/s | -2.4% |

## Timeline

| attempt | stage     |      after |        took |
| ------: | --------- | ---------: | ----------: |
|       1 | starting  |      2.0 s |       6.0 s |
|       1 | loading   |      8.0 s |        10 s |
|       2 | starting  |       20 s |        10 s |
|       2 | loading   |       30 s |        40 s |
|       2 | profiling | 1 min 10 s |        15 s |
|       2 | warming   | 1 min 25 s |        10 s |
|       2 | ready     | 1 min 35 s | 58 min 30 s |

## Attempts

1. failed: weights_oom after 16 s
   - `torch.OutOfMemoryError: CUDA out of memory.`
   - remedy: offload more of the weights
   - learned: measured.weights_bytes = 17.0 GiB (engine.log of attempt 1)
2. stopped after 59 min 45 s
   - memory.cpu_offload_gib 14.0 -> 16.0

## Peaks

|                  |      highest |
| ---------------- | -----------: |
| GPU 0 memory     |     22.0 GiB |
| GPU 1 memory     |     20.5 GiB |
| host RAM         |     40.0 GiB |
| swap             |        0 MiB |
| engine processes |     19.0 GiB |
| tokens out       | 5.0 tokens/s |

## Files

- FOLDER
"""


@pytest.fixture
def record(tmp_path: Path) -> RunRecord:
    return read_run(write_stopped_run(tmp_path).path, lambda _process, _host: False)


def test_a_run_as_markdown(record: RunRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.localtime", time.gmtime)
    assert render_report(record).replace(str(record.path), "FOLDER") == REPORT


def test_a_run_as_json(record: RunRecord) -> None:
    report = make_report(record)
    weights = report["comparison"][0]
    assert (weights["name"], weights["unit"]) == ("weights on the device", "bytes")
    assert weights["difference"] == pytest.approx(0.0125)
    first, second = report["attempts"]
    assert first["verdict"]["cause"] == "weights_oom"
    assert [stage["stage"] for stage in second["stages"]][-1] == "ready"
    assert second["stages"][-1]["seconds"] == 3510.0
    assert report["peaks"]["gpu_memory_bytes"]["0"] == 22 * 2**30
    assert report["measured"]["tokens_per_second"] == 4.1


def test_a_run_that_never_had_a_plan(record: RunRecord) -> None:
    bare = RunRecord("20261123-140000", record.path, "lost", notes=("there is no journal",))
    assert make_comparisons(bare) == []
    text = render_report(bare)
    assert "lost: its supervisor ended without saying how" in text
    assert "- note: there is no journal" in text
    assert "## Attempts" not in text


def test_a_run_that_is_on_has_no_end(record: RunRecord) -> None:
    running = replace(record, state="ready", ended=None, exit_code=None, reason="")
    text = render_report(replace(running, attempts=(replace(record.attempts[1], ended=None),)))
    assert "- **ready**" in text
    assert "ended -, took -" in text
    (ready,) = [line for line in text.splitlines() if "| ready " in line]
    assert [cell.strip() for cell in ready.split("|")] == ["", "2", "ready", "1 min 35 s", "-", ""]


def test_dropped_output_is_told(record: RunRecord) -> None:
    dropped = replace(record, latest=replace(record.latest, dropped_bytes=3 * 2**20))
    assert "3 MiB of the engine's output were dropped" in render_report(dropped)
