"""What forbids a launch although the plan is good: another machine, no engine, files that it cannot read."""

from __future__ import annotations

from nexus_orch.adapt.models import check_gguf
from nexus_orch.errors import ConfigError, NexusError, PlanError, Problem
from nexus_orch.session.prepare import Preparation
from nexus_orch.types import MachineFacts


def refusal_of(preparation: Preparation) -> NexusError | None:
    """Why this run must not be launched here, None when it may be."""
    if preparation.refusals:
        return ConfigError(*preparation.refusals)
    if not preparation.plan.fits:
        return PlanError(*preparation.plan.problems)
    machine = preparation.facts.machine
    if not machine.is_this_machine:
        return PlanError(_describe_other_machine(machine))
    not_ready = preparation.provider.why_not_ready(preparation.spec, preparation.facts)
    if not_ready is not None:
        return ConfigError(not_ready)
    if preparation.facts.model.missing_weights:
        return ConfigError(*preparation.facts.model.missing_weights)
    unreadable = check_gguf(preparation.spec, preparation.facts)
    return None if unreadable is None else ConfigError(unreadable)


def _describe_other_machine(machine: MachineFacts) -> Problem:
    wanted = f"{len(machine.gpus)} x {machine.gpus[0].name}" if machine.gpus else "other hardware"
    return Problem(
        f"this machine does not have {wanted}",
        key="hardware",
        value=machine.name,
        remedy="run it on that machine, or use hardware=auto (what this one has: nexus doctor); "
        "`nexus plan` plans for any hardware",
        cause="not_enough_gpus",
    )
