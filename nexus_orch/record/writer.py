"""The one writer of a run folder's journal and samples."""

from __future__ import annotations

from dataclasses import replace

from nexus_orch.errors import InterruptedByEnvironment
from nexus_orch.record.events import Family, Judged, RunEvent, Sample
from nexus_orch.record.journal import JournalWriter
from nexus_orch.record.run_folder import RunFolder
from nexus_orch.record.samples import Latest, SampleThinner, write_latest
from nexus_orch.types import (
    Exited,
    GpuSample,
    HostSample,
    LogLine,
    Metric,
    Observation,
    Probed,
    ProcessKey,
    Ready,
    Starting,
    Vanished,
    Verdict,
)

LATEST_INTERVAL_SECONDS = 1.0
PROGRESS_STEP = 0.1
"""Within a stage, progress is written in steps of a tenth."""


class RunWriter:
    """Writes what happens in a run as it happens. For one thread.

    Events that cannot be written raise InterruptedByEnvironment. Samples never raise: a run that serves must not end
    because the disk is full. `lost_samples` says how many could not be written.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.lost_samples = 0
        self._journal = JournalWriter(folder.journal)
        self._thinner = SampleThinner()
        self._latest = Latest()
        self._latest_written = float("-inf")
        self._judged: Judged | None = None
        self._answers: dict[str, bool] = {}
        self._family: set[ProcessKey] = set()

    def write(self, event: RunEvent) -> None:
        """Append an event; of a family only the processes that the journal does not have yet."""
        if isinstance(event, Family):
            event = replace(event, processes=tuple(key for key in event.processes if key not in self._family))
            self._family.update(event.processes)
        if not isinstance(event, Family) or event.processes:
            self._journal.append(event)

    def judge(self, time: float, attempt: int, verdict: Verdict) -> None:
        """Append a verdict when it says something new: another one, another stage, or clearly more progress."""
        event = Judged(time, attempt, verdict)
        if self._judged is None or _is_news(self._judged, event):
            self._journal.append(event)
            self._judged = event

    def observe(self, observation: Observation) -> None:
        """Keep an observation: exits all, samples and probes thinned, log lines not (engine.log has them)."""
        match observation:
            case Exited() | Vanished():
                self._journal.append(observation)
            case Probed():
                self._probe(observation)
            case Metric() | GpuSample() | HostSample():
                self._sample(observation)
            case LogLine(dropped_bytes=dropped) if dropped:
                self._latest = self._latest.losing(dropped)

    def close(self) -> None:
        """Write the last samples, and wait until the disk has the journal."""
        if self._latest != Latest():
            self._write_latest()
        self._journal.close()

    def _sample(self, sample: Sample) -> None:
        self._latest = self._latest.including(sample)
        if self._thinner.wants(sample):
            try:
                self._journal.append(sample)
            except InterruptedByEnvironment:
                self.lost_samples += 1
        if abs(sample.time - self._latest_written) >= LATEST_INTERVAL_SECONDS:
            self._latest_written = sample.time
            self._write_latest()

    def _probe(self, probe: Probed) -> None:
        """Health is asked all the time: only its changes are kept."""
        changed = self._answers.get(probe.kind) != probe.ok
        due = probe.kind != "health" and self._thinner.wants(probe)
        if changed or due:
            self._answers[probe.kind] = probe.ok
            self._journal.append(probe)

    def _write_latest(self) -> None:
        try:
            write_latest(self.folder.latest, self._latest)
        except OSError:  # the disk is full, or on Windows a reader has it open: the next second tries again
            self.lost_samples += 1


def _is_news(last: Judged, event: Judged) -> bool:
    match last.verdict, event.verdict:
        case Starting(stage=old_stage, progress=old), Starting(stage=stage, progress=progress):
            news = stage != old_stage or (progress or 0.0) >= (old or 0.0) + PROGRESS_STEP
        case Ready(measured=old_measured), Ready(measured=measured):
            news = measured.keys() != old_measured.keys()
        case old_verdict, verdict:
            news = verdict != old_verdict
    return news or event.attempt != last.attempt
