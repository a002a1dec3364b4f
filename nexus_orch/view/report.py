"""What was planned in a run and what happened: as Markdown for people, as JSON for machines."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from nexus_orch.errors import render_value
from nexus_orch.judge.start.proof import Comparison
from nexus_orch.record.codec import encode
from nexus_orch.record.run_record import AttemptRecord, RunRecord
from nexus_orch.types import Failed, Lesson
from nexus_orch.view.picture import render_changes
from nexus_orch.view.proof import HEADER, NUMBER_COLUMNS, make_rows
from nexus_orch.view.server import GENERATION_RATE, PROMPT_RATE
from nexus_orch.view.words import (
    NOTHING,
    render_bytes,
    render_duration,
    render_markdown_table,
    render_rate,
)

EVIDENCE_LINES = 5
METRIC_PEAKS = (
    (PROMPT_RATE, "tokens in"),
    (GENERATION_RATE, "tokens out"),
)


def make_comparisons(record: RunRecord) -> list[Comparison]:
    """Plan against measurement for the last attempt; what neither tells is left out.

    The proof that was taken when it became ready; for a run without one, what its record tells. Bytes are those of the
    fullest card, because vLLM's log tells them for each rank and that rank decides.
    """
    proof = record.attempt.proof
    if proof:
        return list(proof)
    plan = record.attempt.plan
    measured = record.measured
    found = [
        Comparison(name, _fullest(plan, key), measured.get(key), "bytes")
        for name, key in (
            ("weights on the device", "weights_bytes"),
            ("weights in host RAM", "offloaded_bytes"),
            ("KV cache", "kv_cache_bytes"),
            ("activations", "activation_bytes"),
            ("CUDA graphs", "cuda_graph_bytes"),
            ("other", "non_torch_bytes"),
        )
    ]
    prediction = plan.get("prediction", {})
    speed = prediction.get("decode_tokens_per_second")
    found += [
        Comparison("KV cache", plan.get("kv_cache_tokens"), measured.get("kv_cache_tokens"), "tokens"),
        Comparison("concurrency", plan.get("max_concurrency"), measured.get("max_concurrency"), "requests"),
        Comparison("one request", speed, measured.get("tokens_per_second"), "tokens/s"),
    ]
    return [line for line in found if line.planned or line.measured]


def make_report(record: RunRecord) -> dict[str, Any]:
    """The report as one JSON object."""
    return {
        "id": record.id,
        "folder": str(record.path),
        "state": record.state,
        **{
            name: getattr(record, name)
            for name in ("name", "model", "hardware", "strategy", "engine_version", "nexus_version")
        },
        **{name: getattr(record, name) for name in ("started", "ended", "exit_code", "cause", "reason", "url")},
        "comparison": [{**encode(line), "difference": line.difference} for line in make_comparisons(record)],
        "attempts": [_make_attempt(attempt, record) for attempt in record.attempts],
        "peaks": encode(record.latest.peaks),
        "measured": encode(record.measured),
        "dropped_bytes": record.latest.dropped_bytes,
        "notes": list(record.notes),
    }


def render_report(record: RunRecord) -> str:
    """The report as Markdown that is readable as plain text."""
    sections = [
        _head(record),
        _plan_section(record),
        _timeline(record),
        _attempts(record),
        _peaks(record),
        _tail(record),
    ]
    return "\n".join(section for section in sections if section)


def _head(record: RunRecord) -> str:
    took = render_duration(record.ended - record.started) if record.ended and record.started else NOTHING
    lines = [
        f"# {record.id}",
        "",
        f"- **{_describe_end(record)}**",
        f"- model {_known(record.model)}, strategy {_known(record.strategy)}, hardware {_known(record.hardware)}",
        f"- vLLM {_known(record.engine_version)}, nexus_orch {_known(record.nexus_version)}",
        f"- started {render_time(record.started)}, ended {render_time(record.ended)}, took {took}",
    ]
    lines += [f"- note: {note}" for note in record.notes]
    return "\n".join(lines) + "\n"


def _known(text: str) -> str:
    return text or NOTHING


def _describe_end(record: RunRecord) -> str:
    if record.state == "lost":
        return "lost: its supervisor ended without saying how"
    parts = [record.state, record.cause or "", record.reason]
    text = ": ".join(dict.fromkeys(part for part in parts if part))
    return text if record.exit_code is None else f"{text} (exit code {record.exit_code})"


def _plan_section(record: RunRecord) -> str:
    rows = make_rows(make_comparisons(record))
    if not rows:
        return ""
    return "## Plan and measurement\n\n" + render_markdown_table(HEADER, rows, right=NUMBER_COLUMNS)


def _timeline(record: RunRecord) -> str:
    rows = []
    for attempt in record.attempts:
        for stage, begin, seconds in attempt.spans(record.ended):
            since = render_duration(begin - record.started) if record.started else NOTHING
            rows.append((str(attempt.number), stage.value, since, render_duration(seconds)))
    if not rows:
        return ""
    return "## Timeline\n\n" + render_markdown_table(("attempt", "stage", "after", "took"), rows, right=(0, 2, 3))


def _attempts(record: RunRecord) -> str:
    lines = ["## Attempts", ""]
    before: Mapping[str, Any] | None = None
    for attempt in record.attempts:
        settings = attempt.settings
        lines.append(f"{attempt.number}. {_describe_attempt(attempt)}")
        lines += [f"   - {change}" for change in render_changes(before, settings)] if before is not None else []
        if isinstance(attempt.verdict, Failed):
            lines += [f"   - `{text.strip()}`" for text in attempt.verdict.evidence[:EVIDENCE_LINES]]
            lines.append(f"   - remedy: {attempt.verdict.remedy}")
        lines += [f"   - a lack of memory would not have been noticed: {attempt.blind}"] if attempt.blind else []
        lines += [f"   - advice: {advice.text}" for advice in attempt.advice]
        lines += [f"   - learned: {_describe_lesson(lesson)}" for lesson in attempt.lessons]
        lines += [f"   - then: {attempt.followed}"] if attempt.followed else []
        before = settings
    return "\n".join(lines) + "\n" if record.attempts else ""


def _describe_lesson(lesson: Lesson) -> str:
    is_size = isinstance(lesson.value, int | float) and "bytes" in lesson.key
    value = render_bytes(lesson.value) if is_size else render_value(lesson.value)
    return f"{lesson.key} = {value} ({lesson.source})"


def _describe_attempt(attempt: AttemptRecord) -> str:
    match attempt.verdict:
        case Failed(cause=cause):
            text = f"failed: {cause}"
        case None:
            text = "planned" if attempt.started is None else "launched"
        case verdict:
            text = type(verdict).__name__.lower()
    took = attempt.ended - attempt.started if attempt.ended and attempt.started else None
    after = f" after {render_duration(took)}" if took is not None else ""
    code = f", exit code of the engine {attempt.returncode}" if attempt.returncode is not None else ""
    return f"{text}{after}{code}"


def _peaks(record: RunRecord) -> str:
    peaks = record.latest.peaks
    rows = [(f"GPU {index} memory", render_bytes(used)) for index, used in sorted(peaks.gpu_memory_bytes.items())]
    if peaks.ram_bytes:
        rows.append(("host RAM", render_bytes(peaks.ram_bytes)))
        rows.append(("swap", render_bytes(peaks.swap_bytes)))
        rows.append(("engine processes", render_bytes(peaks.engine_rss_bytes)))
    rows += [
        (label, f"{render_rate(peaks.metrics[name])} tokens/s")
        for name, label in METRIC_PEAKS
        if peaks.metrics.get(name)
    ]
    return "## Peaks\n\n" + render_markdown_table(("", "highest"), rows, right=(1,)) if rows else ""


def _tail(record: RunRecord) -> str:
    lines = ["## Files", "", f"- {record.path}"]
    if record.latest.dropped_bytes:
        lines.append(f"- {render_bytes(record.latest.dropped_bytes)} of the engine's output were dropped")
    return "\n".join(lines) + "\n"


def render_time(seconds: float | None) -> str:
    """Local date and time."""
    return NOTHING if seconds is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _fullest(plan: Mapping[str, Any], key: str) -> float | None:
    cards: Sequence[Mapping[str, Any]] = plan.get("per_gpu", ())
    fullest = min(cards, key=lambda card: card["headroom_bytes"], default=None)
    return None if fullest is None else fullest[key]


def _make_attempt(attempt: AttemptRecord, record: RunRecord) -> dict[str, Any]:
    encoded: dict[str, Any] = encode(attempt)
    encoded["stages"] = [
        {"stage": stage.value, "started": begin, "seconds": seconds}
        for stage, begin, seconds in attempt.spans(record.ended)
    ]
    return encoded
