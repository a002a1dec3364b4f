"""Dynamic adjustment under a real load: a server is asked for more than it holds until it serves with a better plan.

    python -m bench.hybrid.pressure --requests 24 --input 3000 --output 300 -- OVERRIDES

Starts nexus-run with `memory.dynamic=act` and the overrides, keeps so many requests on their way, and says how many
tokens per second were answered before and after the adjustment, and what nexus-run said.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from bench.hybrid.load import PROMPT_TOKENS

LONGEST_SECONDS = 400.0
AFTER_SECONDS = 25.0


@dataclass
class Clients:
    """Requests that follow one another without a pause, from so many clients."""

    url: str
    input_tokens: int
    output_tokens: int
    answered: list[tuple[float, int]] = field(default_factory=list)
    """When an answer was there, and its tokens."""
    failed: int = 0
    over: threading.Event = field(default_factory=threading.Event)

    def ask(self) -> None:
        with httpx.Client(timeout=300) as client:
            while not self.over.is_set():
                try:
                    self._ask_once(client)
                except (httpx.HTTPError, KeyError, ValueError):
                    self.failed += 1
                    self.over.wait(0.5)

    def _ask_once(self, client: httpx.Client) -> None:
        model = client.get(f"{self.url}/v1/models").json()["data"][0]["id"]
        prompt = [random.randint(*PROMPT_TOKENS) for _ in range(self.input_tokens)]
        body = {"model": model, "prompt": prompt, "max_tokens": self.output_tokens, "ignore_eos": True}
        answer = client.post(f"{self.url}/v1/completions", json=body).json()
        self.answered.append((time.time(), answer["usage"]["completion_tokens"]))

    def rate(self, since: float, until: float) -> float:
        """Tokens per second of the answers that came in that time."""
        return sum(tokens for when, tokens in self.answered if since < when <= until) / max(1e-9, until - since)


def run(overrides: Sequence[str], clients: Clients, requests: int, log: Path) -> int:
    argv = [sys.executable, "-c", "import sys; from nexus_orch.cli import main_run; sys.exit(main_run())"]
    argv += ["memory.dynamic=act", "probe.then=serve", *overrides]
    with log.open("wb") as file:
        process = subprocess.Popen(argv, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    try:
        first = _await_ready(process, log, 1)
        threads = [threading.Thread(target=clients.ask, daemon=True) for _ in range(requests)]
        for thread in threads:
            thread.start()
        adjusted = _await(process, log, "restarting with", 1)
        second = _await_ready(process, log, 2)
        time.sleep(AFTER_SECONDS)
        until = time.time()
    finally:
        clients.over.set()
        process.terminate()
        code = process.wait(timeout=90)
        sys.stdout.write(log.read_text(encoding="utf-8", errors="replace"))
    before, after = clients.rate(first, adjusted), clients.rate(second, until)
    sys.stdout.write(
        f"before {before:.1f} tokens/s for {adjusted - first:.0f} s, restart {second - adjusted:.0f} s, "
        f"after {after:.1f} tokens/s; {len(clients.answered)} answered, {clients.failed} tries failed; exit {code}\n"
    )
    return 0


def _await_ready(process: subprocess.Popen[bytes], log: Path, times: int) -> float:
    return _await(process, log, "ready after", times)


def _await(process: subprocess.Popen[bytes], log: Path, words: str, times: int) -> float:
    """When the log has had the words so often. Raises SystemExit when nexus-run ends first, or nothing comes."""
    deadline = time.time() + LONGEST_SECONDS
    while time.time() < deadline:
        if log.read_text(encoding="utf-8", errors="replace").count(words) >= times:
            return time.time()
        if process.poll() is not None:
            raise SystemExit(f"nexus-run ended with {process.returncode} before it said {words!r}")
        time.sleep(0.3)
    raise SystemExit(f"nothing said {words!r} in {LONGEST_SECONDS:.0f} s")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=24)
    parser.add_argument("--input", type=int, default=3000)
    parser.add_argument("--output", type=int, default=300)
    parser.add_argument("--port", type=int, default=8300)
    parser.add_argument("overrides", nargs="+")
    args = parser.parse_args()
    clients = Clients(f"http://127.0.0.1:{args.port}", args.input, args.output)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "nexus-run.log"
        return run([*args.overrides, f"serve.port={args.port}"], clients, args.requests, log)


if __name__ == "__main__":
    sys.exit(main())
