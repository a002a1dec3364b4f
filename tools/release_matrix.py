"""Write docs/releases.md: what becomes of every shipped model on every known release of vLLM.

    python -m tools.release_matrix [--check]

Each model is planned on the smallest of some usual machines that serves it with the newest release, and, where its
weights are larger than an RTX 4090 but fit it with host RAM, on that card with memory=hybrid as well. Nothing is typed
in: each cell is a plan and its rendering. `--check` compares with the file instead of writing it.
"""

from __future__ import annotations

import re
import sys
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from nexus_orch.commands.engine_check import result_of
from nexus_orch.errors import Problem
from nexus_orch.facts.engine.installed import make_assumed_engine
from nexus_orch.facts.options.catalogue import render_releases
from nexus_orch.releases.known import known_releases
from nexus_orch.session.prepare import Preparation
from nexus_orch.view.words import render_markdown_table
from tools.shipped_runs import ShippedRun, make_run, model_names

FILE = Path(__file__).resolve().parent.parent / "docs" / "releases.md"
WIDTH = 118
LADDER = ("rtx4090", "rtx4090x2", "a100_80g", "h100x2", "h100x4", "h100x8", "h200x8", "b200x8")
"""From the smallest machine to the largest."""
OFFLOADER = "rtx4090"
"""The card of the hybrid runs."""
RESULTS = ("good", "substituted", "refused", "does not fit")

Cell = tuple[str, str]
"""One of RESULTS, and the reason without figures; of what is good, the variables that the adapter sets."""


@dataclass(frozen=True)
class Row:
    """One run over all releases, oldest first."""

    model: str
    hardware: str
    memory: str
    cells: tuple[Cell, ...]


def main() -> int:
    """Write the file, or say whether it is up to date."""
    text = render_document(make_rows(model_names()))
    if "--check" in sys.argv[1:]:
        is_same = FILE.read_text(encoding="utf-8") == text
        sys.stdout.write(
            "up to date\n" if is_same else "docs/releases.md is out of date: python -m tools.release_matrix\n"
        )
        return 0 if is_same else 1
    FILE.write_text(text, encoding="utf-8")
    sys.stdout.write(f"{FILE}: {len(text.splitlines())} lines\n")
    return 0


# What is planned


def make_rows(models: Sequence[str], *, processes: int = 2) -> list[Row]:
    """The rows of these models, in their order."""
    with ProcessPoolExecutor(processes) as pool:
        return [row for rows in pool.map(rows_of, models, chunksize=4) for row in rows]


def rows_of(model: str) -> list[Row]:
    """The model on a machine that holds it, and with weights in host RAM where that serves."""
    found = [make_row(choose_machine(model))]
    offloaded = make_run(model, OFFLOADER, "hybrid")
    plan = offloaded.prepare(make_assumed_engine()).plan
    if plan.fits and any(card.offloaded_bytes for card in plan.per_gpu):
        found.append(make_row(offloaded))
    return found


def choose_machine(model: str) -> ShippedRun:
    """The smallest machine that serves it with the newest release; the largest when none does."""
    newest = make_assumed_engine()
    runs = (make_run(model, hardware, "vram_only") for hardware in LADDER)
    return next(run for run in runs if run.hardware == LADDER[-1] or run.prepare(newest).plan.fits)


def make_row(run: ShippedRun) -> Row:
    """The run on every release."""
    cells = (judge(run.prepare(make_assumed_engine(release))) for release in known_releases())
    return Row(run.model, run.hardware, run.memory, tuple(cells))


def judge(preparation: Preparation) -> Cell:
    """As `nexus engine check` does, with the reason in words that hold for every release and model."""
    result = result_of(preparation)
    if result == "refused":
        reasons = [problem.message for problem in preparation.rendering.problems]
    elif result == "does not fit":
        reasons = [_without_figures(problem) for problem in preparation.plan.problems]
    else:
        variables = [choice for choice in preparation.additions if choice.key.startswith("engine.env.")]
        choices = preparation.substitutions or variables  # other additions depend on what lies on this machine
        reasons = [f"{choice.key} = {choice.value}: {choice.reason}" for choice in choices]
    return result, "; ".join(dict.fromkeys(map(_generalize, reasons)))


def _without_figures(problem: Problem) -> str:
    """The message when it holds for every run, else the cause."""
    message = _generalize(problem.message)
    return message if problem.cause is None or not re.search(r"\d [GM]iB|\d,\d{3}", message) else problem.cause


def _generalize(text: str) -> str:
    """Without the release and the architecture, which stand beside it."""
    text = re.sub(r"(refused for )?vLLM \d[\w.]*: ?", "", text)
    text = re.sub(r"vLLM \d[\w.]*", "the release", text)
    return re.sub(r"the architecture \w+( or \w+)*", "the model's architecture", text)


# What is written


def render_document(rows: Sequence[Row]) -> str:
    """The whole file."""
    notes: dict[str, int] = {}
    held = [row for row in rows if row.memory != "hybrid"]
    offloaded = [row for row in rows if row.memory == "hybrid"]
    releases = known_releases()
    return TEMPLATE.format(
        oldest=releases[0],
        newest=releases[-1],
        count=len(releases),
        held=len(held),
        offloaded=len(offloaded),
        counts=_render_counts(rows),
        held_groups=_render_groups(held, notes),
        offloaded_groups=_render_groups(offloaded, notes),
        notes="".join(f"{number}. {reason}\n" for reason, number in notes.items()),
    )


def render_cells(cells: Sequence[Cell], notes: dict[str, int]) -> str:
    """The results with the releases that have them; reasons are numbers in `notes`, which grows."""
    releases: dict[Cell, list[str]] = {}
    for release, cell in zip(known_releases(), cells, strict=True):
        releases.setdefault(cell, []).append(release)
    parts = []
    for (result, reason), found in releases.items():
        number = f" [{notes.setdefault(reason, len(notes) + 1)}]" if reason else ""
        parts.append(f"**{result}**{number}: {render_releases(found)}")
    return "; ".join(parts)


def _render_groups(rows: Iterable[Row], notes: dict[str, int]) -> str:
    """The rows of equal results together, by machine; the largest group first."""
    groups: dict[tuple[Cell, ...], dict[str, list[str]]] = {}
    for row in rows:
        groups.setdefault(row.cells, {}).setdefault(row.hardware, []).append(row.model)
    ordered = sorted(groups.items(), key=lambda group: -sum(map(len, group[1].values())))
    return "\n".join(_render_group(render_cells(cells, notes), machines) for cells, machines in ordered)


def _render_group(results: str, machines: Mapping[str, Sequence[str]]) -> str:
    """What the models of a group have in common, then their names."""
    lines = textwrap.fill(results, WIDTH, initial_indent="- ", subsequent_indent="  ")
    for machine, models in machines.items():
        text = f"{machine}: {', '.join(models)}"
        lines += "\n" + textwrap.fill(text, WIDTH, initial_indent="    - ", subsequent_indent="      ")
    return lines + "\n"


def _render_counts(rows: Sequence[Row]) -> str:
    lines = []
    for index, release in enumerate(known_releases()):
        counts = Counter(row.cells[index][0] for row in rows)
        lines.append((release, *(str(counts[result]) for result in RESULTS)))
    return render_markdown_table(("vLLM", *RESULTS), lines, right=range(1, len(RESULTS) + 1))


TEMPLATE = """\
# Releases: what becomes of each shipped model

Written by `python -m tools.release_matrix`, never by hand: each entry is a plan and its rendering for that release, as
`nexus engine check OVERRIDES --all` makes it for one run. {count} releases from {oldest} to {newest}, with options and
architectures as read from their sources. {held} models on the smallest of some usual machines that holds them with the
newest release, and {offloaded} of them on one RTX 4090 with `memory=hybrid`, which keeps a part of the weights in host
RAM (62 GiB there).

- **good**: the release does all that the plan says; a number tells which variable its adapter sets.
- **substituted**: something that the planner chose had to be replaced or left out, and the plan tells it. The planner
  knows the releases, so that none of these runs needs it; settings that users or plugins add may.
- **refused**: the release cannot run it; `nexus-run` says so and launches nothing.
- **does not fit**: by the accounting of that release.

## By release

{counts}
## Models that the cards hold

{held_groups}
## The same with weights in host RAM (`memory=hybrid`)

{offloaded_groups}
## Reasons

{notes}"""


if __name__ == "__main__":
    sys.exit(main())
