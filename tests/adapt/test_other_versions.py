"""Releases between the known ones, newer ones, nightlies, builds and forks: by their own options, with a note."""

from __future__ import annotations

import json
import venv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nexus_orch.adapt.generations import V2
from nexus_orch.cli import main
from nexus_orch.facts.engine.installed import make_assumed_engine
from nexus_orch.testing import find_illegal_words
from tests.engine.sources import write_metadata, write_package
from tests.plugins.plans import plan_of
from tests.releases.ends import NEWEST, NEXT

HYBRID = ["hardware=rtx4090", "model=qwen7b", "memory=hybrid", "memory.cpu_offload_gib=4"]

ASSUMED = {
    "0.5.1": ("v0", "0.5.5, or of 0.4.3 where only it has one"),
    "0.9.1": ("v1", "0.9.2, or of 0.8.5.post1 where only it has one"),
    "0.12.0rc1": ("v1", None),
    "0.21.0": ("v1", "0.22.1, or of 0.19.1 where only it has one"),
    "0.25.1+cu129": ("v2", None),
    "0.26.0.dev123+gabc": ("v2", "0.25.1, or of 0.27.1 where only it has one"),
    NEXT: ("v2", NEWEST),
    "1.0.0": ("v2", NEWEST),
}
"""The adapter of a version that the catalogue lacks, and the release whose options are assumed."""


def plan(capsys: pytest.CaptureFixture[str], *overrides: str) -> dict[str, Any]:
    main(["plan", *overrides, "--format", "json"])
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


@pytest.mark.parametrize("version", ASSUMED)
def test_a_version_that_is_not_in_the_catalogue(version: str, capsys: pytest.CaptureFixture[str]) -> None:
    adapter, assumed = ASSUMED[version]
    document = plan(capsys, *HYBRID, f"engine.version={version}")
    assert (document["engine_version"], document["adapter"]) == (version, adapter)
    notes = make_assumed_engine(version).notes
    expected = () if assumed is None else (f"the options of vLLM {version} are assumed to be those of {assumed}",)
    assert notes == expected


def test_a_nightly_of_a_range_has_its_rules(capsys: pytest.CaptureFixture[str]) -> None:
    nightly = plan(capsys, *HYBRID, "engine.version=0.26.0.dev123+gabc")
    assert nightly["env"]["VLLM_USE_V2_MODEL_RUNNER"] == "0"
    assert "VLLM_USE_V2_MODEL_RUNNER" not in plan(capsys, *HYBRID, "engine.version=0.28.0.dev1")["env"]


@pytest.fixture
def fork(tmp_path: Path) -> Path:
    """The interpreter of an environment whose vLLM has few options, and is newer than all that are known."""
    venv.create(tmp_path / "fork", symlinks=True)
    (site_packages,) = (tmp_path / "fork").glob("lib/python3*/site-packages")
    write_metadata(write_package(site_packages), "vllm", f"{NEXT}.dev7+ourfork")
    return tmp_path / "fork" / "bin" / "python"


def test_what_an_installed_engine_has_wins(fork: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = plan(capsys, "hardware=rtx4090", "model=qwen7b", f"engine.python={fork}")
    words = document["argv"][document["argv"].index("serve") :]
    assert "--gpu-memory-utilization" in words
    assert "--served-model-name" not in words
    dropped = {choice["key"]: choice for choice in document["choices"] if choice["value"] is None}
    assert "it has no --served-model-name" in dropped["model.served_name"]["reason"]
    assert main(["plan", "hardware=rtx4090", "model=qwen7b", f"engine.python={fork}"]) == 0
    assert f"{NEXT}.dev7+ourfork is newer than {NEWEST}" in " ".join(capsys.readouterr().out.split())


def test_what_an_installed_engine_lacks_is_refused_when_pinned(fork: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = ["hardware=rtx4090", "model=qwen7b", f"engine.python={fork}", "memory.kv_cache.max_blocks=100"]
    assert main(["plan", *run]) == 2
    assert "it has no --num-gpu-blocks-override" in " ".join(capsys.readouterr().out.split())


def test_a_fork_whose_version_cannot_be_read_needs_an_adapter(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    venv.create(tmp_path / "own", symlinks=True)
    (site_packages,) = (tmp_path / "own").glob("lib/python3*/site-packages")
    write_metadata(write_package(site_packages), "vllm", "ours-2026")
    run = ["hardware=rtx4090", "model=qwen7b", f"engine.python={tmp_path}/own/bin/python"]
    assert main(["plan", *run]) == 2
    assert "engine.adapter=v2" in capsys.readouterr().err
    document = plan(capsys, *run, "engine.adapter=v2")
    assert (document["fits"], document["adapter"]) == (True, "v2")


def test_an_adapter_alone_takes_an_unreadable_version_for_the_newest() -> None:
    engine = make_assumed_engine("0.33.0")
    rendering = V2.render(plan_of({"memory.cpu_offload_gib": 4.0}), replace(engine, version="ours-2026"))
    assert list(find_illegal_words(rendering.argv, engine)) == []
    assert "VLLM_USE_V2_MODEL_RUNNER" not in rendering.env
