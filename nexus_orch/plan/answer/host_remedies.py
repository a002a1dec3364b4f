"""What would make a run fit into the host's RAM, each tried out: another mechanism, a shorter context, more cards."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from nexus_orch.contracts import Loader
from nexus_orch.plan.asked.inputs import Inputs
from nexus_orch.plan.asked.wishes import Wishes, with_value
from nexus_orch.plan.cards.parallel import choose_division
from nexus_orch.plan.search.attempts import Attempt, Trials, attempt
from nexus_orch.types import GIB, HostEstimate

BACKEND = "memory.offload_backend"
SHORTEST_CONTEXT = 1024
MORE_CARDS = (1, 2, 3, 4, 6, 8)


def find_host_remedy(inputs: Inputs, failed: Attempt, loader: Loader, estimate: HostEstimate) -> str:
    """One sentence with the ways that were found; more RAM is always one."""
    short = estimate.required_bytes - estimate.available_bytes
    ways = [*_other_backend(inputs, loader), *_shorter(inputs, failed, loader), *_more_cards(inputs, loader)]
    if short > 0:
        total = inputs.facts.machine.host.ram_total_bytes + short
        ways.append(f"{math.ceil(short / GIB * 10) / 10:.1f} GiB more RAM (in all {math.ceil(total / GIB)} GiB)")
    return f"fits with {', or '.join(ways)}" if ways else "choose a smaller or more strongly quantized model"


def _other_backend(inputs: Inputs, loader: Loader) -> Iterator[str]:
    """The choice of the mechanism left to the planner: reading in place takes no copies while loading."""
    if inputs.spec.memory.offload_backend is None:
        return
    spec = with_value(inputs.wishes.original, BACKEND, None)
    if _holds(replace(inputs, wishes=Wishes(spec, tuple(inputs.wishes.lessons.values()))), loader):
        yield f"{BACKEND}=auto"


def _shorter(inputs: Inputs, failed: Attempt, loader: Loader) -> Iterator[str]:
    """The longest context, by halves of the wanted one, whose offload the RAM holds."""
    want = failed.settled.draft.want
    length = want.context // 2
    while length >= max(SHORTEST_CONTEXT, want.request_tokens):
        spec = with_value(inputs.wishes.original, "model.max_model_len", length)
        shorter = replace(inputs, wishes=Wishes(spec, tuple(inputs.wishes.lessons.values())))
        if _holds(shorter, loader):
            yield f"model.max_model_len={length}"
            return
        length //= 2


def _more_cards(inputs: Inputs, loader: Loader) -> Iterator[str]:
    """The least number of further equal cards, where the user did not pin how the model is divided."""
    serve, machine = inputs.spec.serve, inputs.facts.machine
    if serve.tensor_parallel is not None or serve.pipeline_parallel is not None:
        return
    have = len(machine.gpus)
    free = machine.host.ram_available_bytes + sum(gpu.free_bytes for gpu in machine.gpus)
    for more in MORE_CARDS:
        if free + more * machine.gpus[-1].free_bytes < inputs.whole.total_bytes:
            continue  # not even room for the weights anywhere
        extra = tuple(replace(machine.gpus[-1], index=have + number) for number in range(more))
        facts = replace(inputs.facts, machine=replace(machine, gpus=(*machine.gpus, *extra)))
        larger = replace(inputs, facts=facts, wishes=inputs.wishes.by_estimates())
        if choose_division(larger).ranks > have and _holds(larger, loader):
            yield f"{more} more card{'' if more == 1 else 's'}"
            return


def _holds(inputs: Inputs, loader: Loader) -> bool:
    """Whether a run of these inputs fits on its cards and into the RAM."""
    division = choose_division(inputs)
    if division.problems:
        return False
    tried = attempt(Trials(inputs, division), loader)
    return tried.is_comfortable and tried.settled.fits_host
