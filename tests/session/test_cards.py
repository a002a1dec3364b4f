"""Which cards of the machine a run looks at: its own, and none that others use."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from nexus_orch.facts.engine.installed import make_assumed_engine
from nexus_orch.plan.make import make_plan
from nexus_orch.record.samples import read_latest
from nexus_orch.session.run import find_cards
from nexus_orch.testing import FakeEngine, write_fake_plugin
from nexus_orch.types import MIB
from tests.nvml_driver import Card, Driver
from tests.plan.cases import LOADERS, make_facts, make_gpu, make_spec
from tests.session.conftest import Desk

MODEL = "Qwen/Qwen2.5-0.5B-Instruct"


@pytest.fixture(autouse=True)
def four_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", Driver(*[Card()] * 4))


def _find(
    settings: dict[str, Any] | None = None, *, cards: int = 4, environ: Mapping[str, str] | None = None
) -> tuple[int, ...]:
    facts = make_facts(MODEL, *[make_gpu()] * cards)
    engine = make_assumed_engine("0.32.0", cpu=not cards)
    return find_cards(make_plan(make_spec(settings), facts, LOADERS), engine, environ or {})


def test_the_first_visible_cards_are_taken() -> None:
    assert _find() == (0,)
    assert _find({"serve.tensor_parallel": 2}) == (0, 1)


@pytest.mark.parametrize(
    ("listing", "ranks", "indices"),
    [
        ("3,1", 1, (3,)),
        ("3,1", 2, (3, 1)),
        ("GPU-22-abc,GPU-00", 2, (2, 0)),
        ("MIG-6b1f", 1, ()),  # what its card holds is not the slice's alone
    ],
)
def test_visible_cards_keep_the_numbers_of_nvml(listing: str, ranks: int, indices: tuple[int, ...]) -> None:
    environ = {"CUDA_VISIBLE_DEVICES": listing}
    assert _find({"serve.tensor_parallel": ranks}, cards=ranks, environ=environ) == indices


@pytest.mark.parametrize("words", [("-dp", "2"), ("--data-parallel-size=2",)])
def test_data_parallel_ranks_may_take_every_card_that_is_shown(words: tuple[str, ...]) -> None:
    environ = {"CUDA_VISIBLE_DEVICES": "1,2"}
    assert _find({"serve.extra_args": words}, environ=environ) == (1, 2)


def test_the_cpu_engine_has_no_card() -> None:
    assert _find(cards=0) == ()


CARDS = '''"""Two cards of 24 GiB; one of them fills up as soon as this process has started an engine, and stays so."""

import sys

import psutil

sys.path.insert(0, {root!r})
from nexus_orch.session import release
from tests.nvml_driver import Card, Driver

release.GPU_RELEASE_SECONDS = 0.5


class Filling(Driver):
    has_begun = False

    def nvmlDeviceGetMemoryInfo(self, handle, version=None):
        self.has_begun = self.has_begun or bool(psutil.Process().children())
        used = 16_000 if self.has_begun and handle == {filling} else 0
        self.cards = (Card(used_mib=used),) * 2
        return super().nvmlDeviceGetMemoryInfo(handle, version)


sys.modules["pynvml"] = Filling(Card(), Card())
'''


@pytest.mark.parametrize("place", ["environment", "engine.env", "hardware.gpu.devices"])
@pytest.mark.parametrize("filling", [0, 1])
def test_a_run_on_the_second_card_waits_for_that_one_alone(desk: Desk, place: str, filling: int) -> None:
    """A neighbour takes the first card while the engine starts, or the engine's own card is not given back."""
    write_fake_plugin(desk.folder, FakeEngine(fails="driver_mismatch"))
    source = CARDS.format(root=str(Path(__file__).parents[2]), filling=filling)
    (desk.folder / "plugins" / "cards.py").write_text(source, encoding="utf-8")
    desk.base = ("hardware=auto", "model=qwen0_5b", "engine.kind=fake", "limits.stop_seconds=2")
    where = {
        "environment": [],
        "engine.env": ["+engine.env.CUDA_VISIBLE_DEVICES='1'"],
        "hardware.gpu.devices": ["hardware.gpu.devices=[1]"],
    }[place]
    if place == "environment":
        desk.environ["CUDA_VISIBLE_DEVICES"] = "1"
    done = desk.run("limits.attempts=1", "memory.reserve_host=false", "--format", "plain", *where)
    assert done.returncode == 4, done.stdout + done.stderr
    told = "GPU 1 holds 15.6 GiB more than before the start, 0.5 s after the stop"
    assert (told in done.stdout) == (filling == 1), done.stdout
    assert "GPU 0 holds" not in done.stdout
    latest = read_latest(desk.run_folders[0] / "latest.json")
    assert latest is not None and [gpu.index for gpu in latest.gpus] == [1]
    assert latest.gpus[0].memory_used_bytes in (0, 16_000 * MIB)
