"""README.md and docs/: the commands work and print what is shown, the links lead somewhere."""

from __future__ import annotations

import html
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from nexus_orch.cli import COMMANDS, main
from nexus_orch.errors import ExitCode

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *ROOT.glob("examples/*/*.md"),
]

WITHOUT_ENGINE = ("plan", "engine check", "engine diff", "import", "export")
"""Commands that need neither engine nor card; the others of the README are the subject of other tests."""

_LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)")


def _read_commands() -> Iterator[tuple[str, str]]:
    """Each command of the README's console blocks with the output that is shown for it."""
    for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, shown = part.partition("\n")
            yield command.partition("  #")[0].strip(), shown


COMMANDS_SHOWN = [
    (command, shown)
    for command, shown in _read_commands()
    if command.removeprefix("nexus ").startswith(WITHOUT_ENGINE) and command.startswith("nexus ")
]


def _normalize(text: str) -> str:
    """Without figures, which a better planner works out differently, and without the width of a terminal."""
    return " ".join(re.sub(r"\d[\d,.]*", "N", text).split())


@pytest.mark.parametrize(("command", "shown"), COMMANDS_SHOWN, ids=[command for command, _ in COMMANDS_SHOWN])
def test_a_command_of_the_readme_prints_what_is_shown(
    command: str, shown: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert main(shlex.split(command)[1:]) == ExitCode.GOOD
    printed = _normalize(capsys.readouterr().out)
    missing = [part for part in re.split(r"^\.\.\.$", shown, flags=re.MULTILINE) if _normalize(part) not in printed]
    assert missing == []


def test_the_picture_shows_what_its_command_prints(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("COLUMNS", "100")
    pieces = re.findall(r"<text[^>]*>([^<]*)</text>", (ROOT / "docs/pictures/plan.svg").read_text(encoding="utf-8"))
    command, *shown = (html.unescape(piece).replace("\xa0", " ") for piece in pieces)
    assert main(shlex.split(command)[1:]) == ExitCode.GOOD
    printed = _normalize(capsys.readouterr().out)
    assert len(shown) > 20
    assert [piece for piece in shown if _normalize(piece) not in printed] == []


def test_the_readme_shows_commands_of_each_kind() -> None:
    assert {kind for kind in WITHOUT_ENGINE if any(f"nexus {kind}" in command for command, _ in COMMANDS_SHOWN)} == set(
        WITHOUT_ENGINE
    )


def test_every_command_is_in_the_readme() -> None:
    table = README.split("## Commands")[1].split("\n## ")[0]
    assert [name for name in COMMANDS if name != "run" and not re.search(rf"`(nexus )?{name}\b", table)] == []


def _make_anchor(heading: str) -> str:
    """As GitHub makes them: lower case, no punctuation, dashes for spaces."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def _read_anchors(page: Path) -> set[str]:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return {_make_anchor(heading) for heading in re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)}


@pytest.mark.parametrize("page", PAGES, ids=[page.relative_to(ROOT).as_posix() for page in PAGES])
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = []
    for place, anchor in _LINK.findall(page.read_text(encoding="utf-8")):
        target = (page.parent / place).resolve() if place else page
        if not target.exists() or (anchor and anchor not in _read_anchors(target)):
            broken.append(f"{place}#{anchor}")
    assert broken == []


def test_every_page_of_the_docs_can_be_reached_from_the_readme() -> None:
    reached, ahead = set(), [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        ahead += [(page.parent / place).resolve() for place, _ in _LINK.findall(page.read_text("utf-8")) if place]
    assert [page.name for page in PAGES if page not in reached] == []
