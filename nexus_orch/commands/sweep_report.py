"""`nexus sweep-report`: what a sweep found, as a table, a file or a page, and its pick as a profile of the project."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from nexus_orch.compose.project import find_project
from nexus_orch.errors import ConfigError, ExitCode, Problem
from nexus_orch.files import tell_write_errors, write_atomic
from nexus_orch.sweep.report.folder import SweepFolder, cards_of, choose_sweep, make_bars, make_evidence, read_sweep
from nexus_orch.sweep.report.page import render_page
from nexus_orch.sweep.report.plots import draw_plots
from nexus_orch.sweep.report.profile import render_difference, render_profile
from nexus_orch.sweep.report.table import render_csv, render_markdown, render_text
from nexus_orch.view.report import render_time
from nexus_orch.view.words import NOTHING, render_columns, render_count, render_duration, render_rate

FORMATS = ("table", "md", "csv", "html", "json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "sweep", nargs="?", metavar="DIR", help="the sweep's folder; the newest one where none is named"
    )
    parser.add_argument(
        "--format", choices=FORMATS, default="table", help="csv has all points, html needs the extra report"
    )
    parser.add_argument("--out", metavar="FILE", help="write it there; html without it goes into the sweep's folder")
    parser.add_argument(
        "--compare", metavar="DIR", nargs="+", default=(), help="picks of earlier sweeps beside this one"
    )
    parser.add_argument(
        "--write-profile", metavar="NAME", help="write the pick as conf/profile/NAME.yaml of the project"
    )
    parser.add_argument("--project", metavar="DIR", help="the project folder (NEXUS_PROJECT)")
    parser.add_argument("--yes", action="store_true", help="write the profile without asking")


def run(args: argparse.Namespace) -> int:
    sweep = read_sweep(choose_sweep(args.sweep))
    if args.write_profile is not None:
        project = find_project(None if args.project is None else Path(args.project))
        return _write_profile(sweep, args.write_profile, project, is_sure=args.yes)
    text = _render(sweep, args.format)
    if args.compare:
        text += "\n" + _compare([sweep, *(read_sweep(Path(folder)) for folder in args.compare)])
    out = sweep.folder / "report.html" if args.format == "html" and args.out is None else args.out
    if out is None:
        sys.stdout.write(text)
        return ExitCode.GOOD
    path = Path(out).expanduser().absolute()
    with tell_write_errors(path):
        write_atomic(path, text)
    sys.stdout.write(f"{path}\n")
    return ExitCode.GOOD


def _render(sweep: SweepFolder, form: str) -> str:
    match form:
        case "md":
            return render_markdown(sweep.story)
        case "csv":
            return render_csv(sweep.story)
        case "html":
            plots = draw_plots(sweep.story, tuple(make_bars(sweep)))
            return render_page(_title(sweep), sweep.story, plots, tuple(_facts(sweep)))
        case "json":
            return json.dumps(_as_json(sweep), indent=1) + "\n"
    return render_text(sweep.story) + _last_words(sweep)


def _title(sweep: SweepFolder) -> str:
    swept = set(sweep.story.keys)
    words = [
        word for word in sweep.record.command if "=" in word and "," not in word and word.partition("=")[0] not in swept
    ]
    return f"Sweep of {' '.join(words)}" if words else "Sweep"


def _facts(sweep: SweepFolder) -> Iterator[tuple[str, str]]:
    yield "begun", render_time(sweep.record.started)
    record = None if sweep.story.pick is None else sweep.run_of(sweep.story.pick.number)
    if record is not None:
        yield "engine", f"vLLM {record.engine_version}"
        yield "cards", cards_of(record)
    yield "command", f"nexus-run -m {' '.join(sweep.record.command)}"


def _last_words(sweep: SweepFolder) -> str:
    """How the sweep stands, and what to do with it."""
    decision, pick = sweep.story.decision, sweep.story.pick
    took = render_duration(60 * decision.minutes)
    lines = ["", f"{decision.launches} engine starts ({decision.failed_launches} failed), {took}", *decision.notes]
    if not sweep.story.is_over:
        lines.append(f"the sweep is not over: sweep.resume={sweep.folder} goes on with it")
    if pick is not None:
        lines.append("as a profile:  nexus sweep-report --write-profile NAME     with pictures:  --format html")
    return "\n".join(lines) + "\n"


def _as_json(sweep: SweepFolder) -> dict[str, object]:
    story = sweep.story
    return {
        "folder": str(sweep.folder),
        "command": list(sweep.record.command),
        "pick": None if story.pick is None else story.pick.number,
        "is_over": story.is_over,
        "launches": [asdict(launch) for launch in story.launches],
        "points": [{**asdict(point), "settings": dict(point.settings)} for point in story.points],
        "notes": list(story.decision.notes),
    }


def _compare(sweeps: Sequence[SweepFolder]) -> str:
    """The picks of several sweeps side by side, this one first."""
    rows = []
    for sweep in sweeps:
        pick, decision = sweep.story.pick, sweep.story.decision
        settings = NOTHING if pick is None else " ".join(f"{key}={pick.settings.get(key)}" for key in sweep.story.keys)
        rows.append(
            (
                sweep.folder.name,
                NOTHING if pick is None else render_rate(pick.tokens_per_second),
                str(sweep.story.goal.concurrency),
                NOTHING if pick is None else render_count(pick.kv_cache_tokens),
                str(decision.launches),
                render_duration(60 * decision.minutes),
                settings,
            )
        )
    header = ("sweep", "tokens/s", "at once", "KV tokens", "starts", "took", "pick")
    return render_columns(header, rows, (1, 2, 3, 4, 5))


def _write_profile(sweep: SweepFolder, name: str, project: Path | None, *, is_sure: bool) -> int:
    """Show what would change in the project's profile, ask, and write it."""
    pick = sweep.story.pick
    if pick is None:
        raise ConfigError(
            Problem("the sweep has no pick", value=str(sweep.folder), remedy="let it go on: sweep.resume=DIR")
        )
    if project is None:
        remedy = "name its folder with --project DIR or NEXUS_PROJECT (it holds conf/)"
        raise ConfigError(Problem("a profile is written into a project", "--write-profile", name, remedy=remedy))
    path = project / "conf" / "profile" / f"{name}.yaml"
    if path.parent.resolve() != (project / "conf" / "profile").resolve() or not name or name.startswith("."):
        raise ConfigError(
            Problem("this is no name of a profile", "--write-profile", name, remedy="letters, digits, - and _")
        )
    text = _make_profile(sweep)
    before = path.read_text(encoding="utf-8") if path.is_file() else ""
    difference = render_difference(before, text, str(path))
    if not difference:
        sys.stdout.write(f"{path} says so already\n")
        return ExitCode.GOOD
    sys.stdout.write(difference + "\n")
    if not is_sure and not _agrees(path):
        sys.stdout.write("nothing is written\n")
        return ExitCode.GOOD
    with tell_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, text)
    sys.stdout.write(f"written: nexus-run profile={name}\n")
    return ExitCode.GOOD


def _agrees(path: Path) -> bool:
    if not sys.stdin.isatty():
        raise ConfigError(Problem("nobody is there to be asked", "--write-profile", str(path), remedy="add --yes"))
    sys.stdout.write(f"write {path}? [y/N] ")
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _make_profile(sweep: SweepFolder) -> str:
    story, record = sweep.story, sweep.record
    assert story.pick is not None
    point = record.task.points[story.pick.number]
    base = [word for word in record.command if word.lstrip("+").partition("=")[0] not in point.settings]
    told = [
        f"The pick of a sweep of {len(record.task.points):,} points, written by nexus sweep-report.",
        "A plan says when its evidence is of another release or other cards.",
    ]
    return render_profile((*base, *point.overrides), make_evidence(sweep), told)
