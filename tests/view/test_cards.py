"""The bars of the cards: equal ones once, under the numbers that nvidia-smi gives them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rich.console import Console

from nexus_orch.plan.make import make_plan
from nexus_orch.view.cards import render_cards
from tests.plan.cases import LOADERS, make_facts, make_gpu, make_spec


@pytest.mark.parametrize(
    ("indices", "title"),
    [
        ((3,), "GPU 3 "),
        ((0, 5, 7, 3), "GPU 0 and 5 and 7 and 3 "),
        ((0, 1), "GPU 0 and 1 "),
        ((4, 5, 6, 7), "GPU 4 to 7 "),
        ((6, 4), "GPU 6 and 4 "),
    ],
)
def test_cards_have_the_numbers_of_the_machine(indices: tuple[int, ...], title: str) -> None:
    facts = make_facts("Qwen/Qwen2.5-7B-Instruct", *[make_gpu()] * len(indices))
    gpus = tuple(replace(make_gpu(), index=index) for index in indices)
    spec = make_spec({"serve.tensor_parallel": len(indices)})
    plan = make_plan(spec, replace(facts, machine=replace(facts.machine, gpus=gpus)), LOADERS)
    console = Console(width=80)
    with console.capture() as said:
        for part in render_cards(plan, 80, ascii_only=True):
            console.print(part)
    assert next(line for line in said.get().splitlines() if line.startswith("GPU")).startswith(title)
    assert said.get().count("the engine may use") == 1
