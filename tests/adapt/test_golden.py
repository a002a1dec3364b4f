"""Every shipped model profile on every known release: words that the release understands, and none that changed
unseen."""

from __future__ import annotations

import pytest

from nexus_orch.releases.known import known_releases
from nexus_orch.testing import find_illegal_words
from tests.adapt.golden import FOLDER, plan_profiles, render_golden

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("release", known_releases())
def test_every_profile_on_every_release(release: str) -> None:
    planned = list(plan_profiles(release))
    illegal = {
        (case.machine, case.model): found
        for case in planned
        if (found := list(find_illegal_words(case.preparation.rendering.argv, case.preparation.facts.engine)))
    }
    assert illegal == {}
    expected = (FOLDER / f"vllm-{release}.txt").read_text(encoding="utf-8")
    assert render_golden(release, planned) == expected, "see tests/adapt/golden.py for how to write the files anew"


def test_every_release_has_its_file_and_no_other() -> None:
    assert {file.name for file in FOLDER.iterdir()} == {f"vllm-{release}.txt" for release in known_releases()}
