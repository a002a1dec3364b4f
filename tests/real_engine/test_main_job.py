"""The main job on the oldest and the newest release that installs without a GPU: serve, answer a question, stop."""

from __future__ import annotations

import json

import pytest

from nexus_orch.install.engines.recipe import known_cpu_versions
from nexus_orch.record.events import Finished
from tests.session.conftest import Desk

pytestmark = [pytest.mark.engine_matrix, pytest.mark.timeout(900)]


@pytest.mark.parametrize("version", [known_cpu_versions()[0], known_cpu_versions()[-1]])
def test_it_serves_answers_and_stops(engine_desk: Desk, version: str) -> None:
    question = 'probe.question="What is the capital of France?"'
    wanted = (f"engine.version={version}", question, "probe.then=stop", "--format", "json")
    done = engine_desk.run(*wanted, patience_seconds=600)
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines() if '"answer"' in line]
    assert "Paris" in json.dumps(answers)
    plan = json.loads((engine_desk.run_folders[0] / "plan.json").read_text(encoding="utf-8"))
    assert plan["engine_version"].partition("+")[0] == version
    (finished,) = engine_desk.journal(Finished)
    assert finished.measured["kv_cache_tokens"] == pytest.approx(plan["kv_cache_tokens"], rel=0.01)
    assert finished.measured["tokens_per_second"] > 0
