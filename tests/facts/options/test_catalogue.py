"""The shipped options of 21 releases: complete, consistent with each other, and in words."""

from __future__ import annotations

from importlib.resources import files

import pytest
from packaging.version import Version

from nexus_orch.facts.options.catalogue import (
    catalogue_flags,
    catalogue_releases,
    choose_release,
    make_catalogue,
    release_of,
    releases_where,
    render_releases,
)
from nexus_orch.facts.options.record import render_flag

SPELLINGS = {"0.28.0": 384, "0.30.0": 405, "0.31.0": 420, "0.32.0": 428}
"""How many option strings the real parsers of these releases have, --help aside."""

HISTORY = {
    "--offload-backend": "0.19.1 and later",
    "--offload-prefetch-step": "0.19.1 and later",
    "--swap-space": "0.16.0 and earlier",
    "--calculate-kv-scales": "0.7.3 to 0.27.1",
    "--kv-offloading-size": "0.11.2 and later",
    "--kv-cache-memory-bytes": "0.10.2 and later",
    "--cuda-graph-sizes": "0.9.2 to 0.12.0",
    "--device": "0.9.2 and earlier",
    "--cpu-offload-gb": "0.5.5 and later",
    "--max-model-len": "every release",
    "--no-such-option": "no release",
}


def test_the_releases_are_in_order() -> None:
    releases = catalogue_releases()
    assert len(releases) == 21
    assert (releases[0], releases[-1]) == ("0.4.3", "0.33.0")
    assert list(releases) == sorted(releases, key=Version)


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
    assert render_releases(found) == "0.19.1 and later"
    assert not releases_where("--kv-cache-dtype", lambda flag: "float32" in (flag.choices or flag.known_values))


@pytest.mark.parametrize(
    ("version", "chosen", "has_note"),
    [
        ("0.32.0", "0.32.0", False),
        ("0.32.0+cpu", "0.32.0", False),
        ("0.8.5.post1", "0.8.5.post1", False),
        ("0.8.5", "0.8.5.post1", True),
        ("0.8.4", "0.7.3", True),
        ("0.26.0", "0.25.1", True),
        ("0.33.1.dev12+g0a1b2c3", "0.33.0", True),
        ("0.33.0rc1", "0.33.0", False),
        ("1.0", "0.33.0", True),
        ("0.1.0", "0.4.3", True),
        ("main", "0.33.0", True),
    ],
)
def test_the_nearest_release_that_is_not_newer(version: str, chosen: str, has_note: bool) -> None:
    release = choose_release(version)
    assert (release.version, release.note is not None) == (chosen, has_note)
    assert dict(catalogue_flags(version)) == dict(catalogue_flags(chosen))


def test_release_of_a_build() -> None:
    assert [str(release_of(text)) for text in ("0.9.2+cu128", "0.9.2rc1.dev3", "0.8.5.post1")] == [
        "0.9.2",
        "0.9.2",
        "0.8.5.post1",
    ]


def test_writing_the_catalogue_again_gives_the_same_spans() -> None:
    by_release = {release: dict(catalogue_flags(release)) for release in catalogue_releases()}
    again = make_catalogue(by_release)
    assert again["releases"] == list(catalogue_releases())
    for release, flags in by_release.items():
        index = again["releases"].index(release)
        for name, flag in flags.items():
            (span,) = [span for span in again["flags"][name] if span["from"] <= index <= span["to"]]
            assert {key: value for key, value in span.items() if key not in ("from", "to")} == render_flag(flag)


def test_the_file_is_small() -> None:
    assert len(files("nexus_orch.data").joinpath("vllm_flags.json").read_bytes()) < 300_000
