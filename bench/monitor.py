"""The monitor at 1 Hz costs at most 1% of one core and 100 MB of RSS.

It watches a real process tree (a server and three busy workers below it) whose `/metrics` is what vLLM 0.32.0 really
told, with the cards of this machine where there are some. Measured is this process, which does nothing else.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil

from nexus_orch.launch.server.server import Server
from nexus_orch.observe.sampler import Sampler
from nexus_orch.types import GpuSample, HostSample, Metric, Observation, ProcessKey

SECONDS = 30.0
GOAL_CORE_FRACTION = 0.01
GOAL_RSS_MB = 100.0

METRICS = Path(__file__).parent.parent / "tests" / "data" / "metrics" / "vllm-0.32.0-after-three-requests.txt"

ENGINE = """
import http.server, pathlib, subprocess, sys
body = pathlib.Path(sys.argv[1]).read_bytes()
worker = "import time\\nwhile True:\\n    sum(range(20_000))\\n    time.sleep(0.05)"
workers = [subprocess.Popen([sys.executable, "-c", worker]) for _ in range(3)]

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
try:
    server.serve_forever()
finally:
    for process in workers:
        process.kill()
"""


def main() -> int:
    """Print the table; 0 when the goals are met, 1 otherwise."""
    engine = subprocess.Popen([sys.executable, "-c", ENGINE, str(METRICS)], stdout=subprocess.PIPE, text=True)
    if engine.stdout is None:
        raise RuntimeError("a child that was started with a pipe has none")
    seen: list[Observation] = []
    try:
        server = Server("127.0.0.1", int(engine.stdout.readline()))
        fraction, rss_mb = _watch(server, engine.pid, seen)
    finally:
        for worker in psutil.Process(engine.pid).children(recursive=True):
            worker.kill()
        engine.kill()
        engine.wait()
    hosts = [sample for sample in seen if isinstance(sample, HostSample)]
    sys.stdout.write(
        f"samples in {SECONDS:.0f} s           {len(hosts)} of the host with {len(hosts[-1].processes)} processes, "
        f"{_count(seen, GpuSample)} of cards, {_count(seen, Metric)} of the server\n"
        f"CPU time of one core      {fraction:7.2%}      goal: at most {GOAL_CORE_FRACTION:.0%}\n"
        f"RSS                       {rss_mb:7.1f} MB   goal: at most {GOAL_RSS_MB:.0f} MB\n"
    )
    return 0 if fraction <= GOAL_CORE_FRACTION and rss_mb <= GOAL_RSS_MB else 1


def _watch(server: Server, pid: int, seen: list[Observation]) -> tuple[float, float]:
    """The CPU time of one core that the sampler takes, and the RSS of this process in MB of 1e6 bytes."""
    this = psutil.Process()
    tree = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    family = tuple(ProcessKey(process.pid, process.create_time()) for process in tree)
    sampler = Sampler(server, family=lambda: family, attempt=1, emit=seen.append)
    sampler.start()
    time.sleep(2)  # what the start costs, imports above all, is not what the monitor costs
    before, started = this.cpu_times(), time.monotonic()
    time.sleep(SECONDS)
    after, seconds = this.cpu_times(), time.monotonic() - started
    rss_mb = this.memory_info().rss / 1e6
    sampler.stop()
    used = after.user + after.system - before.user - before.system
    return used / seconds, rss_mb


def _count(seen: list[Observation], kind: type[Observation]) -> int:
    return sum(isinstance(observation, kind) for observation in seen)


if __name__ == "__main__":
    sys.exit(main())
