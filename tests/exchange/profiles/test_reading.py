"""Options in all of vLLM's spellings, and what becomes of them on a release. The commands are our own, in the style of
public documentation and issues."""

from __future__ import annotations

from typing import Any

import pytest

from nexus_orch.errors import ConfigError
from nexus_orch.exchange.profiles.reading import try_start
from nexus_orch.exchange.start import Start
from nexus_orch.facts.options.catalogue import catalogue_flags
from nexus_orch.releases.known import known_releases
from nexus_orch.types.numbers import read_human_number
from tests.exchange.reading import read, reader_of, start_in, told


def settings_of(options: str, version: str = "0.25.1") -> dict[str, Any]:
    """What the options say, without what every command says."""
    imported = read(f"vllm serve org/model {options}", version)
    usual = ("model.path", "model.name", "model.served_name", "serve.host")
    return {key: value for key, value in imported.settings.items() if key not in usual and not _is_one_card(key, value)}


def _is_one_card(key: str, value: object) -> bool:
    """What a command that divides nothing says of its cards."""
    return key in ("serve.tensor_parallel", "serve.pipeline_parallel") and value == 1


@pytest.mark.parametrize(
    ("options", "key", "value"),
    [
        ("--tensor-parallel-size 2", "serve.tensor_parallel", 2),
        ("--tensor_parallel_size=2", "serve.tensor_parallel", 2),
        ("-tp 2", "serve.tensor_parallel", 2),
        ("-tp=2", "serve.tensor_parallel", 2),
        ("--tensor-parallel 2", "serve.tensor_parallel", 2),
        ("-pp 3", "serve.pipeline_parallel", 3),
        ("--max-model-len 32k", "model.max_model_len", 32000),
        ("--max-model-len 32K", "model.max_model_len", 32768),
        ("--max-num-batched-tokens 1.5k", "serve.max_num_batched_tokens", 1500),
        ("--gpu-memory-utilization .9", "memory.gpu_memory_utilization", 0.9),
        ("--enforce-eager", "memory.enforce_eager", True),
        ("--no-enforce-eager", "memory.enforce_eager", False),
        ("--trust_remote_code", "model.trust_remote_code", True),
        ("-q awq", "model.quantization", "awq"),
        ("--kv-cache-dtype fp8", "memory.kv_cache.dtype", "fp8"),
        ("--kv-cache-memory-bytes 2G", "memory.kv_cache.size_gib", 2),
        ("--kv-offloading-size 8", "memory.kv_offload_gib", 8),
        ("--port 9000", "serve.port", 9000),
        ("--max-num-seqs 8 --max-num-seqs 16", "serve.max_num_seqs", 16),
    ],
)
def test_spellings(options: str, key: str, value: object) -> None:
    found = settings_of(options)
    assert found == {key: value}
    assert type(found[key]) is type(value)


@pytest.mark.parametrize(
    "options", ["--max-model-len auto", "--max-model-len -1", "--dtype auto", "--cpu-offload-gb 0"]
)
def test_what_leaves_the_decision_open(options: str) -> None:
    assert settings_of(options) == {}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--seed 7 --enable-chunked-prefill", ["--seed", "7", "--enable-chunked-prefill"]),
        ("--no_enable_chunked_prefill", ["--no-enable-chunked-prefill"]),
        ("-O3", ["-O3"]),
        ("--compilation-config.mode 3", ["--compilation-config.mode", "3"]),
        ("--override_generation_config.top_k=4", ["--override-generation-config.top_k", "4"]),
        ("-cc.mode=3", ["--compilation-config.mode", "3"]),
        ("""--override-generation-config '{"a": 1}'""", ["--override-generation-config", '{"a": 1}']),
        ("-dcp 2", ["--decode-context-parallel-size", "2"]),
        ("--chat-template=-x", ["--chat-template=-x"]),
        ("--generation-conf vllm", ["--generation-config", "vllm"]),
        ("-O 3", ["-O3"]),
        ("-O=3", ["-O3"]),
        ("--compilation-config.custom_ops+ none", ["--compilation-config.custom_ops+", "none"]),
    ],
)
def test_what_is_passed_on(options: str, words: list[str]) -> None:
    assert read(f"vllm serve org/model {options}").extra_args == words


def test_the_model_may_stand_anywhere() -> None:
    for line in ("vllm serve -tp 2 org/model", "vllm serve --model org/model -tp 2", "vllm serve org/model -tp=2"):
        assert read(line).settings["model.path"] == "org/model"


def test_a_known_model_is_its_profile_and_keeps_its_name() -> None:
    imported = read("vllm serve Qwen/Qwen2.5-7B-Instruct")
    assert imported.groups == {"model": "qwen7b", "memory": "vram_only"}
    assert imported.settings == {
        "model.served_name": "Qwen/Qwen2.5-7B-Instruct",
        "serve.host": "0.0.0.0",
        "serve.tensor_parallel": 1,
        "serve.pipeline_parallel": 1,
    }


def test_swap_space_by_generation() -> None:
    line = "vllm serve org/model --swap-space 16"
    assert read(line, "0.6.6.post1").settings["memory.swap_gib"] == 16
    for version in ("0.9.2", "0.16.0", "0.33.0"):
        imported = read(line, version)
        assert "memory.swap_gib" not in imported.settings
        assert "does nothing since the V1 engine" in told(imported, "no effect")
    old_engine = read("VLLM_USE_V1=0 " + line, "0.9.2")
    assert old_engine.settings["memory.swap_gib"] == 16
    assert old_engine.env == {"VLLM_USE_V1": "0"}


def test_options_that_are_no_longer_needed() -> None:
    imported = read("vllm serve org/model --disable-log-requests --device cuda --task generate", "0.30.0")
    assert imported.extra_args == []
    assert all(name in told(imported, "no effect") for name in ("--disable-log-requests", "--device", "--task"))
    old = read("vllm serve org/model --disable-log-requests --task embed", "0.9.2")
    assert old.extra_args == ["--disable-log-requests", "--task", "embed"]


def test_a_variable_that_is_no_longer_read() -> None:
    imported = read("VLLM_USE_V1=0 vllm serve org/model", "0.16.0")
    assert imported.env == {}
    assert "VLLM_USE_V1=0: there is only the V1 engine" in told(imported, "no effect")


def test_offload_alone_means_uva_where_there_is_a_choice() -> None:
    line = "vllm serve org/model --cpu-offload-gb 10"
    assert read(line, "0.25.1").settings["memory.offload_backend"] == "uva"
    assert read(line, "0.25.1").groups["memory"] == "hybrid"
    assert "memory.offload_backend" not in read(line, "0.9.2").settings


def test_groups_of_prefetched_layers_are_left_to_the_planner() -> None:
    line = "vllm serve org/model --offload-backend prefetch --offload-group-size 8 --offload-num-in-group 2"
    imported = read(line, "0.28.0")
    assert imported.settings["memory.offload_backend"] == "prefetch"
    assert "memory.prefetch.group_size" in told(imported, "open")
    assert not any("prefetch." in key for key in imported.settings)


def test_secrets_are_nowhere() -> None:
    secrets = ("sk-topsecret", "hf_alsosecret", "thirdsecret")
    line = f"MY_TOKEN={secrets[2]} vllm serve org/model --api-key {secrets[0]} --hf-token {secrets[1]}"
    imported = read(line)
    assert imported.settings["serve.api_key_env"] == "NEXUS_API_KEY"
    assert not any(secret in repr(imported) for secret in secrets)
    assert "export NEXUS_API_KEY=..." in told(imported, "secret")
    assert "HF_TOKEN" in told(imported, "secret")
    assert "MY_TOKEN" in told(imported, "secret")


@pytest.mark.parametrize("line", ["vllm serve m --api-key $MY_KEY", "VLLM_API_KEY=${MY_KEY} vllm serve m"])
def test_a_key_by_reference_keeps_its_variable(line: str) -> None:
    assert read(line).settings["serve.api_key_env"] == "MY_KEY"


def test_several_keys_and_names() -> None:
    imported = read("vllm serve m --api-key one two --served-model-name a b")
    assert imported.settings["model.served_name"] == "a"
    left = told(imported, "left out")
    assert "1 more API keys" in left
    assert "b: model.served_name" in left
    assert "two" not in repr(imported)


def test_cpu_commands() -> None:
    imported = read("VLLM_CPU_KVCACHE_SPACE=4 vllm serve m --dtype bfloat16", "0.16.0")
    assert imported.groups == {"model": "local", "hardware": "cpu"}
    assert imported.settings["memory.kv_cache.size_gib"] == 4
    assert imported.env == {}


@pytest.mark.parametrize(
    ("options", "version", "message"),
    [
        ("--max-model-lenn 4096", "0.25.1", "did you mean --max-model-len?"),
        ("--guided-decoding-backend outlines", "0.30.0", "0.11.2 and earlier of vLLM have it"),
        ("--max-model-len", "0.25.1", "needs a value"),
        ("--enforce-eager=yes", "0.25.1", "takes no value"),
        ("--max-model-len many", "0.25.1", "takes a whole number such as 32768, 32k or 32K, not many"),
        ("--max-model-len 32k", "0.6.6.post1", "0.8.5.post1 and later of vLLM read 32k"),
        ("--tensor-parallel-size two", "0.25.1", "takes a whole number, not two"),
        ("--gpu-memory-utilization high", "0.25.1", "takes a number, not high"),
        ("--dtype bfloat17", "0.25.1", "did you mean bfloat16?"),
        ("--block-size 20", "0.25.1", "needs a multiple of 16"),
        ("stray", "0.25.1", "the word stray belongs to no option"),
        ("--max-num-seqs $N", "0.25.1", "the value of $N is not in the file"),
    ],
)
def test_mistakes(options: str, version: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(f"vllm serve org/model {options}", version)
    assert message in str(caught.value)
    assert len(caught.value.problems) == 1


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        read("vllm serve --max-model-lenn 1 --dtype bfloat17 --port x")
    assert len(caught.value.problems) == 4


def test_no_model_names_the_default_that_vllm_would_take() -> None:
    with pytest.raises(ConfigError, match=r"names no model; vLLM would serve Qwen/Qwen3-0\.6B"):
        read("vllm serve --port 8000", "0.33.0")


def test_unknown_options_can_be_skipped() -> None:
    start = start_in("vllm serve org/model --nonsense 3 --seed 7")
    imported = try_start(start, reader_of("0.25.1", skips_unknown=True))
    assert imported.problems == []
    assert "--nonsense 3" in told(imported, "left out")
    assert imported.extra_args == ["--seed", "7"]


def test_folders_of_a_container_are_those_of_its_host() -> None:
    line = (
        "docker run --network host -e HF_HOME=/cache/hub -v /data/models:/models -v /big/cache:/cache "
        "vllm/vllm-openai --model /models/a/b --served-model-name x"
    )
    imported = read(line)
    assert imported.settings["model.path"] == "/data/models/a/b"
    assert imported.env == {"HF_HOME": "/big/cache/hub"}


def test_the_usual_cache_needs_no_word() -> None:
    line = "docker run -v $HOME/.cache/huggingface:/home/app/.cache/huggingface vllm/vllm-openai --model org/model"
    assert read(line).env == {}
    other = "docker run -v $PWD/hub:/home/app/.cache/huggingface vllm/vllm-openai --model org/model"
    assert read(other).env == {"HF_HOME": "/srv/here/hub"}


@pytest.mark.parametrize("text", ["", "k", "1x", "1.5K", "--1", "1e3"])
def test_numbers_that_vllm_does_not_read(text: str) -> None:
    with pytest.raises(ValueError, match="takes a whole number"):
        read_human_number(text)


@pytest.mark.parametrize("version", known_releases())
def test_each_option_of_each_release_is_read_or_passed_on(version: str) -> None:
    """No option of any release stops the import or is lost without a word."""
    for flag in catalogue_flags(version).values():
        if flag.name == "--model":
            continue
        needs_value = flag.kind not in ("store_true", "bool_optional", "other")
        value = str(flag.choices[0]) if flag.choices else "true" if flag.kind == "bool_value" else "1"
        words = f"{flag.name} {value}" if needs_value else flag.name
        imported = try_start(start_in(f"vllm serve org/model {words}"), reader_of(version))
        assert not [problem for problem in imported.problems if "no option" in problem.message], words
        usual = {"model.path", "model.name", "model.served_name", "serve.host"}
        is_told = any(flag.name in note.text for note in imported.notes) or flag.name in ("--api-key", "--hf-token")
        is_default = value in ("auto", "1") and flag.name in ("--swap-space",)
        changed = imported.settings.keys() - usual or imported.settings["model.served_name"] == "1"
        at_home = imported.settings["serve.host"] != "0.0.0.0"
        assert is_told or changed or at_home or imported.problems or value == "auto" or is_default, words


def test_of_an_option_that_is_given_again_the_last_counts() -> None:
    imported = read(
        "vllm serve org/m --async-scheduling --seed 1 --no-async-scheduling --seed=2 --api-key a --api-key b"
    )
    assert imported.extra_args == ["--no-async-scheduling", "--seed", "2"]
    changed = [note.text for note in imported.notes if note.kind == "changed"]
    assert [text.partition(" is left out")[0] for text in changed] == ["--async-scheduling", "--seed 1"]


def test_pairs_that_are_none_are_a_mistake_with_their_shape() -> None:
    imported = try_start(Start(("org/m", "--limit-mm-per-prompt", "some")), reader_of("0.6.6.post1"))
    assert imported.problems[0].message.endswith("takes pairs such as image=2,video=0")
