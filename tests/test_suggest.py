"""Misspelt names: the nearest is asked for, in one wording, by one module."""

from __future__ import annotations

import ast
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

import nexus_orch
from nexus_orch.suggest import did_you_mean, find_near, suggest, suggest_or_list

NAMES = ("qwen7b", "qwen2_5_coder_32b", "llama8b", "--max-model-len", "--max-num-seqs")


def test_a_letter_too_many_is_asked_for() -> None:
    assert suggest("qwen77b", NAMES) == "did you mean qwen7b?"
    assert suggest_or_list("qwen77b", NAMES) == "did you mean qwen7b?"


def test_capitals_and_underscores_are_no_difference() -> None:
    assert find_near("--Max_Model_Len", NAMES) == ["--max-model-len"]
    assert find_near("LLAMA8B", NAMES) == ["llama8b"]


def test_a_part_of_a_long_name_is_near_where_no_spelling_is() -> None:
    assert find_near("coder", NAMES) == ["qwen2_5_coder_32b"]
    assert find_near("r", NAMES) == []


def test_another_word_is_not_near() -> None:
    assert suggest("mistral", NAMES) == ""
    assert suggest_or_list("mistral", NAMES[:2], "models") == "models: qwen7b, qwen2_5_coder_32b"
    assert suggest_or_list("mistral", ()) == "one of: none"


def test_several_are_told_with_the_most_similar_first() -> None:
    assert suggest("--max-num-len", NAMES, count=2) == "did you mean --max-num-seqs or --max-model-len?"
    assert suggest("plam", ["plan"], before="nexus ") == "did you mean nexus plan?"
    assert did_you_mean(()) == ""


@given(st.lists(st.text(min_size=1), min_size=1), st.data())
def test_a_known_name_is_nearest_to_itself(names: list[str], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(names))
    (nearest,) = find_near(name, names)
    assert nearest.lower().replace("-", "_") == name.lower().replace("-", "_")


def test_no_other_module_has_a_measure_of_its_own() -> None:
    root = Path(nexus_orch.__file__).parent
    measuring = {
        path.relative_to(root).as_posix()
        for path in (*root.rglob("*.py"), *(root.parent / "plugins").glob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute | ast.Name | ast.alias)
        and "get_close_matches" in (getattr(node, "attr", ""), getattr(node, "id", ""), getattr(node, "name", ""))
    }
    assert measuring == {"suggest.py"}
