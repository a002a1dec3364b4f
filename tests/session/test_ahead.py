"""RAM first, in whole runs: weights are read and RAM is tried out, or nothing is launched."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from nexus_orch.record.events import Finished, Judged, Launched, Preloaded, Reserved, Stopping
from nexus_orch.types import GIB, MIB, Stage, Starting, Stopped
from tests.plan.cases import config_of
from tests.ram.weights_files import drop_from_cache, write_weights
from tests.session.conftest import Desk, wait_for

STOP = ("probe.then=stop",)


@pytest.fixture
def model(desk: Desk, tmp_path: Path) -> Path:
    """The desk's model is a folder with two weight files."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config_of("Qwen/Qwen2.5-0.5B-Instruct")), encoding="utf-8")
    for number in (1, 2):
        write_weights(folder / f"model-{number}.safetensors", 40 * MIB)
    desk.base = ("hardware=cpu", "model=local", f"model.path={folder}", "engine.kind=fake", "limits.stop_seconds=2")
    return folder


@pytest.fixture
def large_model(model: Path) -> Iterator[Path]:
    """Reading it takes one reader a second or more: its second file is a hole of 8 GiB."""
    file = write_weights(model / "model-2.safetensors", 8 * GIB)
    yield model
    file.unlink(missing_ok=True)  # and what is cached of it


def _files(model: Path) -> list[Path]:
    return sorted(model.glob("*.safetensors"))


def _start_slowly(desk: Desk, *overrides: str) -> subprocess.Popen[str]:
    """A run that is reading its weights ahead."""
    running = desk.start("memory.preload.enabled=true", "memory.preload.channels=1", *overrides)
    wait_for(lambda: _has_reached(desk, Stage.PRELOADING), "the preload")
    return running


def _has_reached(desk: Desk, stage: Stage) -> bool:
    return any(isinstance(entry.verdict, Starting) and entry.verdict.stage == stage for entry in desk.journal(Judged))


def test_weights_that_are_not_cached_are_read_before_the_launch(desk: Desk, model: Path) -> None:
    for file in _files(model):
        drop_from_cache(file)
    done = desk.run(*STOP)
    assert done.returncode == 0, done.stderr
    (preloaded,), (launched,) = desk.journal(Preloaded), desk.journal(Launched)
    assert preloaded.read_bytes == preloaded.total_bytes == sum(file.stat().st_size for file in _files(model))
    assert preloaded.time <= launched.time
    assert "80 MiB read into RAM in" in done.stdout
    assert "GB/s" in done.stdout


def test_cached_weights_are_not_read_again(desk: Desk, model: Path) -> None:
    for file in _files(model) * 3:  # what is read again is dropped last when memory gets scarce
        file.read_bytes()
    done = desk.run(*STOP)
    (preloaded,) = desk.journal(Preloaded)
    assert preloaded.read_bytes == 0
    assert preloaded.cached_files == ("model-1.safetensors", "model-2.safetensors")
    assert "not read ahead: all 2 weight files (80 MiB) are in the page cache already" in done.stdout


def test_a_model_of_the_hub_is_explained(desk: Desk) -> None:
    done = desk.run("memory.preload.enabled=true", *STOP)
    assert done.returncode == 0, done.stderr
    assert desk.journal(Preloaded) == []
    shown = " ".join(done.stdout.split())
    assert "nothing is read ahead: the weights do not lie on this machine yet" in shown


def test_json_lines_tell_the_pace(desk: Desk, model: Path) -> None:
    for file in _files(model):
        drop_from_cache(file)
    done = desk.run(*STOP, "--format", "json")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    told = [line for line in lines if line["kind"] == "ram_progress"]
    assert told[-1]["step"] == "preloading"
    assert told[-1]["done_bytes"] == told[-1]["total_bytes"]
    assert told[-1]["bytes_per_second"] > 0
    assert told[-1]["remaining_seconds"] == 0


@pytest.mark.parametrize("damage", ["vanishes", "is cut off"])
def test_weights_that_are_damaged_meanwhile_launch_nothing(desk: Desk, large_model: Path, damage: str) -> None:
    running = _start_slowly(desk)
    file = _files(large_model)[1]
    if damage == "vanishes":
        file.unlink()
    else:
        os.truncate(file, 1000)
    _, told = running.communicate(timeout=60)
    assert running.returncode == 5
    assert f"the weight file {file} has" in told
    assert desk.journal(Finished)[0].cause == "weights_missing"
    assert desk.journal(Launched) == []


def test_a_disk_that_hangs_is_given_up(desk: Desk, large_model: Path, tmp_path: Path) -> None:
    """Opening a pipe that nobody writes to waits for ever, as a dead network does."""
    running = _start_slowly(desk, "limits.startup_stall_seconds=1")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    pipe.replace(_files(large_model)[1])
    _, told = running.communicate(timeout=60)
    assert running.returncode == 5
    assert "nothing more came from the weight files for 1 s" in told
    assert desk.journal(Finished)[0].cause == "startup_stalled"
    assert desk.journal(Launched) == []


def test_ctrl_c_ends_the_preload(desk: Desk, large_model: Path) -> None:
    running = _start_slowly(desk)
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)
    assert running.returncode == 130
    assert desk.journal(Launched) == []
    assert isinstance(desk.journal(Judged)[-1].verdict, Stopped)
    assert desk.journal(Stopping)[0].reason == "interrupted with Ctrl-C"


def test_nexus_stop_ends_the_preload(desk: Desk, large_model: Path) -> None:
    running = _start_slowly(desk)
    stopped = desk.nexus("stop", "--all")
    running.communicate(timeout=60)
    assert stopped.returncode == 0, stopped.stderr
    assert running.returncode == 0
    assert desk.journal(Launched) == []
    assert desk.journal(Finished)[0].reason == "nexus stop"


def test_the_ram_of_the_run_is_tried_out(desk: Desk) -> None:
    done = desk.run("memory.reserve_host=true", "memory.kv_cache.size_gib=0.25", "model.max_model_len=2048", *STOP)
    assert done.returncode == 0, done.stderr
    (reserved,), (launched,) = desk.journal(Reserved), desk.journal(Launched)
    assert reserved.held_bytes == reserved.wanted_bytes > GIB
    assert reserved.time <= launched.time
    assert "of RAM were there when tried" in done.stdout


def test_ram_that_is_not_there_launches_nothing(desk: Desk) -> None:
    """The profile says that the machine has 4,000 GiB, so the plan fits; the trial asks the machine itself."""
    large = ("hardware.host.ram_gib=4000", "memory.kv_cache.size_gib=3000", "memory.reserve_host=true")
    done = desk.run(*large)
    assert done.returncode == 3
    assert "the run takes 300" in done.stderr
    assert "were available when it was planned" in done.stderr
    assert desk.journal(Finished)[0].cause == "host_oom"
    assert "available when it was planned" in desk.journal(Reserved)[0].lack
    assert desk.journal(Launched) == []


def test_a_supervisor_that_is_killed_while_reserving_leaves_nothing(desk: Desk) -> None:
    running = desk.start("memory.reserve_host=true")
    wait_for(lambda: _has_reached(desk, Stage.RESERVING), "the trial")
    running.kill()
    running.communicate(timeout=60)
    assert desk.journal(Launched) == []  # the fixture no_process_left looks for the child


def test_ctrl_c_ends_the_trial(desk: Desk) -> None:
    running = desk.start("memory.reserve_host=true")
    wait_for(lambda: _has_reached(desk, Stage.RESERVING), "the trial")
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)
    assert running.returncode == 130
    assert desk.journal(Launched) == []


@pytest.mark.parametrize("channels", ["-4", "0", "100000"])
def test_a_senseless_number_of_channels_is_refused(desk: Desk, channels: str) -> None:
    done = desk.run(f"memory.preload.channels={channels}")
    assert done.returncode == 2
    assert "memory.preload.channels must be a whole number from 1 to 256, or auto" in done.stderr
    assert desk.run_folders == []
