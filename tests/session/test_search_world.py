"""The real sweeper with real processes in a simulated machine: its pick is the one that is best there."""

from __future__ import annotations

from nexus_orch.sweep.run.journal import SweepJournal
from nexus_orch.sweep.types import LaunchEnded, Soaked, Speed
from nexus_orch.testing import FakeEngine, write_fake_plugin
from tests.session.conftest import Desk

WORLD = '''
import random

GRID = {"model.max_model_len": [512, 1024], "serve.max_num_seqs": [4, 8]}
BASE = {"workload.concurrency": 4}
SPEEDS = {(512, 4): 100.0, (512, 8): 150.0, (1024, 4): 90.0, (1024, 8): 300.0}


class Machine:
    """The fastest point dies when its context is long; another one is not ready."""

    def __init__(self, seed):
        self.dice = random.Random(seed)

    def place(self, settings):
        return settings["model.max_model_len"], settings["serve.max_num_seqs"]

    def launch(self, settings):
        start = "no_kv_cache_memory" if self.place(settings) == (1024, 4) else "ready"
        return {"start": start, "kv_cache_tokens": 4096, "minutes": 1}

    def measure(self, settings, concurrency):
        speed = SPEEDS[self.place(settings)] * (1 + 0.005 * self.dice.uniform(-1, 1))
        return {"tokens_per_second": speed, "first_token_seconds": 0.1, "failed": 0, "requests": 16}

    def soak(self, settings):
        return {"failed": 0, "requests": 400, "died_at_tokens": 900 if self.place(settings) == (1024, 8) else None}


def make(seed):
    return Machine(seed)
'''


def test_the_fastest_that_survives_its_soak_is_picked(desk: Desk) -> None:
    world = desk.folder / "world.py"
    world.write_text(WORLD, encoding="utf-8")
    write_fake_plugin(desk.folder, FakeEngine(world=str(world)))
    done = desk.run(
        *("-m", "model.max_model_len=512,1024", "serve.max_num_seqs=4,8", "workload.concurrency=4"),
        *("workload.input_tokens=32", "workload.output_tokens=8", "sweep.launches=4", "sweep.confirmations=1"),
        *("sweep.soak_minutes=0.01", "sweep.soak_requests=20", "sweep.client=vllm"),
        patience_seconds=240.0,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    assert "pick: point 1, model.max_model_len=512 serve.max_num_seqs=8" in done.stdout
    (folder,) = (desk.home / "sweeps").iterdir()
    outcomes = SweepJournal(folder).outcomes()
    assert any(isinstance(x, Soaked) and x.died_at_tokens is not None and x.point == 3 for x in outcomes)
    speeds = [x.tokens_per_second for x in outcomes if isinstance(x, Speed) and x.point == 1]
    assert all(abs(speed - 150) < 1 for speed in speeds)
    assert all(x.cause == "no_kv_cache_memory" for x in outcomes if isinstance(x, LaunchEnded) and x.point == 2)
