"""`nexus engine flags`: the options of whatever the user names, and a clear word when there is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nexus_orch.cli import main
from nexus_orch.commands.engine_flags import parse_release
from nexus_orch.facts.options.catalogue import catalogue_flags
from tests.engine.sources import write_metadata, write_package
from tests.releases.ends import NEWEST, NEXT, OLDEST


def _flags(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["engine", "flags", *arguments, "--format", "json"]) == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return told


@pytest.mark.parametrize(
    ("which", "version", "notes"),
    [
        ("0.25.1", "0.25.1", 0),
        ("v0.25.1", "0.25.1", 0),
        ("0.25", "0.25.1", 0),
        ("0.26.0", "0.26.0", 1),
        ("0.99", "0.99", 1),
        (f"{NEXT}.dev7+gabc", f"{NEXT}.dev7+gabc", 1),
        ("0.25.1+cu128", "0.25.1+cu128", 0),
    ],
)
def test_a_release_that_is_not_installed(
    which: str, version: str, notes: int, capsys: pytest.CaptureFixture[str]
) -> None:
    told = _flags([which], capsys)
    assert (told["version"], told["source"], len(told["notes"])) == (version, "catalogue", notes)
    assert "--max-model-len" in told["flags"]


def test_an_installed_package_with_what_is_special_about_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_package(tmp_path)
    write_metadata(root, "vllm-turbo", "0.32.0")
    told = _flags([str(root), "--grep", "QUIET"], capsys)
    assert list(told["flags"]) == ["--quiet"]
    assert "not vLLM's own build" in told["notes"][0]


def test_sources_that_are_broken_are_named_with_the_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_package(tmp_path, {"config/kinds.py": "import enum\n\nx = = 1\n"})
    write_metadata(root, "vllm", "0.30.0")
    told = _flags([str(root)], capsys)  # no interpreter beside it that could say whether it is broken for all
    assert f"{root}/config/kinds.py, line 3" in told["notes"][0]
    assert "those of vLLM 0.30.0 are assumed" in told["notes"][0]


@pytest.mark.parametrize("which", ["nightly", "0.x", "", "cpu", "cpu-0.32.0"])
def test_no_such_engine(which: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["engine", "flags", which]) == 2
    told = capsys.readouterr().err
    assert f"unknown engine '{which}'" in told
    assert f"a release ({OLDEST} to {NEWEST}" in told


def test_the_nearest_release_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["engine", "flags", "0.25.1x"]) == 2
    assert "such as 0.25.1)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "release"),
    [("0.25", "0.25"), ("V0.9.2", "0.9.2"), ("0.33.0rc1", "0.33.0rc1"), ("cpu", None), ("0.x", None), ("", None)],
)
def test_what_counts_as_a_release(text: str, release: str | None) -> None:
    assert parse_release(text) == release


def test_names_are_never_cut(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["engine", "flags", "0.25.1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = {line.split()[0] for line in lines if line.startswith("--")}
    assert names == catalogue_flags("0.25.1").keys()
    assert max(map(len, lines)) <= 80


def test_an_option_that_other_releases_have_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["engine", "flags", "0.25.1", "--grep", "swap"]) == 0
    told = capsys.readouterr().out
    assert "0 options with 'swap'" in told
    assert "not in this one: --swap-space (0.16.0 and earlier)" in told
