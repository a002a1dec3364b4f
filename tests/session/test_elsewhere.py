"""A run seen and stopped from another terminal, and what is left when its supervisor is killed."""

from __future__ import annotations

import json
import signal

from nexus_orch.record.events import Finished, Judged
from nexus_orch.testing import FakeEngine, write_fake_plugin
from nexus_orch.types import Ready
from tests.session.conftest import Desk, wait_for


def _is_ready(desk: Desk) -> bool:
    return any(isinstance(entry.verdict, Ready) for entry in desk.journal(Judged))


def test_ps_logs_stop_and_report_while_it_serves(desk: Desk) -> None:
    running = desk.start()
    wait_for(lambda: _is_ready(desk), "ready")
    (run,) = json.loads(desk.nexus("ps", "--format", "json").stdout)
    assert (run["state"], run["id"]) == ("ready", desk.run_folders[0].name)
    assert "Application startup complete" in desk.nexus("logs").stdout
    stopped = desk.nexus("stop", "--all")
    assert stopped.returncode == 0, stopped.stderr
    running.communicate(timeout=60)
    assert running.returncode == 0
    assert desk.journal(Finished)[0].exit_code == 0
    assert "qwen0_5b" in desk.nexus("report").stdout


def test_what_a_killed_supervisor_leaves_is_found_and_stopped(desk: Desk) -> None:
    write_fake_plugin(desk.folder, FakeEngine(core_outlives=True))
    running = desk.start()
    wait_for(lambda: _is_ready(desk), "ready")
    running.send_signal(signal.SIGKILL)
    running.communicate(timeout=60)
    (run,) = json.loads(desk.nexus("ps", "--format", "json").stdout)
    assert run["state"] == "lost"
    stopped = desk.nexus("stop", run["id"])
    assert stopped.returncode == 0, stopped.stderr
    assert json.loads(desk.nexus("ps", "--format", "json").stdout) == []


def test_the_next_run_tells_of_an_orphan(desk: Desk) -> None:
    write_fake_plugin(desk.folder, FakeEngine(core_outlives=True))
    running = desk.start()
    wait_for(lambda: _is_ready(desk), "ready")
    running.send_signal(signal.SIGKILL)
    running.communicate(timeout=60)
    orphaned = desk.run_folders[0].name
    done = desk.run("probe.then=stop", "--format", "plain")
    assert orphaned in done.stdout
    assert desk.nexus("stop", orphaned).returncode == 0
