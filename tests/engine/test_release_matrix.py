"""docs/releases.md is what the tool would write today: every eighth model is planned again for every release."""

from __future__ import annotations

import re

import pytest

from nexus_orch.releases.known import known_releases
from tools.release_matrix import FILE, RESULTS, Row, make_row, render_document, rows_of
from tools.shipped_runs import make_run, model_names

pytestmark = pytest.mark.slow

EACH = 8
HELD, OFFLOADED = "## Models that the cards hold", "## The same with weights in host RAM"


def _read_results(document: str) -> dict[tuple[str, str, str], str]:
    """The results of each (section, machine, model), with the reasons in place of their numbers."""
    reasons = dict(re.findall(r"^(\d+)\. (.+)$", document.partition("## Reasons")[2], re.MULTILINE))
    found: dict[tuple[str, str, str], str] = {}
    for section in (HELD, OFFLOADED):
        text = document.partition(section)[2].partition("\n")[2].partition("\n## ")[0]
        for group in re.split(r"^- ", text, flags=re.MULTILINE)[1:]:
            results, *machines = (" ".join(part.split()) for part in group.split("\n    - "))
            told = re.sub(r"\[(\d+)\]", lambda number: f"({reasons[number[1]]})", results)
            for machine, _, models in (part.partition(": ") for part in machines):
                found |= {(section, machine, model): told for model in models.split(", ")}
    return found


def test_the_file_is_up_to_date() -> None:
    sample = model_names()[::EACH]
    now = _read_results(render_document([row for model in sample for row in rows_of(model)]))
    written = _read_results(FILE.read_text(encoding="utf-8"))
    assert {key: written.get(key) for key in now} == now, "run `python -m tools.release_matrix`"
    assert {key for key in written if key[2] in sample} == now.keys()


def test_every_model_and_release_is_in_it() -> None:
    document = FILE.read_text(encoding="utf-8")
    written = _read_results(document)
    assert {model for section, _, model in written if section == HELD} == set(model_names())
    counts = re.findall(r"^\| (\S+) +\|((?: +\d+ \|)+)$", document, re.MULTILINE)
    assert tuple(release for release, _ in counts) == known_releases()
    for _, cells in counts:
        numbers = [int(number) for number in re.findall(r"\d+", cells)]
        assert len(numbers) == len(RESULTS) and sum(numbers) == len(written)


def test_a_cell_has_its_reason() -> None:
    row: Row = make_row(make_run("qwen14b", "rtx4090", "hybrid"))
    cells = dict(zip(known_releases(), row.cells, strict=True))
    assert cells["0.14.1"][0] == "good"
    result, reason = cells["0.28.0"]
    assert result == "good"
    assert reason.startswith("engine.env.PYTORCH_CUDA_ALLOC_CONF = pinned_use_cuda_host_register:True")
    result, reason = cells["0.25.1"]
    assert result == "good"
    assert reason.startswith("engine.env.VLLM_USE_V2_MODEL_RUNNER = 0: the second model runner of the release ignores")
    assert cells["0.4.3"][0] == "refused"
