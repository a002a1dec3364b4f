"""Every mistake a user can make is told with key, value, origin and remedy; several are told at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra.types import RunMode

from nexus_orch.compose.loader import opened_loader
from nexus_orch.compose.overrides import check_overrides
from nexus_orch.compose.search_path import SearchPath
from nexus_orch.errors import ExitCode, Problem
from nexus_orch.shipped import conf_dir
from tests.compose.conftest import Project

HERE = "command line"


class TestOverrides:
    """Mistakes of the command line, found before Hydra composes."""

    @pytest.mark.parametrize(
        ("override", "expected"),
        [
            ("serve.prot=1", Problem("unknown key serve.prot", "serve.prot", "1", HERE, "did you mean serve.port?")),
            ("+serve.prot=1", Problem("unknown key serve.prot", "serve.prot", "1", HERE, "did you mean serve.port?")),
            ("++serve.prot=1", Problem("unknown key serve.prot", "serve.prot", "1", HERE, "did you mean serve.port?")),
            ("~serve.prot", Problem("unknown key serve.prot", "serve.prot", None, HERE, "did you mean serve.port?")),
            (
                "max_model_len=9",
                Problem("unknown key max_model_len", "max_model_len", "9", HERE, "did you mean model.max_model_len?"),
            ),
            ("a.b=1", Problem("unknown key a.b", "a.b", "1", HERE, "`nexus-run --cfg job` shows every key")),
            ("hardwar=cpu", Problem("unknown group hardwar", "hardwar", "cpu", HERE, "did you mean hardware?")),
            (
                "hydra/swepper=basic",
                Problem("unknown group hydra/swepper", "hydra/swepper", "basic", HERE, "did you mean hydra/sweeper?"),
            ),
            (
                "xyz=1",
                Problem(
                    "unknown group or key xyz",
                    "xyz",
                    "1",
                    HERE,
                    "groups: engine, hardware, memory, model, profile, serve, workload",
                ),
            ),
            (
                "memory=hybird",
                Problem(
                    "unknown option of the group memory",
                    "memory",
                    "hybird",
                    HERE,
                    "did you mean hybrid? options: auto, hybrid, vram_only",
                ),
            ),
            (
                "memory=7",
                Problem("unknown option of the group memory", "memory", "7", HERE, "options: auto, hybrid, vram_only"),
            ),
            (
                "memory=[auto,hybird]",
                Problem(
                    "unknown option of the group memory",
                    "memory",
                    "hybird",
                    HERE,
                    "did you mean hybrid? options: auto, hybrid, vram_only",
                ),
            ),
            (
                "hydra/sweeper=optuna",
                Problem(
                    "unknown option of the group hydra/sweeper",
                    "hydra/sweeper",
                    "optuna",
                    HERE,
                    "options: basic, nexus; others come with packages of their own, such as hydra-optuna-sweeper",
                ),
            ),
            (
                "memory=null",
                Problem(
                    "memory cannot be null",
                    "memory",
                    "null",
                    HERE,
                    "leave the group out with ~memory, or choose: auto, hybrid, vram_only",
                ),
            ),
            (
                "hybrid",
                Problem(
                    "an override without a value: hybrid",
                    "hybrid",
                    None,
                    HERE,
                    "write KEY=VALUE or GROUP=NAME, and quote what holds spaces, commas or brackets: KEY=\"'a, b'\"",
                ),
            ),
            (
                "serve.extra_args=[--seed",
                Problem(
                    "cannot read this override: no viable alternative at input '[--seed'",
                    "serve.extra_args",
                    "[--seed",
                    HERE,
                    "write KEY=VALUE or GROUP=NAME, and quote what holds spaces, commas or brackets: KEY=\"'a, b'\"",
                ),
            ),
            (
                "model.max_model_len=2048,4096",
                Problem(
                    "several values, but this is no sweep",
                    "model.max_model_len",
                    "2048,4096",
                    HERE,
                    "add -m to run one job for each value (nexus-run -m ...), write model.max_model_len=[2048,4096] "
                    "for a list, or quote it: model.max_model_len=\"'2048,4096'\"",
                ),
            ),
            (
                "model.max_model_len=range(1,5)",
                Problem(
                    "several values, but this is no sweep",
                    "model.max_model_len",
                    "range(1,5)",
                    HERE,
                    "add -m to run one job for each value (nexus-run -m ...), write model.max_model_len=[range(1,5)] "
                    "for a list, or quote it: model.max_model_len=\"'range(1,5)'\"",
                ),
            ),
        ],
    )
    def test_a_bad_override(self, override: str, expected: Problem) -> None:
        with opened_loader(SearchPath(conf_dir())) as loader:
            assert check_overrides([override], loader, "config", RunMode.RUN) == ([], [expected])

    def test_many_options_are_not_listed_beside_the_nearest_ones(self, project: Project) -> None:
        remedy = project.problem("model=qwen32c").remedy or ""
        assert remedy.startswith("did you mean qwen32b or ")
        assert "codellama34b" not in remedy
        assert "nexus-run --help" in remedy

    def test_options_of_the_project_are_offered_too(self, project: Project) -> None:
        project.write("memory/hybrid_lab.yaml", "strategy: hybrid")
        remedy = project.problem("memory=hybrid_lap").remedy
        assert remedy == "did you mean hybrid_lab or hybrid? options: auto, hybrid, hybrid_lab, vram_only"

    def test_options_found_through_hydras_own_search_path_are_known(self, project: Project, tmp_path: Path) -> None:
        (tmp_path / "more/memory").mkdir(parents=True)
        (tmp_path / "more/memory/mine.yaml").write_text("cpu_offload_gib: 6\n")
        spec = project.compose(f"hydra.searchpath=[{tmp_path}/more]", "memory=mine")
        assert spec.memory.cpu_offload_gib == 6
        assert spec.origin("memory.cpu_offload_gib") == "more/memory/mine.yaml:1"

    def test_all_are_told_at_once_and_bad_values_with_them(self, project: Project) -> None:
        project.write("memory/mine.yaml", "cpu_offload: 3")
        problems = project.problems("oops", "modle=x", "serve.prot=1", "serve.port=99999", "a=1,2", "memory=mine")
        assert [problem.key for problem in problems] == [
            "oops",
            "modle",
            "serve.prot",
            "a",
            "a",
            "memory.cpu_offload",
            "serve.port",
        ]
        assert problems[-2].origin == "lab/conf/memory/mine.yaml:1"

    def test_a_broken_file_is_told_with_them(self, project: Project) -> None:
        project.write("memory/mine.yaml", "strategy: [")
        problems = project.problems("modle=x", "memory=mine")
        assert [problem.key for problem in problems] == ["modle", None]
        assert problems[1].origin == "lab/conf/memory/mine.yaml:2"

    def test_what_a_bad_override_causes_is_not_told(self, project: Project) -> None:
        project.write("config.yaml", "defaults: [every_key, hardware: cpu, model: '???', _self_]")
        assert [problem.key for problem in project.problems("model=qwen31b")] == ["model"]

    @pytest.mark.parametrize(
        ("override", "expected"),
        [
            (
                "engine.env.HF_HOME=/x",
                Problem(
                    "engine.env.HF_HOME is not there yet",
                    "engine.env.HF_HOME",
                    "/x",
                    HERE,
                    "write +engine.env.HF_HOME=/x",
                ),
            ),
            (
                "+serve.host=a",
                Problem("serve.host is there already", "serve.host", "a", HERE, "leave the + away: serve.host=a"),
            ),
            (
                "+memory=hybrid",
                Problem("memory is there already", "memory", "hybrid", HERE, "leave the + away: memory=hybrid"),
            ),
            (
                "hydra.foo=1",
                Problem("hydra.foo is not there yet", "hydra.foo", "1", HERE, "write +hydra.foo=1"),
            ),
        ],
    )
    def test_what_hydra_refuses(self, project: Project, override: str, expected: Problem) -> None:
        assert project.problem(override) == expected

    def test_a_group_that_the_defaults_list_does_not_have(self, project: Project) -> None:
        project.write("site/berlin.yaml", "# @package _global_", "serve: {port: 9100}")
        expected = Problem("site is not there yet", "site", "berlin", HERE, "write +site=berlin")
        assert project.problem("site=berlin") == expected

    def test_hydra_settings_of_a_wrong_type(self, project: Project) -> None:
        problem = project.problem("hydra.run=3")
        assert problem.message.startswith("Error merging override hydra.run=3: Invalid type assigned")
        assert (problem.key, problem.value, problem.origin) == ("hydra.run", "3", HERE)


class TestFiles:
    """Mistakes in a user's profiles."""

    def test_unknown_keys_and_bad_values(self, project: Project) -> None:
        project.write(
            "profile/mine.yaml",
            "# @package _global_",
            "memory:",
            "  kv_cach: {dtype: fp8}",
            "serve:",
            "  port: 0",
            "  extra_args: --seed 7",
            "limit: {attempts: 3}",
        )
        problems = {problem.key: problem for problem in project.problems("profile=mine")}
        assert {key: problem.origin for key, problem in problems.items()} == {
            "memory.kv_cach": "lab/conf/profile/mine.yaml:3",
            "serve.port": "lab/conf/profile/mine.yaml:5",
            "serve.extra_args": "lab/conf/profile/mine.yaml:6",
            "limit": "lab/conf/profile/mine.yaml:7",
        }
        assert problems["limit"].remedy == "did you mean limits?"
        assert problems["memory.kv_cach"].value == "{dtype:fp8}"

    def test_a_section_that_is_no_mapping(self, project: Project) -> None:
        project.write("hardware/mine.yaml", "gpu: 2")
        problem = project.problem("hardware=mine")
        assert problem.message == "hardware.gpu must be a mapping"
        assert (problem.value, problem.origin) == (2, "lab/conf/hardware/mine.yaml:1")

    def test_broken_yaml_in_all_files(self, project: Project) -> None:
        project.write("memory/mine.yaml", "strategy: hybrid", "  cpu: [")
        project.write("memory/not_chosen.yaml", "\tstrategy: hybrid")
        problems = project.problems("memory=mine")
        assert [problem.origin for problem in problems] == [
            "lab/conf/memory/mine.yaml:2",
            "lab/conf/memory/not_chosen.yaml:1",
        ]
        assert problems[0].message == "broken YAML: mapping values are not allowed here"
        assert problems[0].remedy == "mend the file; a space follows each colon, no tabs"

    def test_broken_yaml_where_the_composition_starts(self, project: Project) -> None:
        project.write("config.yaml", "defaults: [every_key", "limits: 3")
        for overrides in ([], ["memory=hybrid"]):
            problem = project.problem(*overrides)
            assert problem.message.startswith("broken YAML: while parsing a flow sequence")
            assert problem.origin == "lab/conf/config.yaml:2"

    def test_a_key_that_stands_twice(self, project: Project) -> None:
        project.write("memory/mine.yaml", "strategy: hybrid", "swap_gib: 1", "strategy: auto")
        problem = project.problem("memory=mine")
        assert problem.message == "broken YAML: while constructing a mapping found duplicate key strategy"
        assert problem.origin == "lab/conf/memory/mine.yaml:3"

    def test_bytes_that_are_no_text(self, project: Project) -> None:
        project.write("memory/mine.yaml", "").write_bytes(b"\xff\xfe\x00")
        problem = project.problem("memory=mine")
        assert problem.message.startswith("no readable YAML: 'utf-8' codec can't decode byte 0xff")
        assert (problem.origin, problem.remedy) == ("lab/conf/memory/mine.yaml", "save the file as UTF-8 text")

    def test_a_list_in_place_of_keys(self, project: Project) -> None:
        project.write("memory/mine.yaml", "- hybrid")
        problem = project.problem("memory=mine")
        assert problem.message == "a profile cannot be merged with the others"
        assert problem.origin == "lab/conf/memory/mine.yaml"
        assert problem.remedy is not None
        assert problem.remedy.startswith("a profile holds KEY: VALUE lines")

    def test_a_word_in_place_of_keys(self, project: Project) -> None:
        project.write("memory/mine.yaml", "hybrid")
        problem = project.problem("memory=mine")
        assert (problem.key, problem.origin) == ("memory.hybrid", "lab/conf/memory/mine.yaml:1")

    def test_an_empty_file_sets_nothing(self, project: Project) -> None:
        project.write("memory/mine.yaml")
        assert project.compose("memory=mine").memory.strategy is None

    def test_interpolations(self, project: Project) -> None:
        project.write(
            "memory/mine.yaml",
            "strategy: ${memry.strategy}",
            "cpu_offload_gib: ${oc.env:NEXUS_TEST_NOT_SET}",
            "swap_gib: ${nosuch:1}",
        )
        problems = {problem.key: problem for problem in project.problems("memory=mine")}
        strategy = problems["memory.strategy"]
        assert strategy.message == "memory.strategy cannot be resolved: Interpolation key 'memry.strategy' not found"
        assert (strategy.value, strategy.origin) == ("${memry.strategy}", "lab/conf/memory/mine.yaml:1")
        assert strategy.remedy == "did you mean ${memory.strategy}?"
        offload = problems["memory.cpu_offload_gib"]
        assert "Environment variable 'NEXUS_TEST_NOT_SET' not found" in offload.message
        assert offload.remedy == "set the variable, or give a default: ${oc.env:NAME,default}"
        swap = problems["memory.swap_gib"]
        assert "Unsupported interpolation type nosuch" in swap.message
        assert swap.remedy == "mend the ${...} expression"

    def test_a_value_that_must_be_given(self, project: Project) -> None:
        project.write("model/mine.yaml", "config: {hidden_size: '???'}")
        problem = project.problem("model=mine")
        assert problem.message == "model.config.hidden_size must be set"
        assert (problem.key, problem.origin) == ("model.config.hidden_size", "lab/conf/model/mine.yaml:1")
        assert problem.remedy == "write model.config.hidden_size=VALUE"

    def test_an_option_that_a_profile_chooses(self, project: Project) -> None:
        project.write("profile/mine.yaml", "# @package _global_", "defaults:", "  - override /memory: hybird")
        problem = project.problem("profile=mine")
        assert problem.message == "Could not find 'memory/hybird'"
        assert (problem.key, problem.value, problem.origin) == ("memory", "hybird", "lab/conf/profile/mine.yaml:3")
        assert problem.remedy == "did you mean hybrid? options: auto, hybrid, vram_only"

    def test_a_group_that_a_profile_chooses(self, project: Project) -> None:
        project.write("profile/mine.yaml", "# @package _global_", "defaults:", "  - override /memry: hybrid")
        problem = project.problem("profile=mine")
        assert problem.message == "Could not override 'memry'. No match in the defaults list"
        assert (problem.key, problem.origin) == ("memry", "lab/conf/profile/mine.yaml:3")
        assert problem.remedy == "did you mean memory?"

    def test_a_file_to_build_on_that_is_not_there(self, project: Project) -> None:
        project.write("memory/mine.yaml", "defaults: [hybird]")
        problem = project.problem("memory=mine")
        assert problem.message == "Could not load 'memory/hybird'"
        assert (problem.key, problem.value, problem.origin) == ("memory", "hybird", "lab/conf/memory/mine.yaml:1")
        assert problem.remedy == "did you mean hybrid? options: auto, hybrid, mine, vram_only"

    def test_a_defaults_list_that_is_none(self, project: Project) -> None:
        project.write("memory/mine.yaml", "defaults: hybrid")
        problem = project.problem("memory=mine")
        assert problem.message == "Invalid defaults list in 'memory/mine', defaults must be a list (got str)"
        assert problem.origin == "lab/conf/memory/mine.yaml"

    def test_a_config_of_the_project_without_every_key(self, project: Project) -> None:
        project.write("config.yaml", "defaults: [hardware: cpu, _self_]")
        for overrides in ([], ["serve.port=1"]):
            problem = project.problem(*overrides)
            assert problem.message == "config.yaml does not build on every_key"
            assert problem.origin == "lab/conf/config.yaml"
            assert problem.remedy == 'begin its defaults list with "- every_key", as the shipped config.yaml does'

    def test_contradictions_of_profile_and_command_line(self, project: Project) -> None:
        problem = project.problem("memory=vram_only", "memory.cpu_offload_gib=4")
        assert problem.message == (
            "the strategy keeps all weights in GPU memory: memory.cpu_offload_gib against "
            "memory.strategy=vram_only (conf/memory/vram_only.yaml:3)"
        )
        assert (problem.key, problem.value, problem.origin) == ("memory.cpu_offload_gib", 4, HERE)


def test_a_config_error_leads_to_exit_code_2(project: Project) -> None:
    with pytest.raises(Exception, match="unknown key") as caught:
        project.compose("serve.prot=1")
    assert getattr(caught.value, "exit_code", None) == ExitCode.CONFIG


def test_the_whole_message(project: Project) -> None:
    project.write("memory/mine.yaml", "cpu_offload_gib: -1")
    with pytest.raises(Exception, match="must be") as caught:
        project.compose("memory=mine")
    assert str(caught.value) == (
        "memory.cpu_offload_gib must be a number from 0 to 65536, or auto\n"
        "    memory.cpu_offload_gib = -1  (lab/conf/memory/mine.yaml:1)\n"
        "    remedy: write memory.cpu_offload_gib=auto if in doubt. Weights kept in host RAM, in GiB for each GPU "
        "(as vLLM counts them)."
    )
