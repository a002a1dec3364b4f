"""Routed experts leave the cards first, and what a user pins about parameters and amounts is done or refused."""

from __future__ import annotations

from typing import Any

import pytest

from nexus_orch.cli import main
from nexus_orch.types import GIB, Plan
from tests.plan.cases import make_gpu, plan_of
from tests.plugins.plans import render

MOE, DENSE = "Qwen/Qwen3-30B-A3B", "Qwen/Qwen2.5-14B-Instruct"
CARD = make_gpu()
MANY = {"ram_gib": 256}


def _moe(settings: dict[str, Any] | None = None, **facts: Any) -> Plan:
    return plan_of(MOE, CARD, settings=settings, **{**MANY, **facts})


def test_only_experts_leave_where_the_release_can_choose() -> None:
    plan = _moe()
    assert plan.settings["memory.offload_params"] == ("experts",)
    argv = render(plan, "0.32.0").argv
    assert argv[argv.index("--cpu-offload-params") + 1] == "experts"


def test_one_token_reads_less_over_the_bus_than_without_the_choice() -> None:
    """Before 0.19.1 whole layers leave in order, their attention with them, which every token reads."""
    chosen, in_order = _moe(), _moe(version="0.16.0")
    assert "memory.offload_params" not in in_order.settings
    fast, slow = (plan.prediction.decode_tokens_per_second for plan in (chosen, in_order))
    assert fast is not None
    assert slow is not None
    assert fast > 1.2 * slow


def test_when_experts_are_not_enough_everything_may_leave() -> None:
    """They hold 54 GiB."""
    settings = {"memory.strategy": "hybrid", "memory.offload_backend": "uva"}
    fewer, more = (_moe({**settings, "memory.cpu_offload_gib": gib}) for gib in (50.0, 55.0))
    assert fewer.settings["memory.offload_params"] == ("experts",)
    assert "memory.offload_params" not in more.settings
    assert more.per_gpu[0].offloaded_bytes >= 55 * GIB


def test_dense_models_have_no_such_choice() -> None:
    assert "memory.offload_params" not in plan_of(DENSE, CARD).settings


@pytest.mark.parametrize("backend", ["uva", "prefetch"])
def test_pinned_parameters_reach_the_option_of_the_backend(backend: str) -> None:
    wanted = ("experts.w2_weight", "mlp.gate_up_proj")
    plan = _moe({"memory.offload_backend": backend, "memory.offload_params": wanted, "memory.cpu_offload_gib": 8.0})
    choice = plan.choice("memory.offload_params")
    assert choice is not None
    assert (choice.value, choice.origin) == (wanted, "pinned")
    flag = "--cpu-offload-params" if backend == "uva" else "--offload-params"
    argv = render(plan, "0.32.0").argv
    at = argv.index(flag)
    assert argv[at + 1 : at + 3] == wanted


@pytest.mark.parametrize(
    ("wanted", "word"),
    [(("expert",), "did you mean experts?"), (("w2",), "w2_weight?"), (("zzz",), "whole segments count")],
)
def test_a_name_that_matches_nothing_gets_the_nearest(wanted: tuple[str, ...], word: str) -> None:
    plan = _moe({"memory.strategy": "hybrid", "memory.offload_params": wanted, "memory.cpu_offload_gib": 8.0})
    (problem,) = plan.problems
    assert problem.key == "memory.offload_params"
    assert f'"{wanted[0]}"' in problem.message
    assert problem.remedy is not None
    assert word in problem.remedy


def test_releases_that_cannot_choose_say_so() -> None:
    settings = {"memory.strategy": "hybrid", "memory.offload_params": ("experts",), "memory.cpu_offload_gib": 8.0}
    plan = _moe(settings, version="0.16.0")
    assert any("0.17.0 and later can" in problem.message for problem in plan.problems)


@pytest.mark.parametrize("backend", ["uva", "prefetch"])
def test_more_than_the_layers_hold_is_refused_with_their_size(backend: str) -> None:
    settings = {"memory.strategy": "hybrid", "memory.cpu_offload_gib": 40.0, "memory.offload_backend": backend}
    plan = plan_of(DENSE, CARD, settings=settings, **MANY)
    problem = next(problem for problem in plan.problems if problem.key == "memory.cpu_offload_gib")
    assert not plan.fits
    assert "24.61 GiB" in problem.message
    assert problem.remedy is not None
    most = float(problem.remedy.split("=")[1].split()[0])
    assert not any(
        problem.key == "memory.cpu_offload_gib"
        for problem in plan_of(DENSE, CARD, settings={**settings, "memory.cpu_offload_gib": most}, **MANY).problems
    )


def test_a_tower_leaves_first_from_0_29_on() -> None:
    """Tokens of text read nothing of it: the first bytes cost no bus at all."""
    name = "Qwen/Qwen2.5-VL-7B-Instruct"
    settings = {"memory.strategy": "hybrid", "memory.offload_backend": "uva", "memory.cpu_offload_gib": 1.0}
    old, new = (plan_of(name, CARD, settings=settings, version=version) for version in ("0.28.0", "0.32.0"))
    assert old.per_gpu[0].offloaded_bytes >= GIB <= new.per_gpu[0].offloaded_bytes
    slow, fast = old.prediction.decode_tokens_per_second, new.prediction.decode_tokens_per_second
    assert slow is not None
    assert fast is not None
    assert fast > slow


def test_prefetch_is_left_alone_where_its_second_copy_does_not_fit() -> None:
    """From 0.29 on loading pins everything twice: what 12 GiB of RAM cannot hold, UVA reads in place."""
    work = {"model.max_model_len": 4096}
    little, much = (plan_of(DENSE, CARD, settings=work, ram_gib=ram) for ram in (12, 256))
    assert much.settings["memory.offload_backend"] == "prefetch"
    assert little.settings["memory.offload_backend"] == "uva"
    choice = little.choice("memory.offload_backend")
    assert choice is not None
    assert "copying ahead would take" in choice.reason
    before, after = (plan_of(DENSE, CARD, settings=work, ram_gib=256, version=name) for name in ("0.28.0", "0.30.0"))
    assert before.host.pinned_bytes < 0.7 * after.host.pinned_bytes
    assert before.host.loading_bytes == before.per_gpu[0].offloaded_bytes


def test_every_rank_offloads_for_its_own_card() -> None:
    """Two stages on unlike cards: one number for both, and each card has room."""
    cards = (make_gpu(), make_gpu(total_bytes=16 * GIB, free_bytes=int(15.8 * GIB)))
    settings = {"serve.pipeline_parallel": 2, "memory.strategy": "hybrid", "memory.offload_backend": "uva"}
    plan = plan_of("Qwen/Qwen2.5-32B-Instruct", *cards, settings=settings, **MANY)
    assert plan.fits
    assert len({card.budget_bytes for card in plan.per_gpu}) == 2
    for card in plan.per_gpu:
        assert card.weights_bytes + card.kv_cache_bytes + card.activation_bytes <= card.budget_bytes


MISTAKES = [
    ("memory.cpu_offload_gib=500", "a card's layers hold 24.61 GiB", "memory.cpu_offload_gib=24.61 or less"),
    ("memory.offload_params=[expert]", 'has the segment "expert"', "those of this model: mlp, "),
    ("memory.offload_params=[experts]", 'has the segment "experts"', "those of this model: mlp, "),
    ("memory.offload_params=[experts]", 'has the segment "experts"', "or memory.offload_params=auto"),
]


@pytest.mark.parametrize(("pin", "message", "remedy"), MISTAKES)
def test_what_no_memory_would_mend_is_a_mistake(
    pin: str, message: str, remedy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "hardware=rtx4090", "model=qwen14b", "memory=hybrid", pin]) == 2
    told = " ".join(capsys.readouterr().out.split())
    assert told.startswith("refused: qwen14b")
    assert "does not fit" not in told
    assert f"{pin.replace('=', ' = ')} (command line)" in told
    assert message in told and remedy in told
    assert "such as experts" not in told


@pytest.mark.parametrize("command", [["plan"], ["export", "--as", "shell"], ["engine", "check"]])
def test_every_command_takes_it_for_a_mistake(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    run = ["hardware=rtx4090", "model=qwen14b", "memory=hybrid", "memory.cpu_offload_gib=500"]
    assert main([*command, *run]) == 2
    assert "there is no more to offload" in " ".join("".join(capsys.readouterr()).split())


def test_a_lack_of_memory_is_no_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "hardware=rtx4090", "model=qwen14b", "memory=vram_only"]) == 3
    assert capsys.readouterr().out.startswith("does not fit")


def test_the_named_parameters_are_too_few_for_the_pinned_amount(capsys: pytest.CaptureFixture[str]) -> None:
    pins = ["memory.cpu_offload_gib=30", "memory.offload_params=[mlp]"]
    assert main(["plan", "hardware=rtx4090", "model=qwen14b", "memory=hybrid", *pins]) == 2
    told = " ".join(capsys.readouterr().out.split())
    assert "the parameters of a card that memory.offload_params=[mlp] names hold 18.98 GiB" in told


def test_a_backend_that_the_release_lacks_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    run = ["plan", "hardware=rtx4090", "model=qwen14b", "memory=hybrid", "engine.version=0.16.0"]
    assert main([*run, "memory.offload_backend=prefetch"]) == 2
    assert capsys.readouterr().out.startswith("refused: ")
