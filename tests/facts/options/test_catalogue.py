"""The shipped options of the known releases: complete, consistent with each other, and in words."""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import files

import pytest
from packaging.version import Version

from nexus_orch.facts.options.catalogue import (
    catalogue_flags,
    make_catalogue,
    note_assumed,
    releases_where,
    render_releases,
)
from nexus_orch.facts.options.record import render_flag
from nexus_orch.releases.known import known_releases
from tests.releases.ends import NEWEST, NEXT, OLDEST

SPELLINGS = {"0.28.0": 384, "0.30.0": 405, "0.31.0": 420, "0.32.0": 428}
"""How many option strings the real parsers of these releases have, --help aside."""

HISTORY = {
    "--swap-space": "0.16.0 and earlier",
    "--calculate-kv-scales": "0.7.3 to 0.27.1",
    "--cuda-graph-sizes": "0.9.2 to 0.12.0",
    "--device": "0.9.2 and earlier",
    "--no-such-option": "no release",
}

CAME_WITH = {
    "--offload-backend": "0.19.1",
    "--offload-prefetch-step": "0.19.1",
    "--kv-offloading-size": "0.11.2",
    "--kv-cache-memory-bytes": "0.10.2",
    "--cpu-offload-gb": "0.5.5",
    "--max-model-len": "0.4.3",
}
"""Options that 0.33.0 has; what a later release has is not ours to say."""


def test_the_releases_are_in_order() -> None:
    releases = known_releases()
    assert list(releases) == sorted(set(releases), key=Version)
    assert releases[0] == "0.4.3" and "0.33.0" in releases


@pytest.mark.parametrize(("version", "count"), SPELLINGS.items())
def test_the_spellings_are_those_of_the_real_parsers(version: str, count: int) -> None:
    spellings = set()
    for flag in catalogue_flags(version).values():
        spellings |= {flag.name, *flag.aliases}
        if flag.kind == "bool_optional":
            spellings |= {f"--no-{name[2:]}" for name in (flag.name, *flag.aliases) if name.startswith("--")}
    assert len(spellings) == count


@pytest.mark.parametrize(("name", "history"), HISTORY.items())
def test_the_history_of_an_option_in_words(name: str, history: str) -> None:
    assert render_releases(releases_where(name)) == history


@pytest.mark.parametrize(("name", "first"), CAME_WITH.items())
def test_since_when_there_is_an_option(name: str, first: str) -> None:
    releases = known_releases()
    expected = releases[releases.index(first) : releases.index("0.33.0") + 1]
    assert releases_where(name)[: len(expected)] == expected


def test_releases_that_go_on_in_words() -> None:
    releases = known_releases()
    assert render_releases(releases) == "every release"
    assert render_releases(releases[5:]) == f"{releases[5]} and later"


@pytest.mark.parametrize(
    ("version", "name", "expected"),
    [
        ("0.8.5.post1", "--enforce-eager", {"kind": "store_true"}),
        ("0.9.2", "--enforce-eager", {"kind": "bool_optional"}),
        ("0.7.3", "--enable-chunked-prefill", {"kind": "bool_value"}),
        ("0.19.1", "--gpu-memory-utilization", {"default": 0.9}),
        ("0.22.1", "--gpu-memory-utilization", {"default": 0.92}),
        ("0.4.3", "--block-size", {"choices": (8, 16, 32)}),
        ("0.19.1", "--block-size", {"choices": ()}),
        ("0.32.0", "--tensor-parallel-size", {"aliases": ("-tp",), "type": "int"}),
        ("0.11.2", "--compilation-config", {"aliases": ("-O",)}),
        ("0.12.0", "--compilation-config", {"aliases": ("-cc",), "kind": "json"}),
    ],
)
def test_options_changed_over_time(version: str, name: str, expected: dict[str, object]) -> None:
    flag = catalogue_flags(version)[name]
    assert {key: getattr(flag, key) for key in expected} == expected


def test_an_alias_counts_as_the_option() -> None:
    assert releases_where("-tp") == releases_where("--tensor-parallel-size")


def test_a_value_has_a_history_too() -> None:
    found = releases_where("--kv-cache-dtype", lambda flag: "float16" in (flag.choices or flag.known_values))
    assert found[0] == "0.19.1" and "0.33.0" in found
    assert not releases_where("--kv-cache-dtype", lambda flag: "float32" in (flag.choices or flag.known_values))


@pytest.mark.parametrize("version", ["0.32.0", "0.32.0+cpu", "0.8.5.post1", "0.33.0rc1"])
def test_nothing_is_assumed_of_a_release_that_was_read(version: str) -> None:
    assert note_assumed(version) is None


@pytest.mark.parametrize(
    ("version", "nearest", "other"),
    [
        ("0.8.5", "0.8.5.post1", "0.7.3"),
        ("0.8.4", "0.8.5.post1", "0.7.3"),
        ("0.10.1", "0.10.2", "0.9.2"),
        ("0.21.0", "0.22.1", "0.19.1"),
        ("0.26.0", "0.25.1", "0.27.1"),
    ],
)
def test_between_two_releases_the_nearer_one_counts_and_the_other_where_only_it_has_an_option(
    version: str, nearest: str, other: str
) -> None:
    note = f"the options of vLLM {version} are assumed to be those of {nearest}, or of {other} where only it has one"
    assert note_assumed(version) == note
    near, far, assumed = (catalogue_flags(release) for release in (nearest, other, version))
    assert set(near) <= set(assumed) <= {*near, *far}
    for name, flag in assumed.items():
        values = (*flag.choices, *flag.known_values)
        assert replace(flag, choices=(), known_values=()) == replace(
            near.get(name) or far[name], choices=(), known_values=()
        )
        assert not flag.choices or set(near.get(name, flag).choices) | set(far.get(name, flag).choices) <= set(values)


@pytest.mark.parametrize(
    ("version", "chosen"),
    [(f"{NEXT}.dev12+g0a1b2c3", NEWEST), ("1.0", NEWEST), ("0.1.0", OLDEST), ("main", NEWEST)],
)
def test_at_the_ends_there_is_one_neighbour(version: str, chosen: str) -> None:
    assert (note_assumed(version) or "").endswith(chosen)
    assert dict(catalogue_flags(version)) == dict(catalogue_flags(chosen))


def test_writing_the_catalogue_again_gives_the_same_spans() -> None:
    by_release = {release: dict(catalogue_flags(release)) for release in known_releases()}
    again = make_catalogue(by_release)
    assert again["releases"] == list(known_releases())
    for release, flags in by_release.items():
        index = again["releases"].index(release)
        for name, flag in flags.items():
            (span,) = [span for span in again["flags"][name] if span["from"] <= index <= span.get("to", index)]
            assert {key: value for key, value in span.items() if key not in ("from", "to")} == render_flag(flag)


def test_the_file_is_small() -> None:
    assert len(files("nexus_orch.data").joinpath("vllm_flags.json").read_bytes()) < 300_000
