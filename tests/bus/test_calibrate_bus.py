"""`nexus calibrate --bus`: measured once, and used by every later plan of this machine.

The card is a stand-in for NVML inside the commands; the probe's interpreter is a real process that only answers.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bus.probes import COPY, RAM, READ, write_answering, write_measuring, write_python
from tests.session.conftest import Desk

MACHINE = '''"""A card as its driver would tell, and an engine whose interpreter only answers the probe."""

import sys

sys.path.insert(0, {root!r})
from tests.nvml_driver import Card, Driver

sys.modules["pynvml"] = Driver(Card(total_mib={total_mib}, used_mib=0))

from nexus_orch import hookimpl
from nexus_orch.facts.options.catalogue import catalogue_flags
from nexus_orch.launch.processes.local import LocalProcesses
from nexus_orch.types import Command, EngineFacts


class Provider(LocalProcesses):
    kind = "answering"

    def find(self, spec, *, cpu):
        flags = catalogue_flags("0.25.1")
        return EngineFacts("0.25.1", "cuda", "installed", python={python!r}, flags=flags)

    def command(self, order):
        return Command(order.rendering.argv, order.rendering.env)


@hookimpl
def nexus_engines():
    return (Provider(),)
'''
OVERRIDES = ("engine.kind=answering", "model=qwen14b", "hardware.host.ram_gib=128")
LEARNED = "learned: 54.2 GB/s from RAM to a card (the bus was measured here on "


@pytest.fixture
def desk(tmp_path: Path, isolated_home: Path, free_port: int) -> Desk:
    """A user's project on a machine with one card, and a probe that answers."""
    folder = tmp_path / "desk"
    for name in ("conf", "plugins"):
        (folder / name).mkdir(parents=True)
    desk = Desk(folder, isolated_home, free_port)
    _write_machine(desk, write_answering(tmp_path))
    return desk


def _write_machine(desk: Desk, python: str | None, total_mib: int = 24564) -> None:
    text = MACHINE.format(root=str(Path(__file__).parents[2]), python=python, total_mib=total_mib)
    (desk.folder / "plugins" / "machine.py").write_text(text, encoding="utf-8")


def _overrides(arguments: tuple[str, ...]) -> tuple[str, ...]:
    """The usual ones; a model among the arguments stands instead of the usual model."""
    names_one = any(argument.startswith("model=") for argument in arguments)
    return (*(word for word in OVERRIDES if not (names_one and word.startswith("model="))), *arguments)


def _calibrate(desk: Desk, *arguments: str) -> tuple[int, str, str]:
    done = desk.nexus("calibrate", "--bus", "--project", str(desk.folder), *_overrides(arguments))
    return done.returncode, done.stdout, done.stderr


def _speed(desk: Desk, *overrides: str) -> float:
    """Predicted tokens/s of one request."""
    done = desk.nexus("plan", "--format", "json", "--project", str(desk.folder), *_overrides(overrides))
    assert done.returncode == 0, done.stderr
    return float(json.loads(done.stdout)["prediction"]["decode_tokens_per_second"])


def _plan(desk: Desk, *overrides: str) -> str:
    """The plan as a user sees it, on one line."""
    done = desk.nexus("plan", "--project", str(desk.folder), *OVERRIDES, *overrides)
    return " ".join(done.stdout.split())


def test_what_was_measured_reaches_the_next_plan(desk: Desk) -> None:
    before = _speed(desk)
    code, table, progress = _calibrate(desk)
    assert code == 0, progress
    assert all(figure in table for figure in ("54.2", "51.0", "RAM: 200.0 GB/s"))
    assert "measuring the bus of GPU 0 (NVIDIA GeForce RTX 4090)" in progress
    assert LEARNED in _plan(desk)
    assert _speed(desk) > 1.5 * before  # the card's link by its generation: 25 GB/s
    slow = _speed(desk, "hardware.gpu.pcie_gbps=10")
    assert slow < before  # the user's own figure stands before what was measured


def test_the_layers_of_the_runs_model_are_measured_and_used_for_it_alone(desk: Desk, tmp_path: Path) -> None:
    """Layers that are read at 45 GB/s, where the probe's own matrix is at 51."""
    in_place = ("memory=hybrid", "memory.offload_backend=uva", "memory.cpu_offload_gib=12")
    _write_machine(desk, write_measuring(tmp_path))
    _calibrate(desk, "model=qwen3_8b_fp8")
    plain = _speed(desk, *in_place)
    code, table, progress = _calibrate(desk)
    assert code == 0, progress
    assert "its layers, 1 token" in table and "its layers, 2,048 tokens" in table
    assert "not measured" not in progress
    assert _speed(desk, *in_place) == pytest.approx(plain * 45 / 51, rel=0.02)
    other = _speed(desk, *in_place, "model=qwen7b")
    _calibrate(desk, "model=qwen7b")
    assert _speed(desk, *in_place, "model=qwen7b") < other
    assert _speed(desk, *in_place) == pytest.approx(plain * 45 / 51, rel=0.02)  # the first one is kept


@pytest.mark.parametrize(
    ("model", "word"), [("qwen3_30b_a3b", "only plain 16-bit matrices are"), ("local", "has neither a folder")]
)
def test_a_model_without_layers_to_measure_is_told(desk: Desk, tmp_path: Path, model: str, word: str) -> None:
    _write_machine(desk, write_measuring(tmp_path))
    code, table, progress = _calibrate(desk, f"model={model}")
    assert code == 0 and "54.2" in table
    assert "are not measured" in progress and word in progress
    assert "its layers" not in table


def test_learning_that_is_switched_off(desk: Desk) -> None:
    desk.environ["NEXUS_LEARN"] = "0"
    code, table, progress = _calibrate(desk)
    assert code == 0 and "54.2" in table
    assert "NEXUS_LEARN=0: the result is shown, not kept" in progress
    assert not (desk.home / "bus.jsonl").exists()


def test_another_machine_does_not_use_it(desk: Desk, tmp_path: Path) -> None:
    _calibrate(desk)
    _write_machine(desk, write_answering(tmp_path), total_mib=32607)
    assert LEARNED not in _plan(desk)
    assert LEARNED not in _plan(desk, "hardware=h200")


def test_the_newest_measurement_counts(desk: Desk, tmp_path: Path) -> None:
    _calibrate(desk)
    slower = write_answering(tmp_path, json.dumps({"copy_bytes_per_second": 1e9}))
    _write_machine(desk, slower)
    _, table, _ = _calibrate(desk, "--format", "md")
    assert " 1.0 |" in table
    assert "learned: 1.0 GB/s from RAM to a card" in _plan(desk)


def test_the_result_as_json_and_as_a_file(desk: Desk, tmp_path: Path) -> None:
    out = tmp_path / "bus.json"
    code, shown, _ = _calibrate(desk, "--format", "json", "--out", str(out))
    assert code == 0 and out.read_text(encoding="utf-8") == shown
    found = json.loads(shown)
    (card,) = found["cards"]
    assert (card["copy_bytes_per_second"], card["read_bytes_per_second"]) == (COPY, READ)
    assert found["ram_bytes_per_second"] == RAM


def test_a_result_that_cannot_be_written_is_told_and_kept_all_the_same(desk: Desk) -> None:
    code, _, told = _calibrate(desk, "--out", "/proc/bus.json")
    assert code == 2
    assert "cannot write /proc/bus.json" in told
    assert "Traceback" not in told
    assert (desk.home / "bus.jsonl").exists()


def test_a_probe_that_fails_keeps_nothing(desk: Desk, tmp_path: Path) -> None:
    _write_machine(desk, write_python(tmp_path, "raise SystemExit('no CUDA device')"))
    code, table, told = _calibrate(desk)
    assert (code, table) == (4, "")
    assert "the bus of GPU 0 (NVIDIA GeForce RTX 4090) could not be measured: no CUDA device" in told
    assert "Traceback" not in told
    assert not (desk.home / "bus.jsonl").exists()


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("hardware.gpu.count=0", "the bus leads to a card, and this run has none"),
        ("hardware=h200", "describes a machine that is not this one"),
    ],
)
def test_a_run_without_a_card_of_this_machine_is_refused(desk: Desk, override: str, sentence: str) -> None:
    code, _, told = _calibrate(desk, override)
    assert code == 2 and sentence in told


def test_no_engine_is_no_probe(desk: Desk) -> None:
    _write_machine(desk, None)
    code, _, told = _calibrate(desk)
    assert code == 2 and "no engine is installed" in told
