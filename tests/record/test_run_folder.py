from __future__ import annotations

import json
import stat
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import pytest

from nexus_orch.errors import ConfigError, InterruptedByEnvironment
from nexus_orch.record.run_folder import (
    RunFolder,
    create_run_folder,
    make_run_id,
    read_command,
    read_plan,
    read_spec,
    write_command,
    write_plan,
    write_spec,
)
from nexus_orch.record.writer import RunWriter
from nexus_orch.types import Command, EngineSpec, ModelSpec
from tests.record.examples import SPEC, START, make_plan

OPEN_SPEC = replace(SPEC, engine=EngineSpec(env={"VLLM_LOGGING_LEVEL": "INFO"}))


@pytest.mark.parametrize(
    ("model", "strategy", "run_id"),
    [
        ("qwen32b", "hybrid", "20261123-140000-qwen32b-hybrid"),
        ("Qwen/Qwen2.5-32B Instruct", "", "20261123-140000-qwen-qwen2.5-32b-instruct"),
        ("модель", "auto", "20261123-140000-auto"),
        ("../../etc/passwd", "..", "20261123-140000-etc-passwd"),
        ("a" * 80, "hybrid", f"20261123-140000-{'a' * 28}-hybrid"),
        ("", "", "20261123-140000"),
    ],
)
def test_run_ids_are_readable_and_safe_as_file_names(model: str, strategy: str, run_id: str) -> None:
    assert make_run_id(START, model, strategy) == run_id


def test_run_ids_sort_by_time() -> None:
    ids = [make_run_id(START + seconds, "m", "s") for seconds in (0, 1, 59, 60, 86400, 40 * 86400)]
    assert ids == sorted(ids)


def _create(runs_dir: Path) -> str:
    return create_run_folder(runs_dir, SPEC, START).id


def test_runs_of_the_same_second_get_folders_of_their_own(tmp_path: Path) -> None:
    with get_context("spawn").Pool(2) as pool:
        ids = pool.map(_create, [tmp_path / "runs"] * 6)
    assert len(set(ids)) == 6
    assert min(ids) == "20261123-140000-qwen32b-hybrid"


def test_a_model_without_a_name_is_called_like_its_folder(tmp_path: Path) -> None:
    spec = replace(SPEC, model=ModelSpec(path="/models/My Model/"))
    assert create_run_folder(tmp_path, spec, START).id == "20261123-140000-my-model-hybrid"


def test_spec_plan_and_command_come_back(tmp_path: Path) -> None:
    folder = create_run_folder(tmp_path, OPEN_SPEC, START)
    assert read_spec(folder) == OPEN_SPEC
    plan = replace(make_plan(), spec=OPEN_SPEC)
    write_plan(folder, plan)
    assert read_plan(folder) == plan
    command = Command(("vllm", "serve", "--x", "é"), {"A": "1"}, "/tmp", frozenset({"B"}))
    write_command(folder, command)
    assert read_command(folder) == command
    assert list(tmp_path.glob("**/*.tmp")) == []


def test_secrets_are_written_nowhere(tmp_path: Path) -> None:
    spec = replace(SPEC, engine=EngineSpec(env={**SPEC.engine.env, "CODE": "hf_do_not_tell"}))
    folder = create_run_folder(tmp_path, SPEC, START)
    assert "hf_do_not_tell" not in folder.spec.read_text()
    secrets = frozenset({"HF_TOKEN", "CODE"})
    write_spec(folder, spec, secrets)
    write_command(folder, Command(("vllm",), {"HF_TOKEN": "hf_do_not_tell", "LEVEL": "1"}, secrets=secrets))
    written = b"".join(path.read_bytes() for path in folder.path.iterdir())
    assert b"hf_do_not_tell" not in written
    assert json.loads(folder.command.read_text())["env"] == {"HF_TOKEN": "***", "LEVEL": "1"}
    assert read_spec(folder).engine.env["VLLM_LOGGING_LEVEL"] == "INFO"


@pytest.mark.parametrize("text", ["{", "- 1\n- 2\n", "name: [", "name: 7\n", "\x00"])
def test_a_damaged_spec_is_told(tmp_path: Path, text: str) -> None:
    folder = RunFolder(tmp_path)
    folder.spec.write_text(text)
    with pytest.raises(ConfigError, match=r"spec\.yaml is damaged") as caught:
        read_spec(folder)
    assert caught.value.problems[0].key == str(folder.spec)


def test_a_missing_plan_is_told(tmp_path: Path) -> None:
    folder = create_run_folder(tmp_path, SPEC, START)
    with pytest.raises(ConfigError, match=r"cannot read plan\.json: No such file"):
        read_plan(folder)


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("not a folder")
    with pytest.raises(InterruptedByEnvironment, match="NEXUS_HOME"):
        create_run_folder(tmp_path / "runs", SPEC, START)


def test_a_run_is_readable_by_its_user_alone(tmp_path: Path) -> None:
    """It holds prompts, paths and the names of secrets."""
    folder = create_run_folder(tmp_path / "runs", SPEC, START)
    write_plan(folder, make_plan())
    RunWriter(folder).close()
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.path.iterdir()}
    assert modes == {"spec.yaml": 0o600, "plan.json": 0o600, "journal.jsonl": 0o600}
