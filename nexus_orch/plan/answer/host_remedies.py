"""What would make a run fit into the host's RAM, each tried out: another mechanism or strategy, a shorter
context, more cards."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from nexus_orch.contracts import Loader
from nexus_orch.plan.answer.remedies import find_more_cards, find_strategy, name_ways
from nexus_orch.plan.asked.inputs import Inputs
from nexus_orch.plan.search.trials import LoaderTrial, try_variation
from nexus_orch.plan.search.variations import Base, let_go, vary
from nexus_orch.types import GIB, HostEstimate, Variation

BACKEND = "memory.offload_backend"
SHORTEST_CONTEXT = 1024


def find_host_remedy(inputs: Inputs, failed: LoaderTrial, loaders: Mapping[str, Loader], estimate: HostEstimate) -> str:
    """One sentence with the ways to fit into the host's RAM that were found; more RAM is one where the run takes more
    than there is."""
    loader = loaders[failed.loader]
    base = Base(inputs.fixed.original, inputs.facts)
    contexts = vary("context", base, _halves(failed))
    backend = _first(inputs, loader, let_go(base, [(BACKEND,)]))  # reading in place takes no copies while loading
    ways = [backend, find_strategy(inputs, failed, loaders), _first(inputs, loader, contexts)]
    ways.append(find_more_cards(inputs, loader, _fits))
    short = estimate.required_bytes - estimate.available_bytes
    if short > 0:
        total = inputs.facts.machine.host.ram_total_bytes + short
        ways.append(f"{math.ceil(short / GIB * 10) / 10:.1f} GiB more RAM (in all {math.ceil(total / GIB)} GiB)")
    return name_ways(ways)


def _halves(failed: LoaderTrial) -> Iterable[int]:
    """Half the wanted context, a quarter of it ..., as long as a request of the workload fits."""
    target = failed.settled.draft.target
    length = target.context // 2
    while length >= max(SHORTEST_CONTEXT, target.request_tokens):
        yield length
        length //= 2


def _first(inputs: Inputs, loader: Loader, variations: Iterable[Variation]) -> str | None:
    """The first of the changes with which the run fits on its cards and into the RAM, in words."""
    for variation in variations:
        tried = try_variation(inputs, variation, loader)
        if tried is not None and _fits(tried):
            return variation.change
    return None


def _fits(tried: LoaderTrial) -> bool:
    return tried.is_comfortable and tried.settled.fits_host
