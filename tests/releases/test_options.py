"""Options under several names: as the catalogue has them, and found under each of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nexus_orch.facts.engine.installed import make_assumed_engine
from nexus_orch.facts.options.catalogue import catalogue_flags, releases_where
from nexus_orch.releases.known import known_releases
from nexus_orch.releases.options import RENAMED, find_by_option, names_of


@pytest.mark.parametrize("names", RENAMED)
def test_the_catalogue_has_both_names_where_the_fact_says(names: tuple[str, str]) -> None:
    old, new = names
    fact = RENAMED[names]
    assert fact.what and fact.source
    assert [release for release in known_releases() if fact(release)] == list(releases_where(new))
    assert set(releases_where(old)) - set(releases_where(new)) <= {r for r in known_releases() if not fact(r)}
    assert known_releases().index(releases_where(old)[0]) <= known_releases().index(releases_where(new)[0])
    assert known_releases().index(releases_where(old)[-1]) <= known_releases().index(releases_where(new)[-1])


@pytest.mark.parametrize("names", RENAMED)
def test_each_name_finds_all(names: tuple[str, str]) -> None:
    assert {*names_of(names[0])} == {*names_of(names[1])} >= {*names}
    assert [names_of(name)[0] for name in names] == list(names)


def test_an_option_of_one_name() -> None:
    assert names_of("--max-model-len") == ("--max-model-len",)


def test_a_table_is_asked_by_any_name() -> None:
    assert find_by_option({"--pooler-config": 1}, "--override-pooler-config") == 1
    assert find_by_option({"--override-pooler-config": 1}, "--pooler-config") == 1
    assert find_by_option({"--override-pooler-config": 1}, "--model") is None


def test_an_engine_has_an_option_under_the_name_of_its_release() -> None:
    for release, name in (("0.9.2", "--override-pooler-config"), ("0.12.0", "--pooler-config")):
        flag = make_assumed_engine(release).option("--pooler-config")
        assert flag == catalogue_flags(release)[name]


def test_of_two_names_the_one_that_was_asked_for_counts() -> None:
    engine = make_assumed_engine("0.11.2")
    for name in ("--override-pooler-config", "--pooler-config"):
        found = engine.option(name)
        assert found is not None and found.name == name
    assert replace(engine, flags={}).option("--pooler-config") is None
