"""What happened around the start that was judged: the other starts of its service, and the other services."""

from __future__ import annotations

from collections.abc import Sequence

from nexus_orch.judge.log.conclusion import Conclusion
from nexus_orch.judge.log.starts import Service
from nexus_orch.types import Cause

_SHARED = (
    "another engine (service {other}) runs beside this one; if it uses the same card, its memory is missing here: "
    "start one after the other, and let the shares of both (memory.gpu_memory_utilization) stay below 1 together"
)
SHARED_CARD: dict[Cause, str] = dict.fromkeys(
    (
        "memory_busy",
        "weights_oom",
        "profile_oom",
        "sampler_oom",
        "no_kv_cache_memory",
        "graph_capture_oom",
        "runtime_oom",
    ),
    _SHARED,
)
"""The causes that another engine on the same card brings about, with the remedy that then comes first."""


def tell_starts(service: Service, index: int, found: Conclusion | None, earlier: Sequence[Conclusion | None]) -> str:
    """The starts before and after the one that was judged, as a piece of a sentence; empty when there was only one."""
    kept = len(service.ended)
    before = [one for one in earlier[:index] if one is not None]
    failed = len(before) + (service.dropped if before else 0)
    if found is None:
        return _tell_recovered(before, failed)
    number, total = index + 1 + service.dropped, service.count
    if index == kept and not failed:
        return ""
    alike = failed + 1 if all(one.cause == found.cause for one in before) else 0
    told = f"; this is start {number} of {total} in the log"
    if alike > 1:
        told += f": {alike} starts failed for this cause, a crash loop"
    elif before:
        causes = ", ".join(dict.fromkeys(one.cause for one in before))
        told += f"; {_plural(failed, 'earlier start')} failed ({causes})"
    return told if index == kept else f"{told}; start {total} had not ended where the log ends"


def tell_others(name: str, failed: Sequence[tuple[str, Cause]], running: Sequence[str]) -> str:
    """The other services of a log, as a piece of a sentence."""
    told = "".join(f"; service {other} failed, too ({cause})" for other, cause in failed)
    runs = f"; service {' and '.join(running)} came up" if running else ""
    if not told and not runs:
        return ""
    return f"; all this is of service {name}{told}{runs}" if name else told + runs


def _tell_recovered(before: Sequence[Conclusion], failed: int) -> str:
    if not before:
        return ""
    last = before[-1]
    line = f": {last.lines[0]}" if last.lines else ""
    return f"; {_plural(failed, 'earlier start')} had failed, the last one with {last.cause}{line}"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
