"""Engines that share the cards of one run: data parallelism, which only extra arguments ask for. Pure."""

from __future__ import annotations

from nexus_orch.adapt.arguments import read_arguments
from nexus_orch.errors import Problem
from nexus_orch.types import Facts, Plan, RunSpec

_LOCAL, _ALL = "--data-parallel-size-local", "--data-parallel-size"
_RANK = "serve.tensor_parallel", "serve.pipeline_parallel"


def check_replicas(spec: RunSpec, facts: Facts, plan: Plan) -> Problem | None:
    """Why the engines together want more cards than there are: each takes tensor x pipeline of them
    (vllm/config/parallel.py: `world_size_across_dp`)."""
    given = {
        option.flag.name: option.values[0]
        for option in read_arguments(spec.serve.extra_args, facts.engine).options
        if option.flag is not None and option.values
    }
    text = given.get(_LOCAL) or given.get(_ALL, "1")
    engines = int(text) if text.isdecimal() and len(text) < 6 else 1
    each, cards = 1, len(facts.machine.gpus)
    for key in _RANK:
        choice = plan.choice(key)
        each *= choice.value if choice is not None and isinstance(choice.value, int) else 1
    if engines == 1 or cards == 0 or engines * each <= cards:
        return None
    remedy = f"serve.tensor_parallel={cards // engines}" if cards >= engines else f"{_ALL} {max(1, cards // each)}"
    return Problem(
        f"{engines} engines of {each} cards each need {engines * each} cards, and there are {cards}",
        "serve.extra_args",
        f"{_LOCAL if _LOCAL in given else _ALL} {text}",
        spec.origin("serve.extra_args"),
        remedy,
        "not_enough_gpus",
    )
