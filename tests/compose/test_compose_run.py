"""Composition over real files: who wins, where values come from, and that nothing is left behind."""

from __future__ import annotations

import logging
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.version import VersionBase

from nexus_orch.compose.run import compose_run
from nexus_orch.compose.values import judge_values
from nexus_orch.errors import ConfigError
from nexus_orch.types import EngineSpec, LimitsSpec, MemorySpec, ProbeSpec, ServeSpec, WorkloadSpec
from tests.compose.conftest import Project

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]


def test_the_shipped_defaults_pin_nothing() -> None:
    spec = compose_run([])
    assert spec.name == "smollm2_135m-auto-auto"
    assert spec.memory == MemorySpec()
    assert spec.serve == ServeSpec()
    assert spec.engine == EngineSpec()
    assert spec.workload == WorkloadSpec()
    assert spec.probe == ProbeSpec()
    assert spec.limits == LimitsSpec()
    assert spec.hardware.gpu.count is None
    assert spec.model.config is not None


def test_every_key_can_be_overridden_without_a_plus(project: Project) -> None:
    spec = project.compose(
        "hardware=cpu",
        "hardware.host.swap_gib=1",
        "model.max_model_len=4096",
        "memory.kv_cache.size_gib=0.5",
        "serve.extra_args=['--seed','7']",
        "engine.python=/opt/engine/bin/python",
        "probe.question='Who, and why?'",
        "limits.attempts=1",
        "name=night",
    )
    assert spec.hardware.gpu.count == 0
    assert spec.hardware.host.swap_gib == 1
    assert spec.model.max_model_len == 4096
    assert spec.memory.kv_cache.size_gib == 0.5
    assert spec.serve.extra_args == ("--seed", "7")
    assert spec.engine.python == "/opt/engine/bin/python"
    assert spec.probe.question == "Who, and why?"
    assert spec.limits.attempts == 1
    assert spec.name == "night"


def test_names_inside_a_mapping_are_added_with_a_plus(project: Project) -> None:
    spec = project.compose("+engine.env.HF_HOME=/cache", "+engine.env.THREADS=2", "model.config={hidden_size: 64}")
    assert spec.engine.env == {"HF_HOME": "/cache", "THREADS": "2"}
    assert spec.model.config is not None
    assert spec.model.config["hidden_size"] == 64


def test_names_that_yaml_takes_for_numbers_become_text(project: Project) -> None:
    project.write("model/mine.yaml", "config: {layers: {0: full, 1: sliding}}")
    assert project.compose("model=mine").model.config == {"layers": {"0": "full", "1": "sliding"}}


@pytest.mark.parametrize("group", ["memory", "engine", "serve", "workload"])
def test_every_shipped_option_is_valid(group: str) -> None:
    files = sorted((REPOSITORY / "conf" / group).glob("*.yaml"))
    shipped_values = [{group: yaml.safe_load(file.read_text())} for file in files]
    assert [judge_values(values, {}) for values in shipped_values] == [[]] * len(files)


@pytest.mark.parametrize("file", sorted((REPOSITORY / "conf/profile").glob("*.yaml")), ids=lambda file: str(file.stem))
def test_every_shipped_profile_composes(file: Path) -> None:
    assert compose_run([f"profile={file.stem}"]).limits.attempts == 3


def test_a_profile_chooses_groups_and_sets_keys() -> None:
    spec = compose_run(["profile=qwen32b_on_2x4090"])
    assert spec.name == "qwen32b-hybrid-rtx4090x2"
    assert spec.model.max_model_len == 8192
    assert spec.serve.tensor_parallel == 2
    assert spec.memory.strategy == "hybrid"
    assert compose_run(["profile=qwen32b_on_2x4090", "memory=vram_only"]).memory.strategy == "vram_only"


class TestPrecedence:
    """Shipped < plugins < project < command line."""

    def test_a_project_file_of_the_same_name_wins(self, project: Project) -> None:
        project.write("memory/hybrid.yaml", "strategy: hybrid", "cpu_offload_gib: 7")
        assert project.compose("memory=hybrid").memory.cpu_offload_gib == 7
        assert project.compose("memory=hybrid", "memory.cpu_offload_gib=8").memory.cpu_offload_gib == 8

    def test_other_groups_stay_as_shipped(self, project: Project) -> None:
        project.write("hardware/mine.yaml", "gpu: {model: GeForce RTX 4090, count: 3}")
        spec = project.compose("hardware=mine", "memory=vram_only")
        assert (spec.hardware.name, spec.hardware.gpu.count, spec.memory.strategy) == ("mine", 3, "vram_only")

    def test_plugins_stand_between(self, project: Project, tmp_path: Path) -> None:
        first, second = tmp_path / "first", tmp_path / "second"
        for folder in (first, second):
            (folder / "memory").mkdir(parents=True)
        (first / "memory/hybrid.yaml").write_text("cpu_offload_gib: 1\n")
        (second / "memory/hybrid.yaml").write_text("cpu_offload_gib: 2\n")
        (second / "memory/extra.yaml").write_text("cpu_offload_gib: 3\n")
        folders = [first, second]
        assert project.compose("memory=hybrid", plugin_conf_dirs=folders).memory.cpu_offload_gib == 1
        assert project.compose("memory=extra", plugin_conf_dirs=folders).memory.cpu_offload_gib == 3
        project.write("memory/hybrid.yaml", "cpu_offload_gib: 9")
        assert project.compose("memory=hybrid", plugin_conf_dirs=folders).memory.cpu_offload_gib == 9

    def test_a_config_of_the_project_replaces_ours(self, project: Project) -> None:
        project.write(
            "config.yaml",
            "defaults:",
            "  - every_key",
            "  - hardware: cpu",
            "  - model: smollm2_135m",
            "  - _self_",
            "  - profile: null",
            "limits: {attempts: 7}",
            "serve: {port: 8001}",
        )
        project.write("profile/other.yaml", "# @package _global_", "serve: {port: 8002}")
        spec = project.compose()
        assert (spec.hardware.gpu.count, spec.limits.attempts, spec.serve.port) == (0, 7, 8001)
        assert project.compose("profile=other").serve.port == 8002
        assert project.compose("profile=other", "serve.port=8003").serve.port == 8003

    def test_profiles_can_build_on_others(self, project: Project) -> None:
        project.write("hardware/lab.yaml", "defaults: [rtx4090x2]", "gpu: {count: 4}")
        gpu = project.compose("hardware=lab").hardware.gpu
        assert (gpu.model, gpu.count) == ("GeForce RTX 4090", 4)

    def test_a_group_of_the_projects_own(self, project: Project) -> None:
        project.write("site/berlin.yaml", "# @package _global_", "serve: {port: 9100}")
        assert project.compose("+site=berlin").serve.port == 9100

    def test_the_environment_names_the_project(self, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
        project.write("memory/mine.yaml", "cpu_offload_gib: 5")
        monkeypatch.setenv("NEXUS_PROJECT", str(project.root))
        assert compose_run(["memory=mine"]).memory.cpu_offload_gib == 5


class TestOrigins:
    """Each value knows the file and line, or the command line."""

    def test_files_lines_and_the_command_line(self, project: Project) -> None:
        project.write("memory/mine.yaml", "# comment", "strategy: hybrid", "", "kv_cache:", "  dtype: fp8")
        spec = project.compose("memory=mine", "workload=chat", "serve.port=9000")
        assert spec.origin("memory.strategy") == "lab/conf/memory/mine.yaml:2"
        assert spec.origin("memory.kv_cache.dtype") == "lab/conf/memory/mine.yaml:5"
        assert spec.origin("workload.concurrency") == "conf/workload/chat.yaml:3"
        assert spec.origin("serve.port") == "command line"
        assert spec.origin("limits.attempts") == f"conf/every_key.yaml:{_line_of('every_key.yaml', 'attempts')}"

    def test_what_is_not_set_has_no_origin(self, project: Project) -> None:
        origins = project.compose("hardware=cpu", "memory.cpu_offload_gib=null").origins
        for key in ("memory.strategy", "memory.cpu_offload_gib", "memory", "memory.kv_cache", "name", "hydra.job.name"):
            assert key not in origins

    def test_the_last_writer_counts(self, project: Project) -> None:
        project.write("memory/base.yaml", "strategy: hybrid", "cpu_offload_gib: 1")
        project.write("memory/mine.yaml", "defaults: [base]", "cpu_offload_gib: 2")
        project.write("profile/mine.yaml", "# @package _global_", "memory:", "  swap_gib: 3")
        spec = project.compose("memory=mine", "profile=mine")
        assert spec.origin("memory.strategy") == "lab/conf/memory/base.yaml:1"
        assert spec.origin("memory.cpu_offload_gib") == "lab/conf/memory/mine.yaml:2"
        assert spec.origin("memory.swap_gib") == "lab/conf/profile/mine.yaml:3"

    def test_mappings_on_the_command_line(self, project: Project) -> None:
        spec = project.compose("memory.kv_cache={dtype: fp8, block_size: 32}", "+engine.env.A=1")
        for key in ("memory.kv_cache.dtype", "memory.kv_cache.block_size", "engine.env.A"):
            assert spec.origin(key) == "command line"

    def test_anchors_and_merges(self, project: Project) -> None:
        project.write("memory/mine.yaml", "kv_cache:", "  dtype: fp8", "  <<: {block_size: 16, dtype: int8}")
        spec = project.compose("memory=mine")
        assert spec.memory.kv_cache.block_size == 16
        assert spec.origin("memory.kv_cache.block_size") == "lab/conf/memory/mine.yaml:3"
        assert spec.memory.kv_cache.dtype == "fp8"
        assert spec.origin("memory.kv_cache.dtype") == "lab/conf/memory/mine.yaml:2"

    def test_files_outside_of_the_current_folder(self, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
        file = project.write("memory/mine.yaml", "strategy: hybrid")
        (project.root / "elsewhere").mkdir()
        monkeypatch.chdir(project.root / "elsewhere")
        assert project.compose("memory=mine").origin("memory.strategy") == f"{file.resolve()}:1"

    def test_the_architecture_as_a_whole(self) -> None:
        spec = compose_run(["model=qwen32b"])
        line = _line_of("model/qwen32b.yaml", "config")
        assert spec.origin("model.config") == f"conf/model/qwen32b.yaml:{line}"


def _line_of(path: str, key: str) -> int:
    lines = (REPOSITORY / "conf" / path).read_text().splitlines()
    return next(number for number, line in enumerate(lines, start=1) if line.strip().startswith(f"{key}:"))


def test_interpolations_see_other_keys_the_environment_and_the_choices(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_PORT", "9300")
    project.write(
        "profile/mine.yaml",
        "# @package _global_",
        "name: ${hydra:runtime.choices.memory}-${serve.port}",
        "serve: {port: '${oc.decode:${oc.env:MY_PORT}}'}",
        "workload: {output_tokens: '${probe.max_tokens}'}",
    )
    spec = project.compose("profile=mine", "memory=hybrid", "probe.max_tokens=99")
    assert (spec.name, spec.serve.port, spec.workload.output_tokens) == ("hybrid-9300", 9300, 99)


class TestNothingIsLeftBehind:
    def test_global_state(self, project: Project) -> None:
        compose_run([])  # what Hydra itself makes when it is used for the first time is not ours to undo
        plugins = list(Plugins.instance().discover(SearchPathPlugin))
        before = (list(sys.argv), dict(os.environ), Path.cwd(), list(logging.getLogger().handlers))
        project.compose("hardware=cpu")
        with pytest.raises(ConfigError):
            project.compose("nonsense=1")
        assert (list(sys.argv), dict(os.environ), Path.cwd(), list(logging.getLogger().handlers)) == before
        assert not GlobalHydra.instance().is_initialized()
        assert not HydraConfig.initialized()
        assert list(Plugins.instance().discover(SearchPathPlugin)) == plugins

    def test_files(self, project: Project, isolated_home: Path) -> None:
        project.compose("hardware=cpu")
        assert [path.name for path in Path.cwd().iterdir()] == ["lab"]
        assert not isolated_home.exists()

    def test_another_hydra_application_goes_on(self, project: Project, tmp_path: Path) -> None:
        other = tmp_path / "other"
        (other / "memory").mkdir(parents=True)
        (other / "config.yaml").write_text("defaults: [{memory: hybrid}]\n")
        (other / "memory/hybrid.yaml").write_text("mine: true\n")
        project.write("memory/hybrid.yaml", "cpu_offload_gib: 7")
        with initialize_config_dir(str(other), version_base="1.2"):
            assert project.compose("memory=hybrid").memory.cpu_offload_gib == 7
            assert compose("config").memory == {"mine": True}
            assert str(VersionBase.instance().getbase()) == "1.2"

    def test_threads_do_not_see_each_others_projects(self, project: Project, tmp_path: Path) -> None:
        project.write("memory/hybrid.yaml", "cpu_offload_gib: 1")
        other = Project(tmp_path / "other")
        other.write("memory/hybrid.yaml", "cpu_offload_gib: 2")
        with ThreadPoolExecutor(2) as pool:
            specs = list(pool.map(lambda each: each.compose("memory=hybrid"), [project, other] * 3))
        assert [spec.memory.cpu_offload_gib for spec in specs] == [1, 2] * 3
