"""Versions: the release that each belongs to, and the known releases around it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from nexus_orch.releases.known import is_known, is_readable, known_releases, neighbours, parse_release, release_of

VERSIONS = st.tuples(st.just(0), st.integers(0, 60), st.integers(0, 9)).map(lambda parts: ".".join(map(str, parts)))


@pytest.mark.parametrize(
    ("version", "release"),
    [
        ("0.9.2+cu128", "0.9.2"),
        ("0.9.2rc1.dev3", "0.9.2"),
        ("0.28.0.dev1+gabc", "0.28.0"),
        ("0.8.5.post1", "0.8.5.post1"),
    ],
)
def test_a_build_belongs_to_the_release_that_it_leads_to(version: str, release: str) -> None:
    assert str(release_of(version)) == str(parse_release(version)) == release


def test_what_cannot_be_read_counts_as_the_newest() -> None:
    assert str(parse_release("ours-2026")) == known_releases()[-1]
    assert not is_readable("ours-2026")
    assert is_readable("0.26.0.dev1")


@pytest.mark.parametrize(
    ("version", "around"),
    [
        ("0.10.1", ("0.10.2", "0.9.2")),
        ("0.20.0", ("0.19.1", "0.22.1")),
        ("0.21.0", ("0.22.1", "0.19.1")),
        ("0.26.0", ("0.25.1", "0.27.1")),
        ("0.8.5", ("0.8.5.post1", "0.7.3")),
        ("0.27.1.dev3", ("0.27.1",)),
        ("0.1.0", ("0.4.3",)),
    ],
)
def test_the_nearer_neighbour_comes_first(version: str, around: tuple[str, ...]) -> None:
    assert neighbours(version) == around
    assert is_known(version) == (str(parse_release(version)) == around[0])


@given(VERSIONS)
def test_neighbours_lie_on_both_sides_and_nothing_known_between(version: str) -> None:
    around = sorted(map(Version, neighbours(version)))
    assert [str(release) for release in around] == [
        release for release in known_releases() if around[0] <= Version(release) <= around[-1]
    ]
    if len(around) == 2:
        assert around[0] < Version(version) < around[1]
    else:
        assert Version(version) == around[0] or Version(version) not in map(Version, known_releases())


@given(st.sampled_from(known_releases()))
def test_a_known_release_is_its_own_neighbour(release: str) -> None:
    assert neighbours(release) == (release,)
