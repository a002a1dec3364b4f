"""The model of a run: a folder, a hub id with or without the cache, a name that was fetched, an inlined config."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nexus_orch.errors import ConfigError, Problem
from nexus_orch.facts.model.hub_cache import find_snapshot, hub_cache_dir
from nexus_orch.facts.model.model import read_model
from nexus_orch.types import ModelSpec
from tests.facts.model.model_files import CONFIG, TENSORS, make_safetensors, write_model, write_shards

HUB_ID = "Org/Small-Model"


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Own home, own cache, and a working directory without models."""
    for name in ("HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "NEXUS_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NEXUS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "user"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


def problems_of(spec: ModelSpec, origins: dict[str, str] | None = None) -> tuple[Problem, ...]:
    with pytest.raises(ConfigError) as caught:
        read_model(spec, origins or {})
    return caught.value.problems


def test_a_folder(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "my-model")
    model = read_model(ModelSpec(path=str(folder)), {})
    assert (model.name, model.path, model.is_local, model.config) == ("my-model", str(folder), True, CONFIG)
    assert (model.config_source, model.has_chat_template) == (str(folder / "config.json"), False)
    assert model.checkpoint is not None
    assert model.checkpoint.total_bytes == 512


@pytest.mark.parametrize("path", ["models/small", "./models/small", "~/models/small"])
def test_a_folder_relative_to_here_or_to_home(tmp_path: Path, path: str) -> None:
    folder = write_model(tmp_path / ("user" if path.startswith("~") else "work") / "models" / "small")
    assert read_model(ModelSpec("mine", path), {}).path == str(folder)


def test_a_byte_order_mark_in_config_json_is_no_harm(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m")
    (folder / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8-sig")
    assert read_model(ModelSpec(path=str(folder)), {}).config == CONFIG


def test_the_folders_config_beats_the_profiles(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m")
    inlined = CONFIG | {"num_hidden_layers": 32}
    model = read_model(ModelSpec(path=str(folder), config=inlined), {})
    assert model.config == CONFIG
    note = f"{folder / 'config.json'} counts, not the profile's config: num_hidden_layers 1, not 32"
    assert model.notes == (note,)
    assert read_model(ModelSpec(path=str(folder), config=CONFIG), {}).notes == ()


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"tokenizer_config.json": '{"chat_template": "{{ messages }}"}'}, True),
        ({"chat_template.jinja": "{{ messages }}"}, True),
        ({"tokenizer_config.json": "{}"}, False),
        ({}, False),
    ],
)
def test_the_chat_template(tmp_path: Path, files: dict[str, str], expected: bool) -> None:
    folder = write_model(tmp_path / "m")
    for name, content in files.items():
        (folder / name).write_text(content, encoding="utf-8")
    assert read_model(ModelSpec(path=str(folder)), {}).has_chat_template is expected


def test_without_a_tokenizer_nobody_knows_the_chat_template(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m")
    (folder / "tokenizer.json").unlink()
    assert read_model(ModelSpec(path=str(folder)), {}).has_chat_template is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is not valid JSON: it is empty"),
        (json.dumps(CONFIG).encode()[:-9], "is not valid JSON: it seems to be cut off in line 1"),
        (b'{"a": 1,, "b": 2}', "in line 1, column 9"),
        (b"\xff\xfe\x00", "is not valid JSON: it is not text"),
        (b"[" * 100_000, "is not valid JSON: it is nested too deeply"),
        (b"[1, 2]", "holds a list, not a JSON object"),
        (b"null", "holds null, not a JSON object"),
        (b"9" * 5000, "is not valid JSON"),
    ],
)
def test_a_broken_config_json(tmp_path: Path, content: bytes, reason: str) -> None:
    folder = write_model(tmp_path / "m")
    (folder / "config.json").write_bytes(content)
    (problem,) = problems_of(ModelSpec(path=str(folder)), {"model.path": "command line"})
    assert problem.message.startswith(str(folder / "config.json"))
    assert reason in problem.message
    assert (problem.key, problem.value, problem.origin) == ("model.path", str(folder), "command line")


def test_all_that_is_wrong_with_a_folder_is_told_at_once(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m")
    (folder / "config.json").write_text("{", encoding="utf-8")
    (folder / "model.safetensors").write_bytes(b"short")
    first, second = problems_of(ModelSpec(path=str(folder)))
    assert "config.json is not valid JSON" in first.message
    assert "model.safetensors is not a whole safetensors file" in second.message
    assert first.key == second.key == "model.path"


def test_a_folder_without_weights_is_planned_and_says_so(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m")
    (folder / "model.safetensors").unlink()
    found = read_model(ModelSpec(path=str(folder)), {})
    (problem,) = found.missing_weights
    assert (problem.cause, problem.key) == ("weights_missing", "model.path")
    assert problem.message == f"{folder} holds no weights (*.safetensors, *.bin or *.gguf)"
    assert any("planned from config.json alone" in note for note in found.notes)


def test_the_quantization_may_stand_in_a_file_beside(tmp_path: Path) -> None:
    """ModelOpt before 0.31 writes hf_quant_config.json."""
    folder = write_model(tmp_path / "m")
    told = {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "NVFP4", "exclude_modules": ["lm_head"]}}
    (folder / "hf_quant_config.json").write_text(json.dumps(told), encoding="utf-8")
    config = read_model(ModelSpec(path=str(folder)), {}).config
    assert config["quantization_config"] == {"quant_method": "modelopt", **told}


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "music").mkdir()
    causes = [problem.cause for problem in problems_of(ModelSpec(path=str(tmp_path / "music")))]
    assert causes == ["model_not_found", "weights_missing"]


def test_a_missing_folder_gets_the_nearest_name(tmp_path: Path) -> None:
    write_model(tmp_path / "models" / "qwen7b")
    (problem,) = problems_of(ModelSpec(path=str(tmp_path / "models" / "qwen7")))
    assert problem.cause == "model_not_found"
    assert problem.remedy is not None
    assert problem.remedy.startswith(f"did you mean {tmp_path / 'models' / 'qwen7b'}?")


@pytest.mark.parametrize("path", ["a/b/c", "/no/such/folder", "~nobody-here/models/x", "x" * 3000, "a\0b", "..", "."])
def test_a_path_that_leads_nowhere_is_a_config_error(path: str) -> None:
    assert all(problem.key == "model.path" for problem in problems_of(ModelSpec(path=path)))


def test_an_inlined_config_is_planned_where_its_folder_is_missing(tmp_path: Path) -> None:
    """As a posted "MiniMax-M2.7 AWQ" with its config: it can be planned, and only a run is refused."""
    model = read_model(ModelSpec(path=str(tmp_path / "MiniMax-M2.7 AWQ"), config=CONFIG), {})
    assert (model.config, model.config_source) == (CONFIG, "profile")
    assert [problem.cause for problem in model.missing_weights] == ["model_not_found"]
    assert "planned from the profile's config alone" in model.notes[0]


def test_a_file_is_not_a_folder(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m")
    (problem,) = problems_of(ModelSpec(path=str(folder / "config.json")))
    assert problem.message.endswith("is a file, not a folder")


@pytest.mark.parametrize("path", [None, ""])
def test_local_without_a_path_asks_for_it(path: str | None) -> None:
    (problem,) = problems_of(ModelSpec("local", path), {"model.path": "conf/model/local.yaml:4"})
    assert problem.message == "the model 'local' has neither a folder nor an inlined config"
    assert problem.remedy == "name the model's folder or hub id: model.path=DIR"
    assert (problem.key, problem.origin) == ("model.path", "conf/model/local.yaml:4")


def test_a_fetched_model_is_found_by_its_name(tmp_path: Path) -> None:
    spec = ModelSpec("smollm2_135m", config=CONFIG)
    before = read_model(spec, {})
    assert (before.path, before.is_local, before.config_source, before.checkpoint) == (None, False, "profile", None)
    folder = write_model(tmp_path / "home" / "models" / "smollm2_135m")
    after = read_model(spec, {})
    assert (after.path, after.is_local, after.name) == (str(folder), True, "smollm2_135m")


def test_a_name_never_leads_out_of_the_folder_of_fetched_models(tmp_path: Path) -> None:
    write_model(tmp_path / "home" / "secret")
    assert not read_model(ModelSpec("../secret", config=CONFIG), {}).is_local


def test_a_hub_id_rests_on_the_inlined_config() -> None:
    model = read_model(ModelSpec("small", HUB_ID, config=CONFIG), {})
    assert (model.path, model.is_local, model.config, model.checkpoint) == (HUB_ID, False, CONFIG, None)
    assert model.has_chat_template is None


@pytest.mark.parametrize("path", [HUB_ID, "gpt2"])
def test_a_hub_id_that_nobody_knows(path: str) -> None:
    (problem,) = problems_of(ModelSpec(path=path))
    assert problem.message == f'"{path}" is neither a folder here nor a model in the Hugging Face cache'
    assert problem.cause == "model_not_found"


def write_cached(cache: Path, revision: str = "abc123", *, is_main: bool = True) -> Path:
    model = cache / "models--Org--Small-Model"
    snapshot = write_model(model / "snapshots" / revision)
    if is_main:
        (model / "refs").mkdir()
        (model / "refs" / "main").write_text(revision, encoding="utf-8")
    return snapshot


def test_a_cached_model_is_read_and_served_from_the_cache(tmp_path: Path) -> None:
    snapshot = write_cached(tmp_path / "hub")
    model = read_model(ModelSpec("small", HUB_ID, config=CONFIG | {"vocab_size": 9}), {})
    assert (model.path, model.is_local, model.config) == (str(snapshot), True, CONFIG)
    assert model.checkpoint is not None
    assert len(model.notes) == 1


@pytest.mark.parametrize("missing", ["model.safetensors", "tokenizer.json"])
def test_a_model_that_is_cached_in_part_is_left_to_vllm(tmp_path: Path, missing: str) -> None:
    (write_cached(tmp_path / "hub") / missing).unlink()
    model = read_model(ModelSpec(path=HUB_ID), {})
    assert (model.path, model.is_local, model.config) == (HUB_ID, False, CONFIG)


def test_shards_that_are_not_cached_yet_are_no_mistake(tmp_path: Path) -> None:
    snapshot = write_cached(tmp_path / "hub")
    write_shards(snapshot, {"a.safetensors": {"x": ("F16", (2,))}, "b.safetensors": {"y": ("F16", (2,))}})
    (snapshot / "b.safetensors").unlink()
    model = read_model(ModelSpec(path=HUB_ID), {})
    assert (model.is_local, model.checkpoint) == (False, None)


def test_a_damaged_file_in_the_cache_is_a_mistake(tmp_path: Path) -> None:
    snapshot = write_cached(tmp_path / "hub")
    (snapshot / "model.safetensors").write_bytes(make_safetensors(TENSORS)[:-5])
    (problem,) = problems_of(ModelSpec(path=HUB_ID))
    assert "is not a whole safetensors file" in problem.message


def test_the_newest_revision_counts_when_none_is_main(tmp_path: Path) -> None:
    snapshot = write_cached(tmp_path / "hub", is_main=False)
    assert find_snapshot(HUB_ID) == snapshot
    assert find_snapshot("Org/Other") is None


def test_the_cache_is_where_the_variables_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hub_cache_dir() == tmp_path / "hub"
    monkeypatch.delenv("HF_HUB_CACHE")
    assert hub_cache_dir() == tmp_path / "user" / ".cache" / "huggingface" / "hub"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert hub_cache_dir() == tmp_path / "xdg" / "huggingface" / "hub"
    monkeypatch.setenv("HF_HOME", "~/hf")
    assert hub_cache_dir() == tmp_path / "user" / "hf" / "hub"
    monkeypatch.setenv("HUGGINGFACE_HUB_CACHE", str(tmp_path / "old"))
    assert hub_cache_dir() == tmp_path / "old"
