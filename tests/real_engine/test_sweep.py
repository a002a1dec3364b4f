"""A sweep of six points on the real CPU engine: what cannot fit is refused, one is launched, measured and soaked."""

from __future__ import annotations

import pytest

from nexus_orch.sweep.run.journal import SweepJournal
from nexus_orch.sweep.types import LaunchEnded, Soaked, Speed
from tests.session.conftest import Desk

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1200)]


def test_six_points_and_one_pick(engine_desk: Desk) -> None:
    done = engine_desk.run(
        *("-m", "memory.kv_cache.size_gib=0.05,0.5", "model.max_model_len=256,512,100000", "serve.max_num_seqs=2"),
        *("workload.concurrency=2", "workload.input_tokens=32", "workload.output_tokens=8", "sweep.client=nexus"),
        *("sweep.launches=1", "sweep.confirmations=0", "sweep.soak_minutes=0.1", "sweep.soak_requests=20"),
        patience_seconds=1000,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    assert "6 points; 2 are decided without a launch, 4 are open" in done.stdout
    assert "pick: point" in done.stdout
    (folder,) = (engine_desk.home / "sweeps").iterdir()
    outcomes = SweepJournal(folder).outcomes()
    (start,) = [outcome for outcome in outcomes if isinstance(outcome, LaunchEnded)]
    assert start.cause is None
    assert start.kv_cache_tokens
    assert all(x.tokens_per_second > 0 and not x.failed for x in outcomes if isinstance(x, Speed))
    (soaked,) = [outcome for outcome in outcomes if isinstance(outcome, Soaked)]
    assert (soaked.failed, soaked.died_at_tokens) == (0, None)
