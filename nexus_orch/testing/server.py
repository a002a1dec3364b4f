"""A fake `vllm serve` from its first word to its exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType

from nexus_orch.testing.boot_log import READY, BootStep, Voices, make_banner, make_boot_log, make_shutdown_log
from nexus_orch.testing.engine import FakeEngine, parse_behaviour
from nexus_orch.testing.failure_log import (
    DIED_SERVING,
    START_FAILED,
    Failure,
    choose_failure,
    render_death_while_serving,
    render_port_in_use,
    render_unrecognized,
)
from nexus_orch.testing.options import Options, parse_options
from nexus_orch.testing.output import print_bytes, print_text
from nexus_orch.testing.routes import Listener, ServerState
from nexus_orch.testing.world import FakeWorld

SIGKILL = 9
POLL_SECONDS = 0.02
ANSWER_SECONDS = 0.2
"""How long a dying server still answers: requests that wait get their error."""
NOISE = b"\x1b[31mred\x1b[0m \xff\xfe not utf-8 \x07\x08 " + b"x" * 100_000 + b"\n"


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Serve until stopped, failed or killed; the exit code is that of vLLM in the same case."""
    engine, options = parse_behaviour(environ), parse_options(argv)
    unknown = tuple(name for name in engine.unknown_options if name in options.values)
    if unknown:
        print_text(render_unrecognized(unknown))
        return 2
    world = FakeWorld.of(engine)
    if world is not None:
        engine = world.launch(engine, options.max_model_len)
    return _Run(engine, options, options.values.get("--api-key", environ.get("VLLM_API_KEY")), world).run()


class _Stopped(Exception):  # noqa: N818 - not an error: it was told to stop
    pass


class _Run:
    def __init__(
        self, engine: FakeEngine, options: Options, api_key: str | None, world: FakeWorld | None = None
    ) -> None:
        self.engine = engine
        self.options = options
        self.state = ServerState(engine, options, api_key, world)
        self.is_told_to_stop = False
        self.voices = Voices(os.getpid(), 0)
        self.core: subprocess.Popen[bytes] | None = None

    def run(self) -> int:
        self._handle_signals()
        if self.engine.flood_mb_per_second:
            threading.Thread(target=self._flood, daemon=True).start()
        try:
            self._say(make_banner(self.engine, self.options, self.voices), pause_seconds=0)
            listener = Listener(self.state)
            try:
                if not self.engine.port_delay_seconds:
                    listener.server_bind()
            except OSError:
                print_text(render_port_in_use())
                return START_FAILED
            return self._boot(listener)
        except _Stopped:
            self._end_core()
            print_text(make_shutdown_log(self.voices))
            return 0

    def _boot(self, listener: Listener) -> int:
        if self.engine.health == "early":
            self._listen(listener)
        self._start_core(listener)
        failure = choose_failure(self.engine, self.options, self.voices)
        steps = list(make_boot_log(self.engine, self.options, self.voices))
        if failure is not None and failure.stage != "request":
            steps = [step for step in steps if _before(step.stage, failure.stage)]
        self._say(steps, pause_seconds=self.engine.boot_seconds / max(len(steps), 1))
        if failure is not None and failure.stage != "request":
            return self._fail(failure)
        if self.engine.noise:
            print_bytes(NOISE)
        self.state.fails_at_request = failure is not None
        self.state.ready = True
        self.state.ready_since = time.monotonic()
        if self.engine.port_delay_seconds:
            print_text(READY)
            self._pause(self.engine.port_delay_seconds)
            listener.server_bind()
        if self.engine.health != "early":
            self._listen(listener)
        if not self.engine.port_delay_seconds:
            print_text(READY)
        return self._serve(failure)

    def _listen(self, listener: Listener) -> None:
        listener.server_activate()
        threading.Thread(target=listener.serve_forever, daemon=True).start()

    def _serve(self, failure: Failure | None) -> int:
        """Until a signal, the end of EngineCore, or the request at which it fails."""
        unseen = self.engine.core_escapes or self.engine.core_unwatched
        while self.core is None or self.core.poll() is None or unseen:
            if failure is not None and self.state.asked.is_set():
                return self._fail(failure)
            limit = self.engine.dies_after_requests
            if limit is not None and self.state.requests >= limit and not self.state.running:
                self._kill_core(SIGKILL)
            if self.state.poisoned.is_set():
                self._kill_core(signal.SIGABRT)
            self._pause(POLL_SECONDS)
        return self._die(render_death_while_serving(self.voices, -self.core.returncode), DIED_SERVING)

    def _fail(self, failure: Failure) -> int:
        if failure.kills_core:
            self._kill_core(failure.kills_core)
        return self._die(failure.text, DIED_SERVING if failure.stage == "request" else START_FAILED)

    def _die(self, last_words: str, exit_code: int) -> int:
        self._pause(POLL_SECONDS)  # a signal to the whole group may have reached EngineCore first
        print_text(last_words)
        self.state.died.set()
        if self.state.ready and self.engine.health == "always":
            self._stall()  # it lies on
        self._end_core()
        self._pause(ANSWER_SECONDS)
        return exit_code

    def _say(self, steps: Iterable[BootStep], pause_seconds: float) -> None:
        for step in steps:
            if step.stage == self.engine.stall_at:
                self._stall()
            print_text(step.text)
            self._pause(pause_seconds)

    def _stall(self) -> None:
        self._pause(float("inf"))

    def _pause(self, seconds: float) -> None:
        """Wait, unless told to stop. No lock is waited for: the signal's handler could want the same one."""
        end = time.monotonic() + seconds
        while not self.is_told_to_stop:
            left = end - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, POLL_SECONDS))
        raise _Stopped

    def _handle_signals(self) -> None:
        for name in ("SIGINT", "SIGTERM"):
            number = signal.Signals[name]
            signal.signal(number, signal.SIG_IGN if name in self.engine.ignores else self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.is_told_to_stop = True

    def _start_core(self, listener: Listener) -> None:
        engine = self.engine
        words = [word for name in engine.core_ignores for word in ("--ignore", name)]
        words += ["--outlive"] * engine.core_outlives + ["--escape"] * engine.core_escapes
        words += ["--workers", str(engine.workers)] * bool(engine.workers)
        held = (listener.fileno(),) if engine.core_holds_port else ()
        self.core = subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(__file__).with_name("core.py")), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=held,
        )
        if self.core.stdout is not None:
            with self.core.stdout as answer:
                self.voices = Voices(os.getpid(), int(answer.readline()))

    def _kill_core(self, signal_number: int) -> None:
        if self.core is not None:
            self.core.send_signal(signal_number)
            self.core.wait()

    def _end_core(self) -> None:
        if self.core is not None and self.core.poll() is None and not self.engine.core_outlives:
            self.core.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.core.wait(1)

    def _flood(self) -> None:
        """Print lines at the wanted rate."""
        block = (b"INFO flood " + b"." * 88 + b"\n") * 1000
        started = time.monotonic()
        sent = 0
        while (passed := time.monotonic() - started) < self.engine.flood_seconds:
            if sent <= passed * self.engine.flood_mb_per_second * 1e6:
                sent += print_bytes(block)
            else:
                time.sleep(0.001)


_ORDER = ("starting", "loading", "profiling", "capturing", "warming")


def _before(stage: str, end: str) -> bool:
    return _ORDER.index(stage) < _ORDER.index(end)
