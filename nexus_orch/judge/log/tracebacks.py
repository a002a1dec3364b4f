"""Python's tracebacks in a log: where they run through, which stage of a start that is, and the exception at their end.

Processes write past each other, so each has a traceback of its own. The exception is the first line behind the frames
that is no frame, whatever its name; a line that looks like an exception counts without frames above it, too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from nexus_orch.judge.log.lines import LogRecord
from nexus_orch.judge.log.patterns import shipped_patterns
from nexus_orch.types import Stage

TRACEBACK = "Traceback (most recent call last)"
MAX_OPEN_LINES = 400
"""A traceback whose exception has not come after so many lines is given up: an excerpt lost it."""

# The last line of a traceback: "ValueError: ...", "torch.OutOfMemoryError: ...", "AssertionError".
EXCEPTION = re.compile(
    r"^(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Exit|Died|Timeout|Unsupported|Failed|NotFound|Interrupt)\b(?::|$)"
)
_NAMED = re.compile(r"^(?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*(?:: |:?$)")
_FRAME = re.compile(r'  File "(?P<file>[^"]+)", line \d+')
_MARKER = re.compile(r"^\s*[\^~]+\s*$")

# Functions that a stage of a start runs through, the telling ones first: profiling calls the model, and so does the
# recording of graphs (v1/worker/gpu_worker.py, worker/worker.py and model_runner.py of releases 0.4.3 to 0.33.0).
_STAGES: tuple[tuple[Stage, tuple[str, ...]], ...] = (
    (
        Stage.PROFILING,
        ("profile_run", "determine_available_memory", "determine_num_available_blocks", "profile_cudagraph_memory"),
    ),
    (Stage.CAPTURING, ("capture_model", "_capture_cudagraphs", "capture_graph", "_capture_model")),
    (
        Stage.LOADING,
        ("load_model", "load_weights", "process_weights_after_loading", "initialize_model", "weight_loader"),
    ),
    (
        Stage.WARMING,
        (
            "compile_or_warm_up_model",
            "kernel_warmup",
            "initialize_kv_cache_tensors",
            "_allocate_kv_cache",
            "initialize_from_config",
        ),
    ),
)

# Frames and classes of draft models (v1/spec_decode/, v1/worker/gpu/spec_decode/, model_executor/models/*_eagle*.py,
# *_mtp.py, medusa.py; the proposers of releases before 0.11). The scorer of those is the served model.
_DRAFT_FRAMES = (
    "drafter.",
    "draft_model",
    "proposer_worker.",
    "v1/spec_decode/",
    "gpu/spec_decode/",
    "eagle.py",
    "eagle3.py",
    "_mtp.py",
    "/medusa.py",
    "mlp_speculator.py",
    "config/speculative.py",
)
_DRAFT_CLASS = re.compile(
    r"\b(?:\w*(?:Eagle3?|EAGLE3?|Medusa|Speculator|DFlash|DraftModel)(?:[A-Z]\w*|\b)|\w+MTP(?:[A-Z]\w*|\b))"
)


@dataclass(frozen=True)
class Trace:
    """The traceback that one process is writing."""

    is_open: bool = False
    lines: int = 0
    file: str = ""
    """The file of the innermost frame so far, with forward slashes."""
    place: str = ""
    """The line of the log that names that frame."""
    stage_index: int = len(_STAGES)
    contexts: frozenset[str] = frozenset()
    """Contexts of signatures that it has gone through."""
    in_code: bool = True
    """True while an indented line is a source line; behind the exception it is a further line of its message."""
    is_draft: bool = False
    """True when it runs through the draft model of speculative decoding."""

    @property
    def is_cut(self) -> bool:
        """True while frames have been read and the exception has not."""
        return self.in_code and self.file != ""

    @property
    def stage(self) -> Stage | None:
        """The stage of the start that its frames name; None when they name none."""
        return _STAGES[self.stage_index][0] if self.stage_index < len(_STAGES) else None


def open_trace() -> Trace:
    """A traceback whose head has just been read."""
    return Trace(is_open=True)


def add_frame(trace: Trace, record: LogRecord) -> Trace:
    """The traceback after one more line of its frames."""
    message = record.message
    frame = _FRAME.match(message)
    found = next((index for index, (_, words) in enumerate(_STAGES) if any(w in message for w in words)), len(_STAGES))
    contexts = {context for context in shipped_patterns().contexts if context in message}
    return replace(
        trace,
        lines=trace.lines + 1,
        is_open=trace.is_open and trace.lines < MAX_OPEN_LINES,
        file=trace.file if frame is None else frame["file"].replace("\\", "/"),
        place=trace.place if frame is None else record.text,
        stage_index=min(found, trace.stage_index),
        contexts=trace.contexts | contexts,
        in_code=True,
        is_draft=trace.is_draft or any(word in message for word in _DRAFT_FRAMES),
    )


def close_trace(trace: Trace) -> Trace:
    """The traceback once its exception has come."""
    return replace(trace, is_open=trace.is_open and trace.lines == 0, in_code=False)


def tells_draft(message: str) -> bool:
    """True for a message that names the class of a draft model."""
    return _DRAFT_CLASS.search(message) is not None


def is_exception(trace: Trace, message: str) -> bool:
    """True for the line at the end of a traceback, and for one that looks like it."""
    if EXCEPTION.match(message):
        return True
    is_below = trace.in_code and trace.lines > 0 and (trace.is_open or trace.file != "")
    return is_below and _NAMED.match(message) is not None


def is_marker(message: str) -> bool:
    """True for the line of carets below a frame's source line."""
    return _MARKER.match(message) is not None
