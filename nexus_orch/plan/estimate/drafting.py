"""How fast a request is answered where tokens are drafted: between none and all of them accepted."""

from __future__ import annotations

from nexus_orch.plan.asked.speculation import Speculation
from nexus_orch.plan.estimate.settled import Settled
from nexus_orch.plan.release.kept import measured


def speculation_notes(settled: Settled) -> tuple[str, ...]:
    """What speculation gives at least and at most. How many drafts are accepted depends on draft and text: no figure
    between the two is promised."""
    found = settled.draft.inputs.speculation
    if found is None:
        return ()
    unknown = "how many drafted tokens are accepted depends on the draft and the text, and is not known"
    seconds = _step_seconds(settled, found)
    if seconds is None:
        return (f"no speed is predicted: {unknown}",)
    most = 1 + found.tokens
    return (
        f"a step drafts {found.tokens} tokens and answers 1 to {most}: about {1 / seconds:.3g} to {most / seconds:.3g} "
        f"tokens/s for one request; {unknown}",
    )


def _step_seconds(settled: Settled, found: Speculation) -> float | None:
    """Seconds of a step of one request: its tokens verified in one pass, after a pass of the draft for each."""
    verified = settled.pace.step_seconds(1 + found.tokens)
    drafted = _draft_seconds(settled, found)
    return None if verified is None or drafted is None else verified + found.tokens * drafted


def _draft_seconds(settled: Settled, found: Speculation) -> float | None:
    """Seconds of one pass of the draft, which reads its weights and an output matrix; 0 where no model drafts."""
    draft, gpu = settled.draft, settled.draft.gpus[-1]
    weights = found.weights(
        draft.inputs.dtype_bytes, draft.parallelism.tensor_parallel, whole_segments=draft.generation.whole_segments
    )
    if weights is None and not found.extra_bytes:
        return 0.0
    if gpu.memory_bandwidth_bytes_per_second is None or weights is None:
        return None
    constants = measured("throughput")
    owns_head = any("lm_head" in part.name for part in (found.architecture.head if found.architecture else ()))
    head = weights.active_fixed_bytes if owns_head else draft.weights.stages[-1].active_fixed_bytes
    read = (weights.active_bytes + head) / (gpu.memory_bandwidth_bytes_per_second * constants["hbm_efficiency"])
    return float(read + len(weights.layer_bytes) * constants["waiting_seconds_per_layer"])
