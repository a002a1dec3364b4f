"""What options that are only passed on say about memory, in every spelling."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_orch.plan.asked.passed import Passed, read_passed
from nexus_orch.types import SpeculativeSpec

MTP = {"method": "mtp", "num_speculative_tokens": 3}


def test_nothing_passed_says_nothing() -> None:
    assert read_passed(()) == Passed()


@pytest.mark.parametrize(
    "words",
    [
        ("--speculative-config", json.dumps(MTP)),
        (f"--speculative-config={json.dumps(MTP)}",),
        ("--speculative_config", json.dumps(MTP)),
        ("--speculative-config.method", "mtp", "--speculative-config.num_speculative_tokens", "3"),
        ("--spec-method", "mtp", "--spec-tokens", "3"),
    ],
)
def test_a_models_own_draft_in_all_spellings(words: tuple[str, ...]) -> None:
    assert read_passed(words).speculative == SpeculativeSpec("mtp", num_speculative_tokens=3)


@pytest.mark.parametrize(
    ("told", "asked"),
    [
        (
            {"model": "a/b", "num_speculative_tokens": 5, "method": "eagle3"},
            SpeculativeSpec("eagle3", "a/b", num_speculative_tokens=5),
        ),
        (
            {"method": "ngram", "num_speculative_tokens": 4, "prompt_lookup_max": 4},
            SpeculativeSpec("ngram", num_speculative_tokens=4),
        ),
        ({"model": "[ngram]", "num_speculative_tokens": 4}, SpeculativeSpec("ngram", num_speculative_tokens=4)),
        ({"model": "a/b", "draft_tensor_parallel_size": 1}, SpeculativeSpec(model="a/b", draft_tensor_parallel=1)),
    ],
)
def test_who_drafts(told: dict[str, object], asked: SpeculativeSpec) -> None:
    assert read_passed(("--speculative-config", json.dumps(told))).speculative == asked


def test_flags_may_be_negated_and_numbers_have_short_names() -> None:
    found = read_passed(("--no-enable-prefix-caching", "--async-scheduling", "-dcp", "8", "-pcp=2"))
    assert found == Passed(caches_prefixes=False, overlaps_batches=True, context_parallel=16)
    assert read_passed(("--enable-prefix-caching", "--max-model-len", "4096")).caches_prefixes is True


@pytest.mark.parametrize(
    ("words", "serves"),
    [
        (("--language-model-only",), False),
        (("--limit-mm-per-prompt", '{"image": 0, "video": 0}'), False),
        (("--limit-mm-per-prompt", "image=0"), False),
        (("--limit-mm-per-prompt={'image': 0}",), False),
        (("--limit-mm-per-prompt", '{"image": 0, "video": 1}'), True),
        (("--limit-mm-per-prompt.image", "0"), False),
        (("--limit-mm-per-prompt", '{"image": 2}'), True),
        ((), True),
    ],
)
def test_images_are_served_unless_none_is_allowed(words: tuple[str, ...], serves: bool) -> None:
    assert read_passed(words).serves_images is serves


@given(st.lists(st.text(max_size=20), max_size=8))
def test_any_words_are_read(words: list[str]) -> None:
    found = read_passed(words)
    assert found.context_parallel >= 1
    assert (found.speculative.num_speculative_tokens or 1) >= 1
