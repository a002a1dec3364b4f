"""How a model is divided among the cards: links, objectives, cards that differ, layers of each stage."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nexus_orch.plan.asked.inputs import Inputs, read_inputs
from nexus_orch.plan.cards.interconnect import PipelineStage, estimate_cost, has_nvlink
from nexus_orch.plan.cards.partition import PipelineMemory, choose_partition
from nexus_orch.plan.make import make_plan
from nexus_orch.types import GIB, GpuFacts, GpuSpec, HardwareSpec, Lesson, Plan, RunSpec, WorkloadSpec
from tests.plan.cases import LOADERS, make_facts, make_gpu, make_spec

L8, L70 = "meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-70B-Instruct"
Q14, Q32 = "Qwen/Qwen2.5-14B-Instruct", "Qwen/Qwen2.5-32B-Instruct"
BIG = make_gpu()
SMALL = make_gpu(
    name="RTX 4060 Ti",
    total_bytes=int(15.6 * GIB),
    free_bytes=int(15.4 * GIB),
    memory_bandwidth_bytes_per_second=288e9,
    host_bandwidth_bytes_per_second=12e9,
    fp16_flops=44e12,
)
L40S = make_gpu(
    name="L40S",
    total_bytes=int(44.5 * GIB),
    free_bytes=int(44.2 * GIB),
    memory_bandwidth_bytes_per_second=864e9,
    host_bandwidth_bytes_per_second=24e9,
    fp16_flops=362e12,
)
PROMPTS = {"concurrency": 64, "input_tokens": 8000, "output_tokens": 100}


def _plan(
    model: str,
    *gpus: GpuFacts,
    work: dict[str, Any] | None = None,
    settings: dict[str, Any] | None = None,
    devices: tuple[int, ...] | None = None,
    lessons: tuple[Lesson, ...] = (),
    **facts: Any,
) -> Plan:
    spec: RunSpec = replace(make_spec(settings), workload=WorkloadSpec(**(work or {})))
    if devices is not None:
        spec = replace(spec, hardware=HardwareSpec(gpu=GpuSpec(devices=devices)))
    return make_plan(spec, make_facts(model, *gpus, **facts), LOADERS, lessons)


def _shape(plan: Plan) -> tuple[int, int]:
    settings = plan.settings
    return settings.get("serve.tensor_parallel", 1), settings.get("serve.pipeline_parallel", 1)


def _reason(plan: Plan, key: str) -> str:
    choice = plan.choice(key)
    assert choice is not None
    return choice.reason


def _inputs(model: str, *gpus: GpuFacts, work: dict[str, Any] | None = None) -> Inputs:
    spec = replace(make_spec(), workload=WorkloadSpec(**(work or {})))
    return read_inputs(spec, make_facts(model, *gpus), ())


def test_nvlink_divides_every_layer_among_all_cards() -> None:
    plan = _plan(L70, *[replace(L40S, nvlink=True)] * 4, work=PROMPTS)
    assert _shape(plan) == (4, 1)
    assert "NVLink joins them" in _reason(plan, "serve.tensor_parallel")


@pytest.mark.parametrize(
    ("work", "shape", "words"),
    [
        (PROMPTS, (1, 4), "no NVLink, and"),
        ({**PROMPTS, "objective": "latency"}, (4, 1), "a request takes about"),
        ({"objective": "latency"}, (4, 1), "without NVLink: all-reduces take about"),
        ({}, (4, 1), "a request takes the cards about"),
    ],
)
def test_without_nvlink_the_objective_and_the_workload_decide(
    work: dict[str, Any], shape: tuple[int, int], words: str
) -> None:
    plan = _plan(L70, *[L40S] * 4, work=work)
    assert _shape(plan) == shape
    assert words in _reason(plan, "serve.tensor_parallel")


def test_nothing_is_compared_where_a_speed_is_not_known() -> None:
    unknown = replace(L40S, host_bandwidth_bytes_per_second=None)
    plan = _plan(L70, *[unknown] * 4, work=PROMPTS)
    assert (_shape(plan), _reason(plan, "serve.tensor_parallel")) == (
        (4, 1),
        "all 4 cards: 64 attention heads divide evenly",
    )


def test_weights_in_host_ram_come_over_every_cards_bus() -> None:
    plan = _plan(Q32, BIG, BIG, work=PROMPTS)
    assert (plan.loader, _shape(plan)) == ("hybrid", (2, 1))
    assert "each brings its bus" in _reason(plan, "serve.tensor_parallel")


@pytest.mark.parametrize(
    ("cards", "joined"),
    [
        ([replace(BIG, nvlink=True)] * 8, True),
        ([replace(BIG, nvlink=True, nvlink_is_bridge=True)] * 2, True),
        ([replace(BIG, nvlink=True, nvlink_is_bridge=True)] * 4, False),
        ([replace(BIG, nvlink=None, nvlink_is_bridge=True)] * 2, False),
        ([replace(BIG, nvlink=True), BIG], False),
        ([replace(BIG, nvlink=True)], False),
    ],
)
def test_a_bridge_joins_two_cards_and_counts_once_it_was_seen(cards: list[GpuFacts], joined: bool) -> None:
    assert has_nvlink(cards) is joined


def test_all_reduces_cost_what_their_bytes_and_their_number_say() -> None:
    """80 layers twice, 25 us and 2 x 3/4 x 16 KiB over half of 24 GB/s each."""
    inputs = _inputs(L70, *[L40S] * 4)
    cost = estimate_cost(inputs, [PipelineStage((L40S,) * 4, 1.0)])
    assert cost is not None
    assert cost.token_exchange == pytest.approx(160 * (25e-6 + 1.5 * 16384 / 12e9))
    staged = estimate_cost(inputs, [PipelineStage((L40S,), 0.25)] * 4)
    assert staged is not None
    assert staged.token_exchange == 0
    assert staged.alone > 2 * cost.alone


def test_cards_of_other_sizes_make_stages_of_other_lengths() -> None:
    plan = _plan(Q14, BIG, SMALL)
    first, second = plan.settings["serve.pipeline_partition"]
    assert (_shape(plan), plan.fits, plan.loader, first + second) == ((1, 2), True, "vram_only", 48)
    assert first > 1.4 * second
    assert plan.per_gpu[0].weights_bytes > 1.4 * plan.per_gpu[1].weights_bytes
    assert "24 + 24 layers hold 0" in _reason(plan, "serve.pipeline_partition")
    even = _plan(Q14, BIG, SMALL, settings={"serve.pipeline_partition": (24, 24), "memory.strategy": "vram_only"})
    assert not even.fits or even.prediction.borderline


def test_the_larger_card_comes_first_whatever_its_number() -> None:
    plan = _plan(Q14, SMALL, BIG)
    assert plan.settings["hardware.gpu.devices"] == (1, 0)
    assert plan.settings["hardware.gpu.device_order"] == "PCI_BUS_ID"
    assert [card.total_bytes for card in plan.per_gpu] == [BIG.total_bytes, SMALL.total_bytes]


def test_a_card_that_only_hurts_is_left_out() -> None:
    plan = _plan(L8, SMALL, BIG)
    assert (plan.settings["hardware.gpu.devices"], _shape(plan), len(plan.per_gpu)) == ((1,), (1, 1), 1)
    assert "GPU 0 (RTX 4060 Ti, 16 GiB) left out" in _reason(plan, "hardware.gpu.devices")
    alone = _plan(L8, BIG)
    assert plan.prediction.decode_tokens_per_second == alone.prediction.decode_tokens_per_second


def test_context_takes_every_card_that_adds_room() -> None:
    plan = _plan(L8, SMALL, BIG, work={"objective": "context"})
    assert plan.settings["hardware.gpu.devices"] == (1, 0)
    assert plan.kv_cache_tokens > 2 * _plan(L8, BIG).kv_cache_tokens


def test_pinned_cards_are_all_used_in_their_order() -> None:
    plan = _plan(L8, SMALL, BIG, devices=(0, 1))
    assert plan.settings["hardware.gpu.devices"] == (0, 1)
    choice = plan.choice("hardware.gpu.devices")
    assert choice is not None
    assert choice.origin == "pinned"
    assert len(plan.per_gpu) == 2


def test_a_busy_card_of_several_is_passed_over() -> None:
    plan = _plan("Qwen/Qwen2.5-0.5B-Instruct", replace(BIG, free_bytes=22 * GIB), BIG)
    assert plan.settings["hardware.gpu.devices"] == (1,)
    assert _reason(plan, "hardware.gpu.devices") == "the cards with the most free memory"
    idle = _plan("Qwen/Qwen2.5-0.5B-Instruct", BIG, BIG)
    assert idle.choice("hardware.gpu.devices") is None


def _among_others(indices: tuple[int, ...], seen: tuple[int, ...], env: dict[str, str] | None = None) -> Plan:
    facts, spec = make_facts(L8, BIG), make_spec()
    cards = tuple(replace(BIG, index=index) for index in indices)
    machine = replace(facts.machine, gpus=cards, visible_gpus=seen)
    spec = replace(spec, engine=replace(spec.engine, env=env or {}))
    return make_plan(spec, replace(facts, machine=machine), LOADERS)


def test_cards_behind_others_are_named_to_the_engine() -> None:
    """Otherwise it would take the first ones that CUDA counts; one rank takes the first of those that are named."""
    plan = _among_others((1, 2), (0, 1, 2))
    assert plan.settings["hardware.gpu.devices"] == (1, 2)
    assert plan.settings["hardware.gpu.device_order"] == "PCI_BUS_ID"
    assert "the engine sees others first" in _reason(plan, "hardware.gpu.devices")


@pytest.mark.parametrize(("index", "seen"), [(0, (0, 1)), (3, (3, 1)), (0, ())])
def test_cards_that_the_engine_takes_by_itself_are_not_named(index: int, seen: tuple[int, ...]) -> None:
    """What a plan names is tied to these cards, an export too."""
    assert _among_others((index,), seen).choice("hardware.gpu.devices") is None


def test_cards_that_the_user_names_to_the_engine_stand() -> None:
    plan = _among_others((1,), (0, 1), {"CUDA_VISIBLE_DEVICES": "1"})
    assert plan.choice("hardware.gpu.devices") is None


def test_equal_cards_name_no_devices_and_no_partition() -> None:
    plan = _plan(Q14, BIG, BIG)
    assert not {"hardware.gpu.devices", "serve.pipeline_partition"} & set(plan.settings)


def test_what_follows_from_pinned_numbers_says_so() -> None:
    plan = _plan(Q14, BIG, BIG, settings={"serve.pipeline_partition": (30, 18)})
    assert (_shape(plan), plan.settings["serve.pipeline_partition"]) == ((1, 2), (30, 18))
    assert _reason(plan, "serve.pipeline_parallel").startswith("follows from the other pinned numbers")
    three = _plan(L8, BIG, BIG, BIG)
    assert "32 attention heads do not divide among 3 cards" in _reason(three, "serve.pipeline_parallel")


def test_pinned_ranks_hold_on_cards_that_differ() -> None:
    plan = _plan(L8, BIG, SMALL, settings={"serve.tensor_parallel": 2})
    assert _shape(plan) == (2, 1)
    share = plan.settings["memory.gpu_memory_utilization"]
    assert [card.budget_bytes for card in plan.per_gpu] == pytest.approx(
        [share * BIG.total_bytes, share * SMALL.total_bytes], abs=1
    )


@pytest.mark.parametrize(
    ("partition", "settings", "words"),
    [
        ((30, 17), {}, "the stages have 47 layers, the model has 48"),
        ((16, 16, 16), {}, "1 x 3 ranks need 3 cards; the run has 2"),
        ((24, 24), {"serve.tensor_parallel": 2}, "2 x 2 ranks need 4 cards"),
    ],
)
def test_a_wrong_partition_is_told(partition: tuple[int, ...], settings: dict[str, Any], words: str) -> None:
    plan = _plan(Q14, BIG, BIG, settings={**settings, "serve.pipeline_partition": partition})
    assert not plan.fits
    assert words in plan.problems[0].message


def test_the_users_own_variable_is_planned_with() -> None:
    env = {"VLLM_PP_LAYER_PARTITION": "30,18"}
    plan = _plan(Q14, BIG, BIG, settings={"serve.pipeline_parallel": 2, "engine.env": env})
    assert "serve.pipeline_partition" not in plan.settings
    assert plan.per_gpu[0].weights_bytes > 1.4 * plan.per_gpu[1].weights_bytes


@pytest.mark.parametrize(("version", "dealt"), [("0.7.3", "10 + 10 + 12"), ("0.8.5", "11 + 11 + 10")])
def test_our_partition_is_compared_with_the_releases_own(version: str, dealt: str) -> None:
    """32 layers over 3 stages: before 0.8 all that is left goes to the last one, which has the head too."""
    pinned = {"serve.pipeline_parallel": 3, "serve.tensor_parallel": 1, "serve.pipeline_partition": (11, 11, 10)}
    plan = _plan(L8, BIG, BIG, BIG, settings=pinned, version=version)
    assert plan.fits
    free = _plan(L8, BIG, BIG, BIG, settings={**pinned, "serve.pipeline_partition": None}, version=version)
    chosen = free.choice("serve.pipeline_partition")
    assert chosen is None or f"{dealt} layers hold" in chosen.reason
    assert (chosen is not None) == (version == "0.7.3")


def test_measured_weights_are_the_fullest_ranks() -> None:
    plan = _plan(Q14, BIG, SMALL)
    fullest = plan.per_gpu[0].weights_bytes
    lesson = Lesson("measured.weights_bytes", fullest + GIB // 4, "measured")
    learned = _plan(Q14, BIG, SMALL, lessons=(lesson,))
    assert learned.per_gpu[0].weights_bytes == fullest + GIB // 4
    assert learned.per_gpu[1].weights_bytes < plan.per_gpu[0].weights_bytes


@pytest.mark.parametrize(
    ("layers", "rooms"),
    [
        ([10] * 8, (60, 30, 30)),
        ([10] * 8, (1000, 1000)),
        ([10] * 7, (50, 50)),
        ([40, 10, 10, 10, 10, 10], (60, 60)),
        ([1, 2, 3, 4, 5, 6, 7, 8], (40, 9, 20)),
        ([10] * 4, (20, 10)),
        ([10, 10], (1000, -50)),
        ([10] * 6, (-5, -5, -5)),
    ],
)
def test_no_other_partition_gives_the_fullest_stage_more_room(layers: list[int], rooms: tuple[int, ...]) -> None:
    memory = PipelineMemory(tuple(layers), (1.0,) * len(layers), rooms)
    found, every = choose_partition(memory), _partitions(len(layers), len(rooms))
    assert found in every
    most = max(map(memory.tokens, every))
    if most >= 0:
        assert memory.tokens(found) == pytest.approx(most)
    else:  # the weights do not fit: the least is missing
        assert memory.missing_bytes(found) == min(map(memory.missing_bytes, every))


def test_a_model_without_a_cache_is_dealt_out_too() -> None:
    assert sum(choose_partition(PipelineMemory((10,) * 4, (0.0,) * 4, (30, 30)))) == 4


def _partitions(layers: int, stages: int) -> list[tuple[int, ...]]:
    if stages == 1:
        return [(layers,)]
    return [
        (first, *rest) for first in range(1, layers - stages + 2) for rest in _partitions(layers - first, stages - 1)
    ]
