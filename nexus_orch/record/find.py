"""Which run folder a user means."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from nexus_orch.errors import ConfigError, Problem
from nexus_orch.suggest import find_near

_RUN_ID = re.compile(r"\d{8}-\d{6}(-|$)")


def find_runs(runs_dir: Path) -> tuple[Path, ...]:
    """Every run folder, the oldest first. A folder of runs that does not exist has none. Raises ConfigError."""
    try:
        return tuple(sorted(path for path in runs_dir.iterdir() if _RUN_ID.match(path.name) and path.is_dir()))
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise ConfigError(Problem(f"cannot read the runs: {error.strerror}", key=str(runs_dir))) from None


def find_run(runs_dir: Path, text: str | None) -> Path:
    """The run whose id is or begins with `text`; None means the last one. Raises ConfigError with the nearest ids."""
    runs = find_runs(runs_dir)
    if not runs:
        raise ConfigError(Problem("there are no runs yet", key=str(runs_dir), remedy="start one with nexus-run"))
    if text is None:
        return runs[-1]
    return choose_run(runs, text)


def choose_run(runs: Sequence[Path], text: str) -> Path:
    """The one run whose id is or begins with `text`. Raises ConfigError with the nearest ids."""
    ids = {path.name: path for path in runs}
    if text in ids:
        return ids[text]
    matching = [run_id for run_id in ids if run_id.startswith(text)]
    if len(matching) == 1:
        return ids[matching[0]]
    if matching:
        raise ConfigError(Problem(f"'{text}' means {len(matching)} runs", remedy=f"one of: {_list(matching)}"))
    near = find_near(text, ids, 3) or [path.name for path in runs[-3:]]
    raise ConfigError(Problem(f"there is no run '{text}'", remedy=f"the nearest: {_list(near)}; all: nexus ps --all"))


def _list(ids: list[str]) -> str:
    shown = ids[-5:]
    return ", ".join(shown) + (" ..." if len(ids) > len(shown) else "")
