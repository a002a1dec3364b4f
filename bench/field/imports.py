"""Commands and files of the field: does the profile say what they say, and is nothing false told?"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from nexus_orch.cli import main as nexus

FOLDER = Path(__file__).parents[2] / "tests" / "data" / "field" / "imports"


@dataclass(frozen=True)
class Case:
    """Words for `nexus` and what must come of them: the profile's settings (`sets`), its model and words that it passes
    on, words that it must lack, sentences, and for a refusal a part of its message."""

    words: tuple[str, ...]
    shows: str
    sets: Mapping[str, Any]
    model: str | None
    passes: tuple[str, ...]
    lacks: tuple[str, ...]
    says: tuple[str, ...]
    refused: str | None


@dataclass(frozen=True)
class Answer:
    """What a command of ours wrote, and its exit code."""

    code: int
    out: str
    said: str


def read_cases(folder: Path = FOLDER) -> Iterator[Case]:
    """The cases of a folder with an index.json."""
    for entry in json.loads((folder / "index.json").read_text(encoding="utf-8")):
        yield Case(
            tuple(str(folder / word) if (folder / word).is_file() else word for word in entry["words"]),
            entry["shows"],
            {
                key: str(value).replace("{here}", str(folder)) if isinstance(value, str) else value
                for key, value in entry.get("sets", {}).items()
            },
            entry.get("model"),
            tuple(entry.get("passes", ())),
            tuple(entry.get("lacks", ())),
            tuple(entry.get("says", ())),
            entry.get("refused"),
        )


def answer(case: Case) -> Answer:
    """What `nexus` says to these words, with its lines joined again."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = nexus(case.words)
    return Answer(code, out.getvalue(), " ".join(f"{out.getvalue()} {err.getvalue()}".split()))


def find_wrong(case: Case, found: Answer) -> list[str]:
    """What of the answer is not as it must be."""
    wrong = [f"not said: {text}" for text in case.says if text not in found.said]
    if "Traceback" in found.said:
        wrong.append("a traceback")
    if case.refused is not None:
        wrong += [f"not refused with: {case.refused}"] if found.code != 2 or case.refused not in found.said else []
        return wrong
    if found.code not in (0, 3):
        return [*wrong, f"refused: {found.said[:200]}"]
    if case.words[0] == "import":
        wrong += _find_wrong_settings(case, yaml.safe_load(found.out))
    return wrong


def _find_wrong_settings(case: Case, profile: Mapping[str, Any]) -> Iterator[str]:
    for key, value in case.sets.items():
        said: Any = profile
        for name in key.split("."):
            said = said.get(name) if isinstance(said, dict) else None
        if said != value:
            yield f"{key} is {said}, right is {value}"
    passed = profile.get("serve", {}).get("extra_args", [])
    yield from (f"not passed on: {word}" for word in case.passes if word not in passed)
    yield from (f"passed on: {word}" for word in case.lacks if word in passed)
    groups = {name: option for default in profile["defaults"] for name, option in default.items()}
    if case.model is not None and groups["override /model"] != case.model:
        yield f"the model is {groups['override /model']}, right is {case.model}"


def main() -> int:
    """Print the table; the number of cases that are not right."""
    missed = total = 0
    for case in read_cases():
        wrong = find_wrong(case, answer(case))
        missed, total = missed + bool(wrong), total + 1
        print(f"{'wrong' if wrong else 'right':<6} {case.shows}{': ' if wrong else ''}{'; '.join(wrong)}")
    print(f"imports: {total - missed} right, {missed} wrong, of {total}")
    return missed
