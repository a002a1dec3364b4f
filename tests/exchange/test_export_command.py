"""`nexus export`: files that are run or read for real."""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from nexus_orch.commands.export import FORMATS
from nexus_orch.exchange.deploy.compose import render_compose
from nexus_orch.exchange.deploy.deployment import make_deployment
from nexus_orch.exchange.deploy.shell import render_shell
from nexus_orch.exchange.deploy.systemd import render_systemd
from nexus_orch.facts.engine.installed import make_assumed_engine
from nexus_orch.testing.plans import make_settings_plan
from nexus_orch.types import Command
from tests.exchange.conftest import Told
from tests.exchange.reading import read, start_in
from tests.plugins.plans import render

pytestmark = pytest.mark.slow

Nexus = Callable[..., Told]
PROFILE = ("profile=qwen7b_long_context_on_4090", "engine.version=0.16.0")
BUNDLED = ("model=smollm2_135m", "hardware=cpu")

STAND_IN = f"""#!{sys.executable}
import json, os, sys
print(json.dumps([sys.argv[1:], {{name: os.environ.get(name) for name in ("VLLM_API_KEY", "A_TEXT")}}]))
"""


def planned_argv(nexus: Nexus, *overrides: str) -> list[str]:
    """The arguments that the plan shows, after the launcher."""
    argv: list[str] = yaml.safe_load(nexus("plan", *overrides, "--format", "yaml").out)["argv"]
    return argv[1:]


def run_script(script: Path, folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run an exported script against a stand-in for `vllm` that prints what it was given."""
    (folder / "bin").mkdir(exist_ok=True)
    stand_in = folder / "bin" / "vllm"
    stand_in.write_text(STAND_IN)
    stand_in.chmod(0o755)
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run([script], env={"PATH": path, **env}, capture_output=True, text=True, check=False)


def test_a_shell_script_runs_as_planned(nexus: Nexus, tmp_path: Path) -> None:
    script = tmp_path / "serve.sh"
    text = 'it\'s $HOME 100% "x" `id`'
    more = ("serve.api_key_env=MY_KEY", f"+engine.env.A_TEXT='{text.replace(chr(39), chr(92) + chr(39))}'")
    told = nexus("export", "--as", "shell", "--out", str(script), *PROFILE, *more)
    assert told.rc == 0, told.err
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0
    answer = run_script(script, tmp_path, MY_KEY="sk-1")
    assert answer.returncode == 0, answer.stderr
    argv, env = yaml.safe_load(answer.stdout)
    assert argv == planned_argv(nexus, *PROFILE, *more)
    assert env == {"VLLM_API_KEY": "sk-1", "A_TEXT": text}
    without = run_script(script, tmp_path)
    assert without.returncode != 0
    assert "MY_KEY" in without.stderr


def test_compose_file(nexus: Nexus) -> None:
    told = nexus("export", "--as", "compose", *PROFILE, "serve.api_key_env=MY_KEY", "serve.port=9000")
    [service] = yaml.safe_load(told.out)["services"].values()
    assert service["image"] == "vllm/vllm-openai:v0.16.0"
    assert [*service["entrypoint"], *service["command"]][:3] == ["vllm", "serve", "Qwen/Qwen2.5-7B-Instruct"]
    assert service["ports"] == ["127.0.0.1:9000:9000"]
    assert _after(service["command"], "--host") == "0.0.0.0"
    assert service["environment"]["VLLM_API_KEY"].startswith("${MY_KEY:?")
    [device] = service["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    assert "/health" in service["healthcheck"]["test"][-1]
    assert int(service["healthcheck"]["start_period"].removesuffix("s")) > 300
    assert service["ipc"] == "host"
    assert "~/.cache/huggingface:/hub" in service["volumes"]
    assert service["environment"]["HF_HOME"] == "/hub"


def test_kubernetes_manifest(nexus: Nexus) -> None:
    told = nexus("export", "--as", "kubernetes", *PROFILE, "serve.api_key_env=MY_KEY")
    deployment, service = yaml.safe_load_all(told.out)
    pod = deployment["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert container["command"] == ["vllm", "serve"]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": "1"}
    key = next(entry for entry in container["env"] if entry["name"] == "VLLM_API_KEY")
    assert key["valueFrom"]["secretKeyRef"]["key"] == "MY_KEY"
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    assert container["startupProbe"]["httpGet"] == {"path": "/health", "port": "http"}
    assert container["startupProbe"]["failureThreshold"] * container["startupProbe"]["periodSeconds"] > 300
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"] == labels == deployment["spec"]["selector"]["matchLabels"]


def test_systemd_unit(nexus: Nexus) -> None:
    told = nexus("export", "--as", "systemd", *PROFILE, "serve.api_key_env=MY_KEY")
    unit = configparser.RawConfigParser(strict=True, delimiters=("=",))
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(told.out.replace("\\\n", " "))
    service = unit["Service"]
    assert service["ExecStart"].startswith("/usr/bin/env vllm serve Qwen/Qwen2.5-7B-Instruct ")
    assert service["EnvironmentFile"].startswith("/etc/nexus_orch/")
    assert int(service["TimeoutStartSec"]) > 300
    assert "/health" in service["ExecStartPost"]
    assert unit["X-Nexus"]["ApiKeyVariable"] == "MY_KEY"


@pytest.mark.parametrize("format_name", FORMATS)
@pytest.mark.parametrize("profile", ["qwen32b_on_2x4090", "mixtral8x7b_chat_on_a100", "qwen7b_long_context_on_4090"])
def test_the_import_of_an_export_plans_the_same_command(
    nexus: Nexus, tmp_path: Path, profile: str, format_name: str
) -> None:
    overrides = (f"profile={profile}", "engine.version=0.28.0", "serve.host=0.0.0.0")
    file = tmp_path / f"exported.{format_name}"
    file.write_text(nexus("export", "--as", format_name, *overrides).out)
    hardware = yaml.safe_load(Path(f"conf/profile/{profile}.yaml").read_text())["defaults"][0]["override /hardware"]
    lab = tmp_path / "lab"
    told = nexus("import", "--project", str(lab), "--name", "back", str(file), f"hardware={hardware}")
    assert told.rc == 0, told.err
    wanted = planned_argv(nexus, *overrides)
    assert _options(planned_argv(nexus, "--project", str(lab), "profile=back")) == _options(wanted)


@pytest.mark.parametrize("format_name", FORMATS)
def test_what_does_not_fit_is_exported_by_force_only(nexus: Nexus, format_name: str) -> None:
    overrides = ("model=llama70b", "hardware=rtx4090", "memory=vram_only")
    told = nexus("export", "--as", format_name, *overrides)
    assert told.rc == 3
    assert told.out == ""
    assert "--force" in told.err
    forced = nexus("export", "--as", format_name, "--force", *overrides)
    assert forced.rc == 0
    assert "DOES NOT FIT" in forced.out


def test_what_the_release_cannot_do_is_a_mistake(nexus: Nexus) -> None:
    told = nexus("export", "--as", "shell", "--force", *PROFILE, "memory.swap_gib=4")
    assert told.rc == 2
    assert "memory.swap_gib" in told.err


def test_a_folder_of_this_machine_is_mounted(nexus: Nexus, tmp_path: Path) -> None:
    folder = _model_folder(tmp_path / "my model")
    overrides = ("model=local", f"model.path='{folder}'", "hardware=rtx4090")
    [service] = yaml.safe_load(nexus("export", "--as", "compose", *overrides).out)["services"].values()
    assert service["volumes"][0] | {"read_only": True} == {
        **{"type": "bind", "source": str(folder), "target": "/models/my model", "read_only": True}
    }
    assert service["command"][0] == "/models/my model"
    manifest = next(iter(yaml.safe_load_all(nexus("export", "--as", "kubernetes", *overrides).out)))
    volumes = {volume["name"]: volume for volume in manifest["spec"]["template"]["spec"]["volumes"]}
    assert volumes["model"]["hostPath"]["path"] == str(folder)


def test_old_releases_start_as_a_module(nexus: Nexus) -> None:
    overrides = ("model=opt_125m", "hardware=rtx4090", "engine.version=0.4.3")
    script = nexus("export", "--as", "shell", *overrides).out
    assert "exec python3 -m vllm.entrypoints.openai.api_server \\\n  --model facebook/opt-125m \\\n" in script
    [service] = yaml.safe_load(nexus("export", "--as", "compose", *overrides).out)["services"].values()
    assert service["entrypoint"][-1] == "vllm.entrypoints.openai.api_server"
    assert service["command"][:2] == ["--model", "facebook/opt-125m"]


def test_a_cpu_container_needs_an_image(nexus: Nexus) -> None:
    overrides = ("hardware=cpu", "model=opt_125m")
    assert nexus("export", "--as", "compose", *overrides).rc == 2
    told = nexus("export", "--as", "compose", "--image", "my/vllm-cpu:1", *overrides)
    [service] = yaml.safe_load(told.out)["services"].values()
    assert service["image"] == "my/vllm-cpu:1"
    assert "deploy" not in service


def test_a_file_that_is_there_is_kept(nexus: Nexus, tmp_path: Path) -> None:
    out = tmp_path / "serve.sh"
    out.write_text("mine")
    assert nexus("export", "--as", "shell", "--out", str(out), *PROFILE).rc == 2
    assert out.read_text() == "mine"


def _after(words: Sequence[str], option: str) -> str:
    return words[list(words).index(option) + 1]


def _options(argv: Sequence[str]) -> set[tuple[str, ...]]:
    """The options with their values, in no order: what was an extra argument may stand elsewhere. How the layers are
    grouped for prefetching follows from the workload, which no command tells."""
    groups: list[list[str]] = [[]]
    for word in argv:
        if word.startswith("--"):
            groups.append([])
        groups[-1].append(word)
    follows = ("--offload-group", "--offload-num")
    unsaid = (["--tensor-parallel-size", "1"], ["--pipeline-parallel-size", "1"])  # an import pins what is left out
    return {tuple(group) for group in groups if not group[0].startswith(follows) and group not in unsaid}


def _model_folder(folder: Path) -> Path:
    """A folder that looks like a model: a config and one small weight file."""
    import json
    import struct

    folder.mkdir()
    config: dict[str, Any] = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 256,
        "max_position_embeddings": 2048,
        "torch_dtype": "bfloat16",
    }
    (folder / "config.json").write_text(json.dumps(config))
    header = json.dumps({"w": {"dtype": "BF16", "shape": [8], "data_offsets": [0, 16]}}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(16))
    return folder


def test_the_engine_of_this_machine_finds_its_own_programs() -> None:
    """ninja and its like are called by name: the folder of the interpreter comes before PATH, as in a launch."""
    plan, engine = make_settings_plan({}), make_assumed_engine("0.32.0", cpu=True)
    rendering = render(plan, "0.32.0", cpu=True)
    installed = Command(("/opt/en gine/bin/python", "-m", "vllm", *rendering.argv), path=("/opt/en gine/bin",))
    deployment = make_deployment(plan, rendering, engine, installed)
    assert deployment.launcher == installed.argv[:3]
    assert "export PATH='/opt/en gine/bin':\"$PATH\"\n" in render_shell(deployment)
    text = render_systemd(deployment)
    assert 'Environment="PATH=/opt/en gine/bin:/usr/local/sbin:' in text
    assert "PATH" not in render_compose(deployment)
    start = start_in(text, "x.service")
    assert "PATH" in start.env
    assert "engine.env.PATH" not in read(text, "0.32.0", "x.service").settings


def test_what_is_missing_and_what_comes_next_are_told(nexus: Nexus, tmp_path: Path) -> None:
    target = tmp_path / "my compose.yaml"
    told = nexus("export", "--as", "compose", "--out", str(target), "--image", "mine", *BUNDLED)
    assert told.rc == 0, told.err
    assert "smollm2_135m is not there yet: nexus model fetch smollm2_135m" in told.err
    assert f"start it: docker compose -f '{target}' up -d" in told.err
