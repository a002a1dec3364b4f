"""One engine of a sweep on a card at a time: a lock for each card, which the kernel gives back when its holder dies."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

from nexus_orch import paths
from nexus_orch.facts.machine.gpus import read_visible
from nexus_orch.install.work.lock import hold_lock
from nexus_orch.nvml import open_nvml
from nexus_orch.types import RunSpec

NO_CARD = "cpu"


def name_cards(spec: RunSpec) -> tuple[str, ...]:
    """What a run may take, in an order that is the same for all: the cards that it names, else all that it sees."""
    if spec.hardware.gpu.count == 0:
        return (NO_CARD,)
    wanted = spec.hardware.gpu.devices
    with open_nvml() as nvml:
        cards = read_visible(nvml, os.environ).devices
    found = sorted(card.uuid or str(card.index) for card in cards if not wanted or card.index in wanted)
    return tuple(found) or (NO_CARD,)


@contextmanager
def holding_cards(spec: RunSpec, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the cards of a run while inside; says once whom it waits for."""
    with ExitStack() as held:
        for name in name_cards(spec):
            path = paths.home_dir() / "locks" / f"{re.sub(r'[^A-Za-z0-9-]', '_', name)}.lock"
            held.enter_context(hold_lock(path, partial(_tell_wait, say, name)))
        yield


def _tell_wait(say: Callable[[str], None], name: str, holder: str) -> None:
    what = "this machine" if name == NO_CARD else f"card {name}"
    say(f"waiting: another sweep has {what}{f' ({holder})' if holder else ''}")
