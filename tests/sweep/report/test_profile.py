"""The pick of a sweep as a profile: it composes to the same run, carries its evidence, and is told when that is old."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import yaml

from nexus_orch.compose.run import compose_run
from nexus_orch.plan.answer.evidence import describe_cards, evidence_notes
from nexus_orch.sweep.report.profile import render_difference, render_profile
from nexus_orch.types import EvidenceSpec
from tests.plan.cases import make_facts, make_gpu

OVERRIDES = ("hardware=rtx4090x2", "model=qwen14b", "memory=hybrid", "serve.max_num_seqs=16", "sweep.launches=9")
PICK = ("memory.cpu_offload_gib=4", "serve.max_num_seqs=64", "memory.kv_cache.dtype=fp8")
EVIDENCE = EvidenceSpec(
    engine_version="0.32.0",
    driver="580.1",
    cards="1 x NVIDIA GeForce RTX 4090",
    date="2026-12-01",
    tokens_per_second=705.0,
    concurrency=16,
    first_token_seconds=0.41,
    starts=3,
    soaked_requests=1240,
    failure_bound=0.0024,
)


def test_the_profile_composes_to_the_run_that_was_picked(tmp_path: Path) -> None:
    folder = tmp_path / "conf" / "profile"
    folder.mkdir(parents=True)
    text = render_profile((*OVERRIDES, *PICK), EVIDENCE, ["the pick of a sweep"])
    (folder / "stable.yaml").write_text(text, encoding="utf-8")
    by_profile = compose_run(["profile=stable"], project=tmp_path)
    by_hand = compose_run([x for x in (*OVERRIDES, *PICK) if not x.startswith("sweep.")])
    assert by_profile.evidence == EVIDENCE
    assert replace(by_profile, evidence=by_hand.evidence, origins={}) == replace(by_hand, origins={})


def test_how_it_was_swept_is_no_part_of_it() -> None:
    text = render_profile((*OVERRIDES, "hydra/sweeper=nexus", "probe.then=stop", "+plugin.level=2"), EVIDENCE, [])
    found = yaml.safe_load(text)
    assert "sweep" not in found and "probe" not in found and "hydra" not in text
    assert found["plugin"] == {"level": 2}
    assert found["serve"] == {"max_num_seqs": 16}


def test_the_difference_is_shown_before_it_is_written() -> None:
    before = render_profile(PICK, EVIDENCE, [])
    after = render_profile(PICK, replace(EVIDENCE, tokens_per_second=800.0), [])
    told = render_difference(before, after, "stable.yaml")
    assert "-  tokens_per_second: 705.0" in told and "+  tokens_per_second: 800.0" in told
    assert render_difference(before, before, "stable.yaml") == ""


def test_a_plan_says_what_was_measured_and_when_that_was_another_case() -> None:
    facts = make_facts("Qwen/Qwen3-8B", make_gpu())
    here = replace(EVIDENCE, engine_version=facts.engine.version, driver=None, cards=describe_cards(facts.machine.gpus))
    (told,) = evidence_notes(here, facts)
    assert told.startswith("measured on 2026-12-01: 705 output tokens/s of 16 requests at once")
    assert "1,240 requests soaked without a failure, fewer than 0.24 % fail" in told
    _, old = evidence_notes(replace(here, engine_version="0.1.0"), facts)
    assert f"vLLM was 0.1.0 and is {facts.engine.version}" in old and "nexus-run -m" in old
    assert list(evidence_notes(EvidenceSpec(), facts)) == []
