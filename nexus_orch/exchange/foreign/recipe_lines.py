"""What Makefiles and Justfiles share: recipes whose lines a shell runs, with the tool's own variables in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from nexus_orch.exchange.foreign.shell import Place, parse_script
from nexus_orch.exchange.start import Beside, Start
from nexus_orch.exchange.text.server import find_pinned_release


@dataclass(frozen=True)
class RecipeLine:
    """One command of a recipe, as the shell gets it."""

    recipe: str
    line: int
    text: str


def find_in_recipes(lines: Iterable[RecipeLine], env: Mapping[str, str], beside: Beside) -> list[Start]:
    """The starts of vLLM in the lines, each of which has a shell of its own. What one recipe installs is the release of
    the others."""
    found: list[Start] = []
    release = None
    for one in lines:
        release = find_pinned_release(one.text.split()) or release
        place = Place(dict(env), f"recipe {one.recipe}, line {one.line}", beside)
        found += parse_script(one.text, replace(place, depth=1), names_lines=False)
    return [replace(start, release=start.release or release) for start in found]
