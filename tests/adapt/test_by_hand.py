"""vLLM's own options beside our keys: only those that the release has."""

from __future__ import annotations

import re

import pytest

from nexus_orch.adapt.by_hand import name_options
from nexus_orch.facts.options.catalogue import catalogue_flags
from nexus_orch.judge.log.patterns import shipped_patterns
from nexus_orch.judge.log.remedies import render_remedy
from nexus_orch.releases.known import known_releases

REMEDIES = sorted(
    {cause.remedy for cause in shipped_patterns().causes.values()}
    | {entry.remedy for entry in shipped_patterns().signatures if entry.remedy is not None}
)
NAMED = re.compile(r"\((--[a-z][a-z0-9-]+)")
CONTAINERS = {"--gpus", "--ipc", "--shm-size", "--ulimit", "--device", "--pids-limit", "--cap-add"}
FOREIGN = CONTAINERS | {"--gpu-reset", "--address"}
"""Options of container programs and of NVIDIA's tools."""


@pytest.mark.parametrize("release", known_releases())
def test_no_option_is_named_that_the_release_lacks(release: str) -> None:
    flags = catalogue_flags(release)
    aliases = {alias for flag in flags.values() for alias in flag.aliases}
    for remedy in REMEDIES:
        told = name_options(render_remedy(remedy, release), release)
        for flag in NAMED.findall(told):
            assert flag in flags or flag in aliases or flag in FOREIGN, (release, told)


def test_the_option_stands_behind_the_key_with_its_value() -> None:
    told = name_options(
        "set model.max_model_len=10224 or memory.enforce_eager=true, or lower serve.max_num_seqs", "0.16.0"
    )
    assert "model.max_model_len=10224 (--max-model-len 10224)" in told
    assert "memory.enforce_eager=true (--enforce-eager)" in told
    assert told.endswith("serve.max_num_seqs (--max-num-seqs)")


def test_a_key_is_explained_once() -> None:
    assert name_options("lower serve.max_num_seqs, then serve.max_num_seqs again", None).count("--max-num-seqs") == 1


def test_a_setting_that_the_release_lacks_is_told_so() -> None:
    assert "(which vLLM 0.4.3 lacks)" in name_options("use memory.strategy=hybrid", "0.4.3")


@pytest.mark.parametrize("release", ["", "nightly", "0.16.0.dev3+gabc"])
def test_any_text_for_a_release_is_taken(release: str) -> None:
    assert "--max-num-seqs" in name_options("lower serve.max_num_seqs", release)


def test_pieces_for_other_releases_are_left_out() -> None:
    remedy = "name one[[<0.14| by a variable]][[>=0.11| by an option]]"
    assert render_remedy(remedy, "0.10.2") == "name one by a variable"
    assert render_remedy(remedy, "0.16.0") == "name one by an option"
    assert render_remedy(remedy, None) == "name one by a variable by an option"
