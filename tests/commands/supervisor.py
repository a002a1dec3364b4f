"""A small supervisor in a process of its own: an engine that sleeps, a journal, and an ear for stop requests.

`python -m tests.commands.supervisor polite|deaf` prints the run's id once it serves.
"""

from __future__ import annotations

import platform
import sys
import time

import psutil

from nexus_orch import paths
from nexus_orch.launch.processes.process import start_child
from nexus_orch.record.events import Created, Family, Finished, Launched, Stopping
from nexus_orch.record.run_folder import create_run_folder
from nexus_orch.record.stop_request import read_stop_request
from nexus_orch.record.writer import RunWriter
from nexus_orch.types import Command, LimitsSpec, MemorySpec, ModelSpec, ProcessKey, Ready, RunSpec, Stopped
from tests.launch.engines import make_start
from tests.record.examples import make_gpu, make_host

ENGINE = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("the engine is up", flush=True)
time.sleep(600)
"""


def main(behaviour: str) -> None:
    this = psutil.Process()
    model = ModelSpec(name="qwen0_5b")
    limits = LimitsSpec(stop_seconds=0.5)
    folder = create_run_folder(
        paths.runs_dir(), RunSpec("test", model=model, memory=MemorySpec("hybrid"), limits=limits), time.time()
    )
    writer = RunWriter(folder)
    supervisor = ProcessKey(this.pid, this.create_time())
    writer.write(Created(time.time(), "test", "qwen0_5b", "cpu", supervisor, "0.1.0", host=platform.node()))
    engine = start_child(make_start(Command((sys.executable, "-c", ENGINE)), folder.log, lambda _: None))
    main_process = engine.record.key
    writer.write(Launched(time.time(), 1, main_process, 8000, "http://127.0.0.1:8000", "local", engine.identity))
    while len(engine.family()) < 2 or not folder.log.exists() or not folder.log.stat().st_size:
        engine.look()
        time.sleep(0.02)
    family = tuple(ProcessKey(key.pid, key.create_time) for key in engine.family())
    writer.write(Family(time.time(), 1, family))
    writer.judge(time.time(), 1, Ready({"kv_cache_tokens": 1000.0}))
    writer.observe(make_gpu(time.time(), 0, 20.0, attempt=1))
    writer.observe(make_host(time.time(), 40.0, attempt=1))
    sys.stdout.write(folder.id + "\n")
    sys.stdout.flush()
    while behaviour == "deaf" or (request := read_stop_request(folder.stop_request)) is None:
        time.sleep(0.05)
    writer.write(Stopping(time.time(), request.reason, request.force))
    engine.stop(stop_seconds=0.0 if request.force else 0.5)
    writer.judge(time.time(), 1, Stopped(request.reason))
    writer.write(Finished(time.time(), 0, reason=request.reason))
    writer.close()


if __name__ == "__main__":
    main(sys.argv[1])
