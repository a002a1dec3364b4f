"""The table of patterns itself: complete, consistent, and each signature recognises its own example."""

from __future__ import annotations

import dataclasses
import re
import string
from pathlib import Path
from typing import Any

import pytest

from nexus_orch.data import load
from nexus_orch.judge.log.evidence import Evidence, Match
from nexus_orch.judge.log.important import is_important
from nexus_orch.judge.log.lines import parse_line
from nexus_orch.judge.log.measured import Measured, RankMeasured, measure
from nexus_orch.judge.log.patterns import TIERS, shipped_patterns
from nexus_orch.judge.log.remedies import render_remedy
from nexus_orch.judge.log.signatures import add_evidence
from nexus_orch.types import CAUSES, Stage

TABLE: dict[str, Any] = load("log_patterns.json")
SIGNATURES: dict[str, dict[str, Any]] = {entry["name"]: entry for entry in TABLE["signatures"]}
FILES = {
    "library_attribute": "/opt/lib/site-packages/transformers/x.py",
    "integer_variable": "/opt/lib/site-packages/vllm/envs.py",
    "refused_by_config": "/opt/lib/site-packages/vllm/config/model.py",
    "quantization_layer": "/opt/lib/site-packages/vllm/model_executor/layers/quantization/x.py",
    "attention_layer": "/opt/lib/site-packages/vllm/v1/attention/backends/flash_attn.py",
    "lora_layer": "/opt/lib/site-packages/vllm/lora/models.py",
}
"""For signatures that look at the file of the innermost frame: one that fits."""
BY_STAGE = [(name, stage) for name, entry in SIGNATURES.items() for stage in entry.get("by_stage", {})]


def show(entry: dict[str, Any], stage: Stage = Stage.STARTING, *, is_up: bool = False) -> Evidence:
    """The evidence after the signature's example, below the traceback that it wants."""
    evidence = Evidence()
    above = [f"    tensor.{context}()" for context in entry.get("context", ())[:1]]
    if "file" in entry:
        above.append(f'  File "{FILES[entry["name"]]}", line 3, in f')
    for line in above:
        evidence = add_evidence(evidence, parse_line(line), stage, is_up=is_up)
    return add_evidence(evidence, parse_line(entry["example"]), stage, is_up=is_up)


def first_match(entry: dict[str, Any], evidence: Evidence) -> Match | None:
    """What the signature's example was taken for: a hint is no failure and is kept apart."""
    return next(iter(evidence.hints), None) if entry.get("is_hint") else evidence.best


def test_every_name_stands_once() -> None:
    for kind in ("signatures", "measurements"):
        names = [entry["name"] for entry in TABLE[kind]]
        assert len(names) == len(set(names))


def test_every_cause_has_a_summary_and_a_remedy() -> None:
    assert set(shipped_patterns().causes) == set(CAUSES)
    assert all(cause.summary and cause.remedy for cause in shipped_patterns().causes.values())


def test_every_signature_names_a_cause_a_tier_and_where_it_comes_from() -> None:
    for entry in SIGNATURES.values():
        assert entry["cause"] in CAUSES
        assert set(entry.get("by_stage", {}).values()) <= set(CAUSES)
        assert entry["tier"] in TIERS
        assert entry["source"] and entry["releases"]


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_signature_recognises_its_example(name: str) -> None:
    entry = SIGNATURES[name]
    best = first_match(entry, show(entry))
    assert best is not None
    assert best.name == name
    assert best.cause == entry.get("by_stage", {}).get("starting", entry["cause"])
    assert TIERS[best.rank] == entry["tier"]
    assert best.text == entry["example"].strip()


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_remedy_is_filled_in(name: str) -> None:
    """Every field that a remedy names was found in the example: no brace is left and no value is empty."""
    entry = SIGNATURES[name]
    best = first_match(entry, show(entry))
    assert best is not None
    assert "{" not in best.remedy.replace("{}", "")
    found = shipped_patterns().signatures[list(SIGNATURES).index(name)].pattern
    for _, group, _, _ in string.Formatter().parse(entry.get("remedy", "")):
        if group is not None:
            assert found is not None and group in found.groupindex


@pytest.mark.parametrize(("name", "stage"), BY_STAGE)
def test_a_message_without_purpose_is_judged_by_the_stage(name: str, stage: str) -> None:
    entry = SIGNATURES[name]
    is_up = stage == "ready"
    best = show(entry, Stage.WARMING if is_up else Stage(stage), is_up=is_up).best
    assert best is not None
    assert best.cause == entry["by_stage"][stage]


def test_every_group_of_a_measurement_is_a_field() -> None:
    fields = {entry.name for entry in (*dataclasses.fields(Measured), *dataclasses.fields(RankMeasured))}
    for measurement in shipped_patterns().measurements:
        groups = [re.sub("_(gib|mib|gb)$", "_bytes", group) for group in measurement.pattern.groupindex]
        assert groups
        assert set(groups) <= fields, measurement.name


@pytest.mark.parametrize("entry", TABLE["measurements"], ids=lambda entry: str(entry["name"]))
def test_a_measurement_measures_its_example(entry: dict[str, Any]) -> None:
    measured = measure(Measured(), parse_line(entry["example"]))
    assert measured != Measured()
    assert any(literal in entry["example"] for literal in entry["literals"])
    assert re.search(entry["pattern"], entry["example"])
    assert is_important(entry["example"])


@pytest.mark.parametrize("name", [name for name, entry in SIGNATURES.items() if not entry.get("is_hint")])
def test_an_example_is_never_dropped_in_a_flood(name: str) -> None:
    assert is_important(SIGNATURES[name]["example"])


def test_the_manual_says_what_the_table_says() -> None:
    manual = (Path(__file__).parents[3] / "docs" / "causes.md").read_text(encoding="utf-8")
    for name, text in shipped_patterns().causes.items():
        remedy = render_remedy(text.remedy, None)
        row = f"| `{name}` | {text.summary} | {remedy.replace('|', chr(92) + '|')} |"
        assert row in manual, name
