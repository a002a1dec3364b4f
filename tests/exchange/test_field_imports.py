"""Commands and files of the field (tests/data/field/imports) become what their index says."""

from __future__ import annotations

import pytest

from bench.field.imports import Case, answer, find_wrong, read_cases

CASES = {case.shows: case for case in read_cases()}


@pytest.mark.parametrize("shows", CASES)
def test_an_input_of_the_field_becomes_what_its_index_says(shows: str) -> None:
    assert find_wrong(CASES[shows], answer(CASES[shows])) == []


def test_a_wrong_answer_is_noticed() -> None:
    case = CASES["a condition that can be answered"]
    wrong = Case(case.words, "", {"memory.kv_cache.dtype": "auto"}, "qwen7b", ("--seed",), (), ("nonsense",), None)
    found = answer(wrong)
    assert len(find_wrong(wrong, found)) == 4
    assert find_wrong(Case(case.words, "", {}, None, (), (), (), "nonsense"), found) == ["not refused with: nonsense"]
