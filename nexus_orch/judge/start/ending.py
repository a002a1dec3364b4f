"""What the end of the engine's process means when it was not asked for: by the log first, then by the exit code."""

from __future__ import annotations

from nexus_orch.judge.log.conclusion import conclude, show_lines
from nexus_orch.judge.log.patterns import shipped_patterns
from nexus_orch.judge.log.reading import LogReading
from nexus_orch.types import Cause, Failed, HostSample, Stopped

STOP_SIGNALS = {1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 15: "SIGTERM"}
CRASH_SIGNALS: dict[int, tuple[str, Cause]] = {
    4: ("SIGILL", "illegal_instruction"),
    6: ("SIGABRT", "engine_dead"),
    7: ("SIGBUS", "shared_memory"),
    9: ("SIGKILL", "host_oom"),
    11: ("SIGSEGV", "engine_dead"),
}
ARGPARSE_EXIT = 2
"""What argparse exits with after a mistake on the command line."""

FREE_RAM_FRACTION = 0.15
"""With so much RAM free, the kernel has no reason to kill: somebody else sent signal 9."""


def judge_ending(reading: LogReading, returncode: int, host: HostSample | None, *, was_ready: bool) -> Failed | Stopped:
    """Failed with its cause, or Stopped when a signal from outside ended it in good order."""
    found = conclude(reading, is_whole=True) if reading.evidence.best is not None else None
    signal = -returncode if returncode < 0 else returncode - 128
    if found is not None and not (found.cause == "unknown" and signal in CRASH_SIGNALS):
        return refine(Failed(found.cause, found.lines, found.remedy), host)
    if signal in STOP_SIGNALS:
        return Stopped(f"a {STOP_SIGNALS[signal]} from outside ended the engine")
    if reading.evidence.told_to_stop and signal not in CRASH_SIGNALS:
        return Stopped("the engine was told to stop from outside and shut down")
    return refine(_judge_code(reading, returncode, signal, was_ready=was_ready), host)


def refine(failed: Failed, host: HostSample | None) -> Failed:
    """Signal 9 with RAM to spare was not the kernel's doing: then the process was killed, and that is all we know."""
    if failed.cause != "host_oom" or host is None or not _is_ram_free(host) or not _is_by_signal(failed):
        return failed
    used, total = host.ram_used_bytes / 2**30, host.ram_total_bytes / 2**30
    spare = f"{used:.1f} of {total:.1f} GiB RAM were in use just before"
    remedy = "a process of the engine was killed with signal 9 although RAM was free: find out who did it"
    return Failed("worker_died", (*failed.evidence, spare), remedy)


def is_weak(failed: Failed) -> bool:
    """True when lines that come later may still tell a better cause."""
    return failed.cause in ("unknown", "engine_dead", "worker_died", "host_oom")


def _judge_code(reading: LogReading, returncode: int, signal: int, *, was_ready: bool) -> Failed:
    cause: Cause = "engine_dead" if was_ready else "unknown"
    told = f"the engine ended with exit code {returncode}"
    if signal in CRASH_SIGNALS:
        name, cause = CRASH_SIGNALS[signal]
        told = f"the engine was ended by signal {signal} ({name})"
    elif returncode == ARGPARSE_EXIT and reading.measured.engine_version is None:
        cause = "unrecognized_argument"
    lines = show_lines(reading)
    evidence = (told, *lines) if signal in CRASH_SIGNALS else (*lines, told)
    return Failed(cause, evidence, shipped_patterns().remedy(cause))


def _is_ram_free(host: HostSample) -> bool:
    return host.ram_total_bytes - host.ram_used_bytes > FREE_RAM_FRACTION * host.ram_total_bytes


def _is_by_signal(failed: Failed) -> bool:
    """True when nothing but signal 9 speaks for a lack of RAM."""
    first = failed.evidence[0] if failed.evidence else ""
    return "-9" in first or "signal 9" in first
