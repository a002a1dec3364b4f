"""What would make a plan fit: more cards, a shorter context, weights in host RAM; each tried out, with its numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from nexus_orch.contracts import Loader, name_strategy
from nexus_orch.plan.asked.inputs import Inputs
from nexus_orch.plan.search.strategy import contradicts, list_by_order
from nexus_orch.plan.search.trials import LoaderTrial, try_variation
from nexus_orch.plan.search.variations import Base, vary
from nexus_orch.types import GIB

NOTHING_HELPS = "choose a smaller or more strongly quantized model"


def find_remedies(inputs: Inputs, failed: LoaderTrial, loaders: Mapping[str, Loader]) -> str:
    """One sentence with the changes that were found to make the run fit; a plain hint when there is none."""
    more = find_more_cards(inputs, loaders[failed.loader], lambda tried: tried.is_comfortable)
    return name_ways([more, _shorter(failed), find_strategy(inputs, failed, loaders)])


def name_ways(ways: list[str | None]) -> str:
    """One sentence with the ways that there are."""
    found = [way for way in ways if way is not None]
    return f"fits with {', or '.join(found)}" if found else NOTHING_HELPS


def find_more_cards(inputs: Inputs, loader: Loader, is_enough: Callable[[LoaderTrial], bool]) -> str | None:
    """The least number of further equal cards, in words, with which the run is good enough and uses all of them."""
    machine = inputs.facts.machine
    free = machine.host.ram_available_bytes + sum(gpu.free_bytes for gpu in machine.gpus)
    for variation in vary("more_cards", Base(inputs.spec, inputs.facts)):
        if free + variation.more_cards * machine.gpus[-1].free_bytes < inputs.whole.total_bytes:
            continue  # not even room for the weights anywhere
        tried = try_variation(inputs, variation, loader)
        if tried is not None and tried.settled.draft.parallelism.ranks > len(machine.gpus) and is_enough(tried):
            return variation.change
    return None


def _shorter(failed: LoaderTrial) -> str | None:
    """The longest context, in words, that fits even at the low end of the estimate: a remedy must hold when it is
    taken."""
    longest = failed.settled.surely_longest
    pinned = failed.settled.draft.inputs.spec.model.max_model_len
    if pinned is None or longest <= 0 or longest >= pinned or min(failed.settled.kv) <= 0:
        return None
    return f"max_model_len <= {longest:,}"


def find_strategy(inputs: Inputs, failed: LoaderTrial, loaders: Mapping[str, Loader]) -> str | None:
    """Another strategy that keeps part of the weights in host RAM and fits, as an override with its price."""
    others = [loader for loader in list_by_order(loaders) if loader.name != failed.loader]
    for loader in others:
        (variation,) = vary("strategy", Base(inputs.spec, inputs.facts), [loader.name])
        changed = inputs.varied(variation)
        if contradicts(loader, changed.spec) or loader.supports(changed.spec, inputs.facts) is not None:
            continue
        tried = try_variation(inputs, variation, loader)
        surely = tried is not None and tried.fits and not tried.settled.is_borderline
        if tried is None or not surely or not tried.settled.offloads or not tried.settled.fits_host:
            continue
        moved = sum(tried.settled.placement.offloaded_bytes) / GIB
        seconds = tried.settled.pace.step_seconds()
        speed = f" at about {1 / seconds:.1f} tokens/s" if seconds else ""
        return f"{name_strategy(loader)}: {moved:.1f} GiB to host RAM{speed}"
    return None
