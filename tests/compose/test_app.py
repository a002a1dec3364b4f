"""`run_app` through real processes for what a user types, and in this process for what it promises its caller."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from nexus_orch import __version__
from nexus_orch.compose.app import run_app
from nexus_orch.compose.job import JobInfo, JobOutcome
from nexus_orch.errors import ConfigError, ExitCode, NexusError, PlanError, Problem
from nexus_orch.types import RunSpec
from tests.compose import example_app
from tests.compose.conftest import Project

pytestmark = pytest.mark.slow

BASIC = ["-m", "hydra/sweeper=basic"]
REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class Done:
    """How the example application ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        assert self.stderr == ""
        return [json.loads(line) for line in self.stdout.splitlines()]


def with_basic_sweeper(arguments: Sequence[str]) -> list[str]:
    """The words of a sweep with Hydra's own sweeper: ours, the default, plans real runs and has tests of its own."""
    is_sweep = any(word in ("-m", "--multirun", "hydra.mode=MULTIRUN") for word in arguments)
    is_chosen = any("hydra/sweeper=" in word for word in arguments)
    return [*arguments, "hydra/sweeper=basic"] if is_sweep and not is_chosen else [*arguments]


def start(*arguments: str, **environment: str) -> Done:
    """The example application as a process of its own, in the current folder."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.compose.example_app", *with_basic_sweeper(arguments)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def app(project: Project, capfd: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """The example application in this process, which is faster."""

    def run(*arguments: str) -> Done:
        code = example_app.main(with_basic_sweeper(arguments))
        return Done(code, *capfd.readouterr())

    return run


App = Callable[..., Done]


class TestProcess:
    """What a user types, as a process of its own."""

    def test_a_run(self, project: Project, isolated_home: Path) -> None:
        job, result = start("hardware=cpu", "model.max_model_len=64").lines
        assert job["name"] == "smollm2_135m-auto-cpu"
        assert (job["mode"], job["job"], job["length"]) == ("run", None, 64)
        assert job["overrides"] == ["hardware=cpu", "model.max_model_len=64"]
        assert result == {"mode": "run", "exit_code": 0, "sweep_dir": None}
        assert [path.name for path in Path.cwd().iterdir()] == ["lab"]
        assert not isolated_home.exists()

    def test_a_sweep(self, project: Project, isolated_home: Path) -> None:
        done = start("-m", "hardware=cpu", "model.max_model_len=range(1,3)", "memory.enforce_eager=true,false")
        *jobs, result = done.lines
        assert [(job["mode"], job["job"], job["length"]) for job in jobs] == [
            ("multirun", 0, 1),
            ("multirun", 1, 1),
            ("multirun", 2, 2),
            ("multirun", 3, 2),
        ]
        assert jobs[1]["overrides"] == ["hardware=cpu", "model.max_model_len=1", "memory.enforce_eager=False"]
        assert {path.name for path in Path.cwd().iterdir()} == {"lab", isolated_home.name}
        sweep_dir = Path(result["sweep_dir"])
        assert sweep_dir.parent == isolated_home / "sweeps"
        assert [path.name for path in sweep_dir.iterdir()] == ["multirun.yaml"]
        assert (result["mode"], result["exit_code"], done.code) == ("multirun", 0, 0)

    def test_a_mistake_is_a_message_and_nothing_else(self, project: Project, isolated_home: Path) -> None:
        done = start("memory=hybird", "serve.port=0")
        assert (done.code, done.stdout) == (ExitCode.CONFIG, "")
        assert done.stderr == (
            "unknown option of the group memory\n"
            "    memory = hybird  (command line)\n"
            "    remedy: did you mean hybrid? options: auto, hybrid, vram_only\n"
            "serve.port must be a whole number from 1 to 65535, or auto\n"
            "    serve.port = 0  (command line)\n"
            "    remedy: write serve.port=auto if in doubt. Port to listen on. auto takes 8000, or the next free one.\n"
        )
        assert not isolated_home.exists()

    def test_the_search_path(self, project: Project) -> None:
        done = start("--info", "searchpath", "--project", "lab")
        rows = [line.split() for line in done.stdout.splitlines() if line.startswith("|")]
        assert [row[1] for row in rows] == ["Provider", "nexus_orch", "hydra", "main", "schema"]
        assert rows[1][3] == f"file://{project.root.resolve()}/conf"

    def test_completion(self, project: Project) -> None:
        done = start("-sc", "query=bash", COMP_LINE="nexus-run memory=h", COMP_POINT="18")
        assert done == Done(0, "memory=hybrid\n", "")


class TestRun:
    def test_the_exit_code_is_the_tasks(self, app: App) -> None:
        assert app("model.max_model_len=13").code == ExitCode.DOES_NOT_FIT

    @pytest.mark.parametrize("arguments", [["--project", "lab", "memory=mine"], ["memory=mine", "--project=lab"]])
    def test_the_project_may_stand_anywhere(self, project: Project, app: App, arguments: list[str]) -> None:
        project.write("memory/mine.yaml", "strategy: hybrid")
        assert app(*arguments).lines[0]["name"] == "smollm2_135m-mine-auto"


class TestSweep:
    def test_a_bad_point_does_not_end_the_sweep(self, project: Project, app: App) -> None:
        done = app("-m", "model.max_model_len=-5,13,64", "memory=vram_only")
        bad, failed, good, result = done.lines
        assert bad == {
            "job": 0,
            "bad": ["model.max_model_len must be a whole number from 1 to 100000000, or auto"],
        }
        assert (failed["job"], good["job"], good["length"]) == (1, 2, 64)
        assert result["exit_code"] == 0

    def test_contradictions_belong_to_their_point(self, project: Project, app: App) -> None:
        bad, good, _ = app("-m", "memory.cpu_offload_gib=4", "memory=vram_only,hybrid").lines
        assert bad["bad"][0].startswith("the strategy keeps all weights in GPU memory")
        assert good["name"] == "smollm2_135m-hybrid-auto"

    def test_a_sweep_of_failures_fails(self, project: Project, app: App) -> None:
        assert app("-m", "model.max_model_len=13").code == ExitCode.DOES_NOT_FIT
        assert app("-m", "model.max_model_len=-1").code == ExitCode.CONFIG

    def test_mistakes_that_all_points_share_are_told_before_the_first(self, project: Project, app: App) -> None:
        done = app("-m", "model.max_model_len=1,2", "serve.port=0", "memory=auto,hybird")
        assert done.code == ExitCode.CONFIG
        assert done.stdout == ""
        assert "serve.port = 0  (command line)" in done.stderr
        assert "memory = hybird  (command line)" in done.stderr

    def test_groups_and_globs_can_be_swept(self, project: Project, app: App) -> None:
        done = app("-m", "memory=glob(*)", "workload=chat")
        assert [job["name"] for job in done.lines[:-1]] == [
            "smollm2_135m-auto-auto",
            "smollm2_135m-hybrid-auto",
            "smollm2_135m-vram_only-auto",
        ]

    def test_the_folder_can_be_chosen(self, project: Project, app: App, tmp_path: Path) -> None:
        chosen = tmp_path / "it's mine"
        done = app("-m", "model.max_model_len=1", f'hydra.sweep.dir="{chosen}"')
        assert done.lines[-1]["sweep_dir"] == str(chosen)
        assert (chosen / "multirun.yaml").is_file()

    def test_what_a_sweeper_refuses(self, project: Project, app: App) -> None:
        done = app("-m", "model.max_model_len=interval(1,2)")
        assert done.code == ExitCode.CONFIG
        assert done.stderr.startswith("BasicSweeper does not support sweep type : INTERVAL_SWEEP\n")

    def test_the_mode_can_come_from_a_file(self, project: Project, app: App) -> None:
        project.write(
            "config.yaml",
            "defaults: [every_key, hardware: cpu, memory: auto, model: smollm2_135m, "
            "override hydra/sweeper: basic, _self_]",
            "hydra: {mode: MULTIRUN, sweeper: {params: {model.max_model_len: '5,6'}}}",
        )
        *jobs, result = app("--project", "lab").lines
        assert [job["length"] for job in jobs] == [5, 6]
        assert (result["mode"], result["exit_code"]) == ("multirun", 0)


class TestPrinting:
    def test_the_configuration(self, project: Project, app: App) -> None:
        done = app("--cfg", "job", "memory=hybrid", "serve.port=7")
        shown = yaml.safe_load(done.stdout)
        assert (shown["memory"]["strategy"], shown["serve"]["port"]) == ("hybrid", 7)
        assert "hydra" not in shown
        assert done.code == 0

    def test_hydras_configuration_writes_nothing_here(self, project: Project, app: App, isolated_home: Path) -> None:
        shown = yaml.safe_load(app("--cfg", "hydra", "--resolve").stdout)["hydra"]
        assert (shown["run"]["dir"], shown["output_subdir"], shown["job"]["chdir"]) == (".", None, False)
        assert Path(shown["sweep"]["dir"]).parent == isolated_home / "sweeps"

    def test_a_configuration_with_bad_values_is_still_shown(self, project: Project, app: App) -> None:
        assert "port: 0" in app("--cfg", "job", "serve.port=0").stdout

    def test_mistakes_in_what_is_to_be_shown(self, project: Project, app: App) -> None:
        done = app("--cfg", "job", "serve.prot=0")
        assert (done.code, done.stdout) == (ExitCode.CONFIG, "")
        assert "did you mean serve.port?" in done.stderr

    def test_help(self, project: Project, app: App) -> None:
        done = app("--help")
        assert done.stdout.startswith("nexus-run plans, launches, proves and recovers a model on vLLM.")
        assert "memory: auto, hybrid, vram_only" in done.stdout
        assert "--format json OVERRIDES" in done.stdout
        assert done.code == 0

    def test_hydras_help_and_the_version(self, project: Project, app: App) -> None:
        assert app("--hydra-help").stdout.startswith("Hydra (1.")
        assert app("--version").stdout.startswith(f"nexus-run {__version__} (Hydra 1.")

    @pytest.mark.parametrize(
        ("line", "words"),
        [
            ("nexus-run memory.kv_cache.d", "memory.kv_cache.dtype=\n"),
            ("nexus-run --project lab memory=m", "memory=mine\n"),
            ("nexus-run memory=hybrid --project=lab hardware=rtx4090x", "hardware=rtx4090x2 hardware=rtx4090x4\n"),
            ("nexus-run --project ", ""),
        ],
    )
    def test_completion(
        self, project: Project, app: App, monkeypatch: pytest.MonkeyPatch, line: str, words: str
    ) -> None:
        project.write("memory/mine.yaml", "strategy: hybrid")
        monkeypatch.setenv("COMP_LINE", line)
        assert app("-sc", "query=bash") == Done(0, words, "")

    def test_the_completion_script_names_the_program(self, project: Project, app: App) -> None:
        assert app("-sc", "install=bash").stdout.rstrip().endswith("hydra_bash_completion nexus-run")


class TestFlags:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--nosuch"], "unrecognized arguments: --nosuch"),
            (["--cfg", "nosuch"], "argument --cfg/-c: invalid choice: 'nosuch'"),
            (
                ["--cfg", "job", "-m"],
                "Only one of --run, --multirun, --cfg, --info and --shell_completion can be specified",
            ),
            (["-cp", "conf"], "the shipped profiles stay"),
            (["-cd", "nosuch"], "there is no such folder"),
            (["-cn", "nosuch"], "Cannot find primary config 'nosuch'. Check that it's in your config search path"),
            (["--project", "nosuch"], "cannot read the project folder: No such file or directory"),
        ],
    )
    def test_bad_flags(self, project: Project, arguments: list[str], message: str) -> None:
        with pytest.raises(ConfigError) as caught:
            run_app(arguments, _refuse)
        assert caught.value.problems[0].message.startswith(message)
        assert caught.value.problems[0].remedy

    def test_another_folder_of_profiles(self, project: Project) -> None:
        project.write("memory/mine.yaml", "cpu_offload_gib: 3")
        specs: list[RunSpec] = []
        run_app(["--config-dir", "lab/conf", "memory=mine"], _collect(specs))
        assert specs[0].memory.cpu_offload_gib == 3
        assert specs[0].origin("memory.cpu_offload_gib") == "lab/conf/memory/mine.yaml:1"

    def test_another_file_to_start_from(self, project: Project) -> None:
        project.write("night.yaml", "defaults: [config, _self_]", "limits: {attempts: 9}")
        specs: list[RunSpec] = []
        run_app(["--config-name", "night", "--project", "lab"], _collect(specs))
        assert specs[0].limits.attempts == 9


def _refuse(spec: RunSpec, job: JobInfo) -> JobOutcome:
    raise PlanError(Problem("too large", remedy="a larger card"))


def _collect(specs: list[RunSpec]) -> Any:
    def task(spec: RunSpec, job: JobInfo) -> JobOutcome:
        specs.append(spec)
        return JobOutcome(ExitCode.GOOD)

    return task


class TestCaller:
    """What `run_app` promises to the code that calls it."""

    def test_a_run_and_compose_run_make_the_same_spec(self, project: Project) -> None:
        project.write("memory/mine.yaml", "strategy: hybrid", "cpu_offload_gib: 3")
        overrides = ["memory=mine", "profile=smollm2_on_cpu", "serve.port=9000", "+engine.env.A=1"]
        specs: list[RunSpec] = []
        run_app([*overrides, "hardware.gpu.count=1"], _collect(specs), project=project.root)
        assert specs == [project.compose(*overrides, "hardware.gpu.count=1")]

    def test_what_the_task_of_a_run_raises_comes_out(self, project: Project) -> None:
        with pytest.raises(PlanError, match="too large"):
            run_app([], _refuse)

    def test_what_the_task_of_a_point_raises_is_handed_over(self, project: Project) -> None:
        told: list[tuple[NexusError, JobInfo]] = []

        def tell(error: NexusError, job: JobInfo) -> JobOutcome:
            told.append((error, job))
            return JobOutcome(error.exit_code)

        result = run_app([*BASIC, "serve.port=1,2"], _refuse, on_bad_point=tell)
        assert [(error.exit_code, job.number) for error, job in told] == [
            (ExitCode.DOES_NOT_FIT, 0),
            (ExitCode.DOES_NOT_FIT, 1),
        ]
        assert told[0][1].sweep_dir == result.sweep_dir
        assert result.exit_code == ExitCode.DOES_NOT_FIT

    @pytest.mark.parametrize("arguments", [[], [*BASIC, "model.max_model_len=1"]])
    def test_a_bug_in_the_task_is_not_told_as_a_mistake_of_the_user(
        self, project: Project, arguments: list[str]
    ) -> None:
        def fail(spec: RunSpec, job: JobInfo) -> JobOutcome:
            raise ValueError("a bug")

        with pytest.raises(ValueError, match="a bug"):
            run_app(arguments, fail)

    def test_an_interruption_ends_a_sweep(self, project: Project) -> None:
        seen: list[int | None] = []

        def stop(spec: RunSpec, job: JobInfo) -> JobOutcome:
            seen.append(job.number)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run_app([*BASIC, "model.max_model_len=1,2"], stop)
        assert seen == [0]

    @pytest.mark.parametrize("arguments", [[], BASIC, ["serve.port=0"], ["--cfg", "job"]])
    def test_nothing_global_is_changed(self, project: Project, arguments: list[str]) -> None:
        seen: list[tuple[dict[str, str], Path]] = []

        def look(spec: RunSpec, job: JobInfo) -> JobOutcome:
            seen.append((dict(os.environ), Path.cwd()))
            return JobOutcome(ExitCode.GOOD)

        before = list(sys.argv), dict(os.environ), Path.cwd(), list(logging.getLogger().handlers)
        with suppress(ConfigError):
            run_app(arguments, look)
        assert (list(sys.argv), dict(os.environ), Path.cwd(), list(logging.getLogger().handlers)) == before
        assert seen == ([before[1:3]] if arguments in ([], BASIC) else [])
        assert not GlobalHydra.instance().is_initialized()
        assert not HydraConfig.initialized()
        assert not OmegaConf.has_resolver("nexus.home")
