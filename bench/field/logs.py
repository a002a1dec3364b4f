"""Failure logs of the field: is the cause right, is the telling line shown, does the remedy help, is nothing false?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nexus_orch.adapt.by_hand import name_options
from nexus_orch.judge.log.starts import read_history
from nexus_orch.judge.start.diagnosis import Diagnosis, judge_history
from nexus_orch.observe.log_text import read_log_lines

FOLDER = Path(__file__).parents[2] / "tests" / "data" / "field" / "logs"


@dataclass(frozen=True)
class Case:
    """A log and what must come of it. `causes` are those that are right, None for no failure; `says_one_of` and
    `never_says` are about the remedy."""

    path: Path
    shows: str
    release: str | None
    causes: tuple[str | None, ...]
    evidence: tuple[str, ...]
    says_one_of: tuple[str, ...]
    never_says: tuple[str, ...]


@dataclass(frozen=True)
class Score:
    """What is wrong with a diagnosis; it misleads when it names a false cause or gives advice that does harm."""

    wrong: tuple[str, ...]
    misleads: bool

    @property
    def word(self) -> str:
        """The score as one word of a table."""
        return "right" if not self.wrong else "misleads" if self.misleads else "weak"


def read_cases(folder: Path = FOLDER) -> Iterator[Case]:
    """The cases of a folder with an index.json."""
    for entry in json.loads((folder / "index.json").read_text(encoding="utf-8")):
        yield _make_case(folder, entry)


def diagnose(path: Path) -> Diagnosis:
    """What `nexus diagnose` says of a file."""
    return judge_history(read_history(read_log_lines(str(path))))


def score(case: Case, found: Diagnosis) -> Score:
    """Hold a diagnosis against what is right."""
    remedy = name_options(found.remedy, found.engine_version)
    wrong = []
    if found.cause not in case.causes:
        wrong.append(f"cause {found.cause}, right is {case.causes[0]}")
    wrong += [f"not shown: {text}" for text in case.evidence if not any(text in line for line in found.evidence)]
    if case.says_one_of and not any(text.lower() in remedy.lower() for text in case.says_one_of):
        wrong.append(f"the remedy says none of {', '.join(case.says_one_of)}")
    harmful = [f"the remedy says {text}" for text in case.never_says if text in remedy]
    if case.release is not None and found.engine_version not in (None, case.release):
        harmful.append(f"release {found.engine_version}, right is {case.release}")
    return Score((*wrong, *harmful), bool(harmful) or found.cause not in (*case.causes, "unknown"))


def main() -> int:
    """Print the table; the number of cases that are not fully right."""
    counts = {"right": 0, "weak": 0, "misleads": 0}
    for case in read_cases():
        scored = score(case, diagnose(case.path))
        counts[scored.word] += 1
        print(f"{scored.word:<9} {case.path.name:<40} {'; '.join(scored.wrong) or case.shows}")
    print(f"logs: {', '.join(f'{count} {word}' for word, count in counts.items())}, of {sum(counts.values())}")
    return counts["weak"] + counts["misleads"]


def _make_case(folder: Path, entry: dict[str, Any]) -> Case:
    lists = {name: tuple(entry[name]) for name in ("causes", "evidence", "says_one_of", "never_says")}
    return Case(folder / entry["file"], entry["shows"], entry["release"], **lists)
