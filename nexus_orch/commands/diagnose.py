"""`nexus diagnose LOGFILE`: the cause and the remedy in any vLLM log, and the numbers that it tells."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from nexus_orch.adapt.by_hand import name_options
from nexus_orch.errors import ExitCode
from nexus_orch.judge.log.patterns import shipped_patterns
from nexus_orch.judge.log.starts import read_history
from nexus_orch.judge.start.diagnosis import Diagnosis, judge_history
from nexus_orch.observe.log_text import read_log_lines
from nexus_orch.types import GIB


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("log", metavar="LOGFILE", help="a log (also .gz), a run folder, or - for standard input")
    parser.add_argument("--format", choices=("table", "json"), default="table")


def run(args: argparse.Namespace) -> int:
    """Good also when a failure was found: the exit code tells whether the log could be judged. Who started vLLM by hand
    reads vLLM's own options beside our keys."""
    diagnosis = judge_history(read_history(read_log_lines(args.log)))
    if diagnosis.cause is not None and not Path(args.log).is_dir():
        diagnosis = replace(diagnosis, remedy=name_options(diagnosis.remedy, diagnosis.engine_version))
    if args.format == "json":
        sys.stdout.write(json.dumps(asdict(diagnosis), indent=2) + "\n")
    else:
        sys.stdout.write("\n".join(render_diagnosis(diagnosis)) + "\n")
    return ExitCode.GOOD


def render_diagnosis(diagnosis: Diagnosis) -> Iterator[str]:
    """The diagnosis as a person reads it."""
    if diagnosis.cause is None:
        yield diagnosis.remedy
    else:
        yield f"cause     {diagnosis.cause}: {shipped_patterns().causes[diagnosis.cause].summary}"
        yield f"remedy    {diagnosis.remedy}"
    for line in diagnosis.evidence:
        yield f"evidence  {line}"
    if diagnosis.engine_version is not None:
        yield f"engine    vLLM {diagnosis.engine_version}"
    ranks = diagnosis.measured.get("ranks", {})
    whole = {name: value for name, value in diagnosis.measured.items() if name != "ranks"}
    yield from _render_numbers("measured", whole)
    for process, numbers in ranks.items():
        yield from _render_numbers(process, numbers)


def _render_numbers(title: str, numbers: Mapping[str, Any]) -> Iterator[str]:
    if numbers:
        yield title
    for name, value in numbers.items():
        label, text = _render_number(name, value)
        yield f"    {label:<28} {text}"


def _render_number(name: str, value: Any) -> tuple[str, str]:
    """Bytes in GiB and large counts with separators: this is the edge."""
    if name.endswith("_bytes"):
        return name.removesuffix("_bytes").replace("_", " "), f"{value / GIB:.2f} GiB"
    if name.endswith("_seconds"):
        return name.removesuffix("_seconds").replace("_", " "), f"{value:.1f} s"
    text = f"{value:,}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
    return name.replace("_", " "), text
