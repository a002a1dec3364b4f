"""The folder of a sweep, read for its report, with what the records of its runs add."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nexus_orch import paths
from nexus_orch.errors import ConfigError, NexusError, Problem
from nexus_orch.nvml import open_nvml
from nexus_orch.record.find import find_run
from nexus_orch.record.read_run import read_run
from nexus_orch.record.run_record import RunRecord
from nexus_orch.sweep.report.plots import MemoryBar
from nexus_orch.sweep.report.story import SweepStory, make_story
from nexus_orch.sweep.run.journal import SweepEntry, SweepJournal, SweepRecord
from nexus_orch.sweep.search.decide import decide
from nexus_orch.sweep.types import LaunchEnded
from nexus_orch.types import EvidenceSpec
from nexus_orch.view.report import render_time

KINDS = {
    "weights": "weights_bytes",
    "KV cache": "kv_cache_bytes",
    "activations": "activation_bytes",
    "CUDA graphs": "cuda_graph_bytes",
    "outside PyTorch": "non_torch_bytes",
    "left": "headroom_bytes",
}
"""What the bars of the memory picture are made of, by the fields of `GpuEstimate`."""


@dataclass(frozen=True)
class SweepFolder:
    """A sweep that was read from its folder."""

    folder: Path
    record: SweepRecord
    entries: tuple[SweepEntry, ...]
    story: SweepStory

    def run_of(self, point: int) -> RunRecord | None:
        """The newest run of a point that became ready; None where its folder is gone."""
        for entry in reversed(self.entries):
            outcome = entry.outcome
            if isinstance(outcome, LaunchEnded) and outcome.point == point and outcome.cause is None and entry.run_id:
                try:
                    return read_run(find_run(paths.runs_dir(), entry.run_id))
                except (NexusError, OSError):
                    continue
        return None


def read_sweep(folder: Path) -> SweepFolder:
    """The sweep of a folder. Raises ConfigError when it is none, or cannot be read."""
    journal = SweepJournal(folder.expanduser().absolute())
    if not journal.is_there:
        remedy = f"name a folder in {sweeps_dir()}, made by nexus-run -m"
        raise ConfigError(Problem("this is no folder of a sweep", value=str(folder), remedy=remedy))
    record = journal.read()
    outcomes = journal.outcomes()
    return SweepFolder(
        journal.folder, record, journal.entries(), make_story(record.task, outcomes, decide(record.task, outcomes))
    )


def sweeps_dir() -> Path:
    """Where sweeps are kept, as `hydra.sweep.dir` of conf/every_key.yaml has it."""
    return paths.home_dir() / "sweeps"


def choose_sweep(text: str | None) -> Path:
    """The named folder (a path, or its name among the sweeps), else the newest sweep."""
    if text is not None:
        named = Path(text)
        return named if named.exists() or not (sweeps_dir() / text).exists() else sweeps_dir() / text
    try:
        found = [path for path in sorted(sweeps_dir().iterdir()) if SweepJournal(path).is_there]
    except FileNotFoundError:
        found = []
    if not found:
        raise ConfigError(Problem("there is no sweep yet", remedy="nexus-run -m KEY=A,B,C makes one"))
    return found[-1]


def cards_of(record: RunRecord) -> str:
    """The cards of a run by number and name, "none" for the CPU engine."""
    return ", ".join(f"{n} x {name}" for name, n in Counter(gpu.name for gpu in record.latest.gpus).items()) or "none"


def make_bars(sweep: SweepFolder) -> Iterator[MemoryBar]:
    """The memory of each point that was launched and whose run is still there, as it was planned."""
    for number in dict.fromkeys(launch.point for launch in sweep.story.launches):
        record = sweep.run_of(number)
        cards = [] if record is None else record.attempt.plan.get("per_gpu", [])
        if cards:
            card = min(cards, key=lambda card: card["headroom_bytes"])
            yield MemoryBar(number, {kind: max(0, card[name]) for kind, name in KINDS.items()})


def make_evidence(sweep: SweepFolder) -> EvidenceSpec:
    """What the sweep measured of its pick."""
    pick, decided = sweep.story.pick, sweep.story.decision.pick
    assert pick is not None
    run = sweep.run_of(pick.number)
    with open_nvml() as nvml:
        driver = nvml.driver_version if run is not None and run.latest.gpus else None
    speed = pick.tokens_per_second
    return EvidenceSpec(
        engine_version=None if run is None else run.engine_version,
        driver=driver,
        cards=None if run is None else cards_of(run),
        date=render_time(sweep.entries[-1].time)[:10] if sweep.entries else None,
        tokens_per_second=None if speed is None else round(speed, 1),
        concurrency=sweep.story.goal.concurrency,
        first_token_seconds=None if pick.first_token_seconds is None else round(pick.first_token_seconds, 3),
        starts=pick.starts - pick.failed_starts,
        soaked_requests=pick.soaked_requests or None,
        failure_bound=None if decided is None or decided.failure_bound is None else round(decided.failure_bound, 6),
    )
