"""The recipe "a new release of vLLM" of docs/adapters.md, followed on a made release: the newest with an option under
another name and one that is gone."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from nexus_orch.facts.engine.architectures import catalogue_architectures
from nexus_orch.facts.options.catalogue import catalogue_flags
from tests.releases.ends import NEWEST, NEXT
from tests.releases.tree import write_tree

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("nexus_orch", "conf", "plugins", "tools", "tests", "docs", "examples", "pyproject.toml")
OLD, NEW = "--kv-offloading-size", "--kv-offload-size"
GONE, GONE_KEY = "--num-gpu-blocks-override", "memory.kv_cache.max_blocks"
ON_H200 = ("model=qwen7b", "hardware=h200")


@dataclass(frozen=True)
class Checkout:
    """A copy of the repository, in which a recipe can be followed."""

    root: Path

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Python in the copy, whose modules are the copy's own."""
        env = {**os.environ, "PYTHONPATH": str(self.root), "PYTEST_ADDOPTS": "-p no:cacheprovider"}
        return subprocess.run(
            [sys.executable, *arguments], cwd=self.root, env=env, capture_output=True, text=True, check=False
        )

    def nexus(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run("-c", "import sys; from nexus_orch.cli import main; sys.exit(main(sys.argv[1:]))", *arguments)

    def plan(self, *overrides: str) -> dict[str, Any]:
        """A plan for the newest release, as JSON."""
        document: dict[str, Any] = json.loads(self.nexus("plan", *ON_H200, *overrides, "--format", "json").stdout)
        return document

    def insert(self, file: str, before: str, text: str) -> None:
        """Put text in front of a place that is there once."""
        path = self.root / file
        content = path.read_text(encoding="utf-8")
        assert content.count(before) == 1
        path.write_text(content.replace(before, text + before), encoding="utf-8")


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(
                ROOT / part, tmp_path / "copy" / part, ignore=shutil.ignore_patterns("__pycache__", "*.egg*")
            )
        else:
            shutil.copy(ROOT / part, tmp_path / "copy" / part)
    return Checkout(tmp_path / "copy")


def _commands() -> list[list[str]]:
    """The commands of the recipe, without `python`."""
    section = (ROOT / "docs" / "adapters.md").read_text(encoding="utf-8").split("## A new release of vLLM")[1]
    found = re.findall(r"`python ([^`]+)`", section.split("\n## ")[0])
    return [" ".join(command.split()).split() for command in found]


def _write_newest(folder: Path, release: str) -> Path:
    return write_tree(folder, release, catalogue_flags(NEWEST), catalogue_architectures(NEWEST))


def _write_next(folder: Path) -> Path:
    flags = dict(catalogue_flags(NEWEST))
    flags[NEW] = replace(flags.pop(OLD), name=NEW)
    del flags[GONE]
    return write_tree(folder, NEXT, flags, catalogue_architectures(NEWEST))


def _read_data(checkout: Checkout) -> list[bytes]:
    return [
        (checkout.root / "nexus_orch" / "data" / f"vllm_{name}.json").read_bytes()
        for name in ("flags", "architectures")
    ]


def test_the_newest_release_again_changes_nothing(checkout: Checkout, tmp_path: Path) -> None:
    before = _read_data(checkout)
    done = checkout.run("-m", "tools.add_release", str(_write_newest(tmp_path, NEWEST)))
    assert done.returncode == 0, done.stderr
    assert _read_data(checkout) == before


def test_what_stays_keeps_its_line(checkout: Checkout, tmp_path: Path) -> None:
    before = [data.decode().splitlines() for data in _read_data(checkout)]
    assert checkout.run("-m", "tools.add_release", str(_write_next(tmp_path))).returncode == 0
    for old, data in zip(before, _read_data(checkout), strict=True):
        new = data.decode().splitlines()
        changed = {line.split(":")[0].strip(' "') for line in {*new} ^ {*old}}
        assert changed <= {f"{NEWEST}", f'{NEWEST}",', NEXT, OLD, NEW, GONE}


def test_the_recipe_of_a_release(checkout: Checkout, tmp_path: Path) -> None:
    add, find_lost, *others = _commands()
    assert [command[1] for command in (add, find_lost)] == ["tools.add_release", "pytest"]
    tree = str(_write_next(tmp_path))
    done = checkout.run(*(tree if word == "TREE" else word for word in add))
    assert done.returncode == 0, done.stderr
    assert f"new: {NEW}\ngone: {OLD} {GONE}\n" in done.stdout
    _is_told_what_is_lost(checkout, find_lost)
    _mend(checkout)
    for command in (find_lost, *others):
        done = checkout.run(*command)
        assert done.returncode == 0, (command, done.stdout[-2000:], done.stderr[-2000:])
    _is_as_it_was(checkout)


def _is_told_what_is_lost(checkout: Checkout, find_lost: Sequence[str]) -> None:
    """Before anything is mended: the check fails, and plans are made and tell it."""
    done = checkout.run(*find_lost)
    assert done.returncode == 1
    assert f"memory.kv_offload_gib is lost: vLLM {NEXT} has no {OLD}" in done.stdout
    assert f"{GONE_KEY} is lost: vLLM {NEXT} has no {GONE}" in done.stdout
    for command in ("plan", "engine check"):
        told = checkout.nexus(*command.split(), *ON_H200)
        text = " ".join(told.stdout.split())
        assert told.returncode == 0 and f"memory.kv_offload_gib is lost: vLLM {NEXT} has no {OLD}" in text
        assert f"perhaps it is {NEW} now" in text and f"{GONE_KEY} is lost" in text


def _mend(checkout: Checkout) -> None:
    """What the recipe asks for: a new name is an entry, an option that is gone is refused with a reason."""
    fact = f'Fact("the size of KV offload is {NEW}", since="{NEXT}", source="config/cache.py")'
    options = "nexus_orch/releases/options.py"
    checkout.insert(options, '}\n"""Options that mean the same', f'    ("{OLD}", "{NEW}"): {fact},\n')
    way = f'Way(releases=">={NEXT}", refused="blocks are counted by vLLM alone", instead="leave it out"), '
    checkout.insert("nexus_orch/adapt/settings.py", f'Way("{GONE}"),', way)


def _is_as_it_was(checkout: Checkout) -> None:
    """Every shipped profile is told the same under the new name; what is gone is refused with the reason."""
    planned = checkout.plan("memory=hybrid", "memory.kv_offload_gib=4")
    assert planned["argv"][planned["argv"].index(NEW) + 1] == "4"
    assert "is lost" not in checkout.nexus("plan", *ON_H200).stdout
    refused = checkout.nexus("plan", *ON_H200, f"{GONE_KEY}=100")
    assert refused.returncode == 2 and "blocks are counted by vLLM alone" in " ".join(refused.stdout.split())
    imported = checkout.nexus("import", "--release", NEXT, "--", "vllm", "serve", "org/m", NEW, "4")
    assert "kv_offload_gib: 4" in imported.stdout
    by_hand = checkout.nexus("plan", *ON_H200, f'serve.extra_args=["{OLD}","4"]')
    assert f"use {NEW}" in " ".join(by_hand.stdout.split())
    golden = [
        (checkout.root / f"tests/adapt/golden/vllm-{release}.txt").read_text("utf-8") for release in (NEWEST, NEXT)
    ]
    assert golden[0].replace(OLD, NEW).replace(NEWEST, NEXT) == golden[1]
    rows = (checkout.root / "docs" / "releases.md").read_text(encoding="utf-8")
    counts = [re.search(rf"^\| {re.escape(release)} +\|(.*)$", rows, re.MULTILINE) for release in (NEWEST, NEXT)]
    assert counts[0] is not None and counts[1] is not None and counts[0][1] == counts[1][1]
