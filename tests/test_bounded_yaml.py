"""YAML whose anchors multiply is refused at once with one line, by every reader of files that others write."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from nexus_orch.bounded_yaml import MOST_VALUES, check_yaml, load_all_yaml, load_yaml
from nexus_orch.cli import main
from nexus_orch.facts.profiles import read_profiles


def bomb(levels: int = 30, first: str = "a0: &a0 [x, x, x, x, x, x, x, x]") -> str:
    """Each level holds the one before it eight times."""
    return "\n".join([first, *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 8)}]" for i in range(1, levels))]) + "\n"


def test_anchors_that_multiply_are_an_error_with_a_line() -> None:
    with pytest.raises(yaml.MarkedYAMLError, match=f"multiply to more than {MOST_VALUES:,} values") as caught:
        load_yaml(bomb())
    assert caught.value.problem_mark is not None
    assert caught.value.problem_mark.line == 5
    with pytest.raises(yaml.MarkedYAMLError):
        load_all_yaml("a: 1\n---\n" + bomb())


def test_keys_that_are_merged_multiply_too() -> None:
    merged = "a0: &a0 {k: v}\n" + "".join(f"a{i}: &a{i} {{l: *a{i - 1}, m: *a{i - 1}}}\n" for i in range(1, 40))
    with pytest.raises(yaml.MarkedYAMLError, match="multiply"):
        load_yaml(merged)


def test_an_anchor_within_itself_is_an_error() -> None:
    with pytest.raises(yaml.MarkedYAMLError, match="contains itself"):
        load_yaml("a: &a [1, *a]")


def test_usual_anchors_are_read() -> None:
    text = "base: &base {a: 1, b: [2, 3]}\nother:\n  <<: *base\n  c: '*&'\n"
    assert load_yaml(text) == yaml.safe_load(text)


@given(st.recursive(st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_a_text_without_a_bomb_is_read_as_yaml_reads_it(value: object) -> None:
    text = yaml.safe_dump([value, value])
    assert load_yaml(text) == yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


@pytest.mark.parametrize("place", ["model/bomb.yaml", "profile/bomb.yaml", "config.yaml"])
def test_a_plan_names_the_profile(place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "conf" / place
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"defaults: [_self_]\n{bomb()}" if place == "config.yaml" else bomb(), encoding="utf-8")
    group = file.parent.name
    chosen = [f"{group}=bomb"] if group != "conf" else []
    assert main(["plan", "--project", str(tmp_path), "hardware=rtx4090", *chosen]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "multiply to more than" in told
    assert file.name in told


def test_an_import_names_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "compose.yaml"
    file.write_text("services:\n  a: {image: vllm/vllm-openai}\n" + bomb(), encoding="utf-8")
    assert main(["import", str(file)]) == 2
    assert "multiply to more than" in " ".join(capsys.readouterr().err.split())


def test_profiles_that_multiply_are_left_out_of_the_lists(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "bomb.yaml").write_text(bomb(), encoding="utf-8")
    assert read_profiles([tmp_path], "model") == {}
    check_yaml("a: 1")
