"""What people type instead of Hydra's grammar: folders, hub ids, any letter in a path, and 32k."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hypothesis import assume, given
from hypothesis import strategies as st

from nexus_orch import shipped
from nexus_orch.compose.run import compose_run
from nexus_orch.compose.shorthand import expand_overrides
from nexus_orch.errors import ConfigError

FOLDERS = (shipped.conf_dir(),)


def _expand(*texts: str) -> tuple[str, ...]:
    return expand_overrides(texts, FOLDERS)


@pytest.mark.parametrize(
    "text",
    [
        "model=qwen7b",
        "model=qwen7b,llama8b",
        "~model",
        "model=",
        "-x",
        "serve.port=9000",
        "model.path=/models/a",
        "x/y=1",
    ],
)
def test_what_hydra_reads_stays_as_it_is(text: str) -> None:
    assert _expand(text) == (text,)


def test_a_hub_id_finds_its_profile() -> None:
    assert _expand("model=Qwen/Qwen2.5-7B-Instruct") == ("model=qwen7b",)
    assert _expand("model=qwen/qwen2.5-7b-instruct,Qwen/Qwen2.5-14B-Instruct") == ("model=qwen7b,qwen14b",)


def test_a_folder_and_an_unknown_hub_id_are_served_as_local_models(tmp_path: Path) -> None:
    assert _expand(f"model={tmp_path}") == ("model=local", f"model.path='{tmp_path}'")
    assert _expand("model=ORG/NAME") == ("model=local", "model.path='ORG/NAME'")
    assert _expand("model=./a,./b") == ("model=local", "model.path='./a','./b'")


def test_a_folder_with_a_comma_is_one_folder(tmp_path: Path) -> None:
    (tmp_path / "a,b").mkdir()
    assert _expand(f"model={tmp_path / 'a,b'}") == ("model=local", f"model.path='{tmp_path / 'a,b'}'")


def test_a_folder_here_needs_no_slash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "qwen7b").mkdir()
    monkeypatch.chdir(tmp_path)
    assert _expand("model=mine") == ("model=local", f"model.path='{tmp_path / 'mine'}'")
    assert _expand("model=.") == ("model=local", f"model.path='{tmp_path}'")
    assert _expand("model=qwen7b") == ("model=qwen7b",), "a profile's name wins"


def test_a_folder_is_planned(tmp_path: Path) -> None:
    folder = tmp_path / "Größe #1 [a=b] (c)"
    spec = compose_run([f"model={folder}", "hardware=rtx4090"])
    assert spec.model.path == str(folder)
    assert spec.name.startswith("Gr")


@given(st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1))
def test_any_text_arrives_as_it_was_typed(text: str) -> None:
    assume("${" not in text)
    parser = OverridesParser.create()
    try:
        parser.parse_overrides([f"model.path={text}"])
        assume(False)  # Hydra's own grammar has a word for it
    except HydraException:
        pass
    (written,) = _expand(f"model.path={text}")
    (override,) = parser.parse_overrides([written])
    assert override.value() == text


@pytest.mark.parametrize(("written", "tokens"), [("32k", 32_000), ("32K", 32_768), ("1.5k", 1_500), ("4096", 4096)])
def test_sizes_are_read_as_vllm_reads_them(written: str, tokens: int) -> None:
    assert compose_run(["model=qwen7b", f"model.max_model_len={written}"]).model.max_model_len == tokens


def test_a_size_in_a_profile_is_read_too(tmp_path: Path) -> None:
    (tmp_path / "conf/serve").mkdir(parents=True)
    (tmp_path / "conf/serve/default.yaml").write_text("max_num_batched_tokens: 8k\n", encoding="utf-8")
    assert compose_run(["model=qwen7b"], project=tmp_path).serve.max_num_batched_tokens == 8_000


@pytest.mark.parametrize("written", ["32kk", "1.5K", "k", "32 tokens"])
def test_what_is_no_size_is_told(written: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose_run(["model=qwen7b", f"model.max_model_len={json.dumps(written)}"])
    (problem,) = caught.value.problems
    assert problem.key == "model.max_model_len" and problem.value == written
