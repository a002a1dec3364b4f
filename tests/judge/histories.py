"""Written histories: observations at a second's distance, as the threads of a session would send them."""

from __future__ import annotations

from nexus_orch.judge.start.offload import Expected
from nexus_orch.judge.start.verdict import RunState, step
from nexus_orch.types import (
    GIB,
    MIB,
    Exited,
    GpuSample,
    HostSample,
    LogLine,
    Metric,
    Observation,
    Probed,
    ProcessSample,
    Started,
    StopAsked,
)

ATTEMPT = 1


class History:
    """Builds the observations of one attempt. Each one comes a second after the one before, or `after` seconds."""

    def __init__(self) -> None:
        self.observations: list[Observation] = []
        self.now = 1000.0

    def state(self, expected: Expected | None = None) -> RunState:
        state = RunState(expected=expected or Expected())
        for observation in self.observations:
            state = step(state, observation)
        return state

    def started(self, attempt: int = ATTEMPT) -> History:
        return self._add(Started(self._tick(), attempt, 4711, ("vllm", "serve")))

    def log(self, *texts: str, after: float = 1.0, attempt: int = ATTEMPT) -> History:
        for text in texts:
            self._add(LogLine(self._tick(after), attempt, text))
        return self

    def health(self, *, ok: bool, times: int = 1, after: float = 1.0) -> History:
        return self._probe("health", ok=ok, times=times, after=after)

    def completion(self, *, ok: bool, times: int = 1, after: float = 1.0) -> History:
        return self._probe("completion", ok=ok, times=times, after=after)

    def question(self, *, ok: bool) -> History:
        return self._probe("question", ok=ok, times=1, after=1.0)

    def metric(self, after: float = 1.0, **values: float) -> History:
        return self._add(Metric(self._tick(after), ATTEMPT, values))

    def gpu(self, used_gib: float, after: float = 1.0) -> History:
        return self._add(GpuSample(self._tick(after), ATTEMPT, 0, "card", round(used_gib * GIB), 80 * GIB))

    def host(self, *, used_gib: float = 8.0, rss_mib: int = 100, after: float = 1.0) -> History:
        process = ProcessSample(4711, "vllm", rss_mib * MIB, 0.5)
        sample = HostSample(self._tick(after), ATTEMPT, round(used_gib * GIB), 24 * GIB, 0, 0, (process,))
        return self._add(sample)

    def quiet(self, seconds: float) -> History:
        """Nothing but samples, once a second."""
        for _ in range(int(seconds)):
            self.host()
        return self

    def stop_asked(self, reason: str = "Ctrl-C") -> History:
        return self._add(StopAsked(self._tick(), ATTEMPT, reason))

    def exited(self, returncode: int) -> History:
        return self._add(Exited(self._tick(), ATTEMPT, returncode))

    def ready(self) -> History:
        """A start that went well."""
        return self.started().log(UP).health(ok=True).completion(ok=True)

    def _probe(self, kind: str, *, ok: bool, times: int, after: float) -> History:
        detail = "" if ok else "HTTP 500: Internal Server Error"
        values = {"output_tokens": 8.0} if ok and kind != "health" else {}
        for _ in range(times):
            self._add(Probed(self._tick(after), ATTEMPT, kind, ok, detail, values))  # type: ignore[arg-type]
        return self

    def _add(self, observation: Observation) -> History:
        self.observations.append(observation)
        return self

    def _tick(self, after: float = 1.0) -> float:
        self.now += after
        return self.now


PREFIX = "(EngineCore pid=7) {level} 11-22 12:28:39 [core.py:1510] "
INFO = PREFIX.format(level="INFO")
ERROR = PREFIX.format(level="ERROR")
UP = "INFO:     Application startup complete."
SHUTDOWN = "(APIServer pid=1) INFO 11-22 12:32:16 [launcher.py:100] [shutdown] API server: shutdown triggered"
DEAD = ERROR + "EngineCore encountered an issue. See stack trace (above) for the root cause."
