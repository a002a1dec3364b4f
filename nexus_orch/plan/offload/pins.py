"""What a user pinned about offloading that cannot be done: refused with the model's own numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nexus_orch.contracts import Need
from nexus_orch.errors import Problem, render_value
from nexus_orch.plan.offload.parameters import RankParts, find_unmatched, main_segments
from nexus_orch.plan.release.offloading import has_prefetch
from nexus_orch.releases.host_ram import prefetches
from nexus_orch.types import GIB, Facts, RunSpec

PARAMS_KEY = "memory.offload_params"
AMOUNT_KEY = "memory.cpu_offload_gib"


def judge_pins(needs: Sequence[Need], ranks: Sequence[RankParts], spec: RunSpec, facts: Facts) -> tuple[Problem, ...]:
    """Problems with the pinned amount and the pinned parameters; `ranks` hold the parameters that match."""
    return (*_judge_params(needs, spec, facts), *_judge_amount(ranks, spec))


def _judge_params(needs: Sequence[Need], spec: RunSpec, facts: Facts) -> Iterator[Problem]:
    wanted = spec.memory.offload_params
    if not wanted:
        return
    if not has_prefetch(facts):
        yield Problem(
            f"vLLM {facts.engine.version} cannot choose which parameters it offloads ({prefetches.span} can)",
            PARAMS_KEY,
            list(wanted),
            spec.origin(PARAMS_KEY),
            f"{PARAMS_KEY}=auto",
            "offload_unsupported",
            is_mistake=True,
        )
        return
    for name, question in find_unmatched(needs, wanted).items():
        segments = ", ".join(main_segments(needs))
        yield Problem(
            f'no parameter of the model\'s layers has the segment "{name}": nothing would be offloaded by it',
            PARAMS_KEY,
            list(wanted),
            spec.origin(PARAMS_KEY),
            f"{question} whole segments count; those of this model: {segments}; or {PARAMS_KEY}=auto".lstrip(),
            is_mistake=True,
        )


def _judge_amount(ranks: Sequence[RankParts], spec: RunSpec) -> Iterator[Problem]:
    pinned = spec.memory.cpu_offload_gib
    most = max((rank.bytes for rank in ranks), default=0)
    if pinned is None or not most or pinned * GIB <= most:
        return
    whole = most // (GIB // 100) / 100
    wanted = spec.memory.offload_params
    what = f"the parameters of a card that {PARAMS_KEY}={render_value(wanted)} names" if wanted else "a card's layers"
    yield Problem(
        f"{what} hold {most / GIB:.2f} GiB: there is no more to offload",
        AMOUNT_KEY,
        pinned,
        spec.origin(AMOUNT_KEY),
        f"{AMOUNT_KEY}={whole:g} or less, or {AMOUNT_KEY}=auto for the least that makes room",
        is_mistake=True,
    )
