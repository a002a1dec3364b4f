"""Room for LoRA adapters is counted on each card, in host RAM and among the graphs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from nexus_orch.plan.asked.lora import Lora, StageLayers, read_lora
from nexus_orch.plan.model.families import parse_architecture
from nexus_orch.types import GIB, Plan
from tests.plan.cases import config_of, make_gpu, make_spec, plan_of

CARD = make_gpu(name="H100 SXM", total_bytes=int(79.2 * GIB), free_bytes=int(78.9 * GIB), compute_capability=(9, 0))
LLAMA, QWEN, EXPERTS = "meta-llama/Llama-3.1-8B-Instruct", "Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen3-30B-A3B"


def lora_of(version: str = "0.33.0", **asked: Any) -> Lora:
    found = read_lora(make_spec({"model.lora.enabled": True, **_keys(asked)}), version, 2)
    assert found is not None
    return found


def _keys(asked: Mapping[str, Any]) -> dict[str, Any]:
    return {f"model.lora.{name}": value for name, value in asked.items()}


def room(lora: Lora, model: str, ranks: int = 1) -> int:
    architecture = parse_architecture(config_of(model))
    return lora.card_bytes(architecture, StageLayers(architecture.layers, is_first=True, is_last=True), ranks)


def planned(model: str, version: str = "0.19.1", **asked: Any) -> Plan:
    return plan_of(model, CARD, version=version, settings={"memory.gpu_memory_utilization": 0.9, **_keys(asked)})


def test_an_adapter_of_all_layers_has_the_size_that_peft_gives_it() -> None:
    """Qwen2.5-7B, rank 16 on all seven matrices of a layer: peft makes 40,370,176 parameters of it. vLLM keeps as many
    elements for one adapter of one rank."""
    assert room(lora_of(max_lora_rank=16), QWEN) == 2 * 40_370_176


def test_room_grows_with_adapters_and_ranks() -> None:
    one = room(lora_of(max_lora_rank=16), QWEN)
    assert room(lora_of(max_lora_rank=64, max_loras=4), QWEN) == 16 * one


def test_tensor_parallelism_divides_one_half_and_fully_sharded_both() -> None:
    whole = room(lora_of(max_lora_rank=32), QWEN)
    half = room(lora_of(max_lora_rank=32), QWEN, ranks=4)
    both = room(lora_of(max_lora_rank=32, fully_sharded=True), QWEN, ranks=4)
    assert whole / 4 == both < half < whole


def test_layers_may_be_left_out() -> None:
    some = lora_of(max_lora_rank=16, target_modules=("o_proj",))
    assert room(some, QWEN) == 2 * 28 * 16 * (3584 + 3584)


def test_experts_have_room_from_the_release_on_that_gives_it() -> None:
    assert room(lora_of("0.11.0", max_lora_rank=8), EXPERTS) < GIB // 10
    assert room(lora_of("0.12.0", max_lora_rank=8), EXPERTS) > GIB // 2


@pytest.mark.parametrize("version", ["0.10.2", "0.19.1", "0.33.0"])
def test_the_plan_counts_the_room_among_the_weights(version: str) -> None:
    alone, with_room = planned(LLAMA, version), planned(LLAMA, version, enabled=True, max_loras=4, max_lora_rank=64)
    more = with_room.per_gpu[0].weights_bytes - alone.per_gpu[0].weights_bytes
    assert more == room(lora_of(version, max_loras=4, max_lora_rank=64), LLAMA)
    assert with_room.kv_cache_tokens < alone.kv_cache_tokens
    assert any("room for 4 adapters of rank 64" in note for note in with_room.notes)


def test_an_engine_that_does_not_count_them_takes_them_on_top() -> None:
    """vllm-project/vllm#14450: with the V0 engine ranks and adapters change nothing of the KV cache."""
    alone, with_room = planned(QWEN, "0.7.3"), planned(QWEN, "0.7.3", enabled=True, max_loras=4, max_lora_rank=64)
    assert with_room.kv_cache_tokens == alone.kv_cache_tokens
    assert with_room.per_gpu[0].weights_bytes == alone.per_gpu[0].weights_bytes


def test_copies_of_all_adapters_lie_in_host_ram() -> None:
    few, many = (planned(QWEN, enabled=True, max_cpu_loras=number).host.process_bytes for number in (1, 101))
    assert many - few == 100 * 2 * 40_370_176


def test_what_is_without_effect_is_told() -> None:
    plan = planned(QWEN, max_loras=4)
    assert "model.lora.max_loras is without effect: model.lora.enabled is not true" in plan.notes
