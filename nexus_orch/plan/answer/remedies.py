"""What would make a plan fit: more cards, a shorter context, weights in host RAM; each tried out, with its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from nexus_orch.contracts import Loader, name_strategy
from nexus_orch.plan.asked.inputs import Inputs
from nexus_orch.plan.cards.parallel import choose_division
from nexus_orch.plan.search.attempts import Attempt, Trials, attempt
from nexus_orch.plan.search.loaders import list_by_order
from nexus_orch.types import GIB

MORE_CARDS = (1, 2, 3, 4, 6, 8, 12, 15)
"""How many further cards are tried, up to the next that makes sense."""


def find_remedies(inputs: Inputs, failed: Attempt, loaders: Mapping[str, Loader]) -> str:
    """One sentence with the ways that were found; a plain hint when there is none."""
    found = [
        remedy
        for remedy in (
            _more_cards(inputs, loaders[failed.loader]),
            _shorter(failed),
            _another(inputs, failed, loaders),
        )
        if remedy is not None
    ]
    if not found:
        return "choose a smaller or more strongly quantized model"
    return f"fits with {', or '.join(found)}"


def _more_cards(inputs: Inputs, loader: Loader) -> str | None:
    """The least number of further equal cards, when the user did not pin how the model is divided."""
    serve, machine = inputs.spec.serve, inputs.facts.machine
    if serve.tensor_parallel is not None or serve.pipeline_parallel is not None:
        return None
    have = len(machine.gpus)
    for more in MORE_CARDS:
        extra = tuple(replace(machine.gpus[-1], index=have + number) for number in range(more))
        facts = replace(inputs.facts, machine=replace(machine, gpus=(*machine.gpus, *extra)))
        larger = replace(inputs, facts=facts, wishes=inputs.wishes.by_estimates())
        division = choose_division(larger)
        if not division.problems and division.ranks > have and attempt(Trials(larger, division), loader).is_comfortable:
            return f"{more} more card{'' if more == 1 else 's'}"
    return None


def _shorter(failed: Attempt) -> str | None:
    """A context that fits even at the low end of the estimate: a remedy must hold when it is taken."""
    longest = failed.settled.surely_longest
    pinned = failed.settled.draft.inputs.spec.model.max_model_len
    if pinned is None or longest <= 0 or longest >= pinned or min(failed.settled.kv) <= 0:
        return None
    return f"max_model_len <= {longest:,}"


def _another(inputs: Inputs, failed: Attempt, loaders: Mapping[str, Loader]) -> str | None:
    """Another loader that keeps part of the weights in host RAM, with its price."""
    for loader in list_by_order(loaders):
        if loader.name == failed.loader or loader.supports(inputs.spec, inputs.facts) is not None:
            continue
        other = attempt(Trials(inputs, failed.settled.draft.division), loader)
        surely = other.fits and not other.settled.is_borderline
        if not surely or not other.settled.offloads or not other.settled.fits_host:
            continue
        moved = sum(other.settled.placement.offloaded_bytes) / GIB
        seconds = other.settled.pace.step_seconds()
        speed = f" at about {1 / seconds:.1f} tokens/s" if seconds else ""
        return f"{name_strategy(loader)}: {moved:.1f} GiB to host RAM{speed}"
    return None
