"""How far a start has come: loading, profiling, capturing, warming. It never goes backwards within an attempt."""

from __future__ import annotations

import re

from nexus_orch.judge.log.lines import LogRecord
from nexus_orch.judge.log.patterns import StageMark, shipped_patterns
from nexus_orch.types import Stage, Starting

STAGES = tuple(Stage)

# tqdm's two forms: "label: 12%|###   | 6/51 [...]" and vLLM's "label: 50% Completed | 1/2 [...]"; ninja's "[12/300]".
_BAR = re.compile(
    r"(?P<label>[^:|%]{0,80}?):? *\d{1,3}%(?: Completed \||\|[^|]*\|) *(?P<done>\d{1,9})/(?P<total>\d{1,9})"
)
_COUNT = re.compile(r"^\[(?P<done>\d{1,9})/(?P<total>\d{1,9})\] ")
_BAR_CHARACTERS = 400


def advance(current: Starting, record: LogRecord, *, eager: bool) -> Starting:
    """The start after one more line; the same object when the line says nothing about it.

    `eager` is true when no CUDA graphs will be recorded.
    """
    mark = _find_mark(record.message)
    progress, label = _parse_progress(record.message)
    if mark is None:
        if progress is None:
            return current
        return Starting(current.stage, progress, label or current.detail)
    stage = mark.eager_stage if eager and mark.eager_stage is not None else mark.stage
    if STAGES.index(stage) < STAGES.index(current.stage):
        return current
    moved = Starting(stage, progress, label or mark.detail)
    return current if moved == current else moved


def _find_mark(message: str) -> StageMark | None:
    for literal, mark in shipped_patterns().stages_by_literal:
        if literal in message:
            return mark
    return None


def _parse_progress(message: str) -> tuple[float | None, str]:
    """The fraction that is done and the label of a progress bar; (None, "") when the line is none."""
    found = _BAR.search(message, 0, _BAR_CHARACTERS) if "%" in message else _COUNT.match(message)
    if found is None or int(found["total"]) == 0:
        return None, ""
    done, total = int(found["done"]), int(found["total"])
    label = (found.groupdict().get("label") or "").strip()
    return min(done / total, 1.0), f"{label} {done}/{total}".strip()
