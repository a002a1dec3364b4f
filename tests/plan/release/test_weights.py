"""Weights on a rank, against what vLLM's "Model loading took" said."""

from __future__ import annotations

import pytest

from nexus_orch.plan import choose_scheme, parse_architecture
from nexus_orch.plan.model.formats import Scheme
from nexus_orch.plan.release.weights import WeightLayout, allocated_bytes, stage_sizes
from nexus_orch.types import GIB, MIB
from tests.plan.cases import config_of, launches, plan_launch

LOADED = [launch for launch in launches() if "weights_gib" in launch["measured"]]


@pytest.mark.parametrize("launch", LOADED, ids=[f"{launch['name']}-{index}" for index, launch in enumerate(LOADED)])
def test_loaded_weights_are_predicted_to_a_fifth_of_a_percent(launch: dict[str, object]) -> None:
    plan = plan_launch(launch)
    measured = launch["measured"]
    assert isinstance(measured, dict)
    tolerance = max(0.02, 0.002 * measured["weights_gib"])
    assert plan.per_gpu[0].weights_bytes / GIB == pytest.approx(measured["weights_gib"], abs=tolerance)


@pytest.mark.parametrize(
    ("size", "whole", "expected"),
    [
        (1, False, 512),
        (MIB + 1, False, MIB + 512),
        (int(24.5 * MIB), False, int(24.5 * MIB)),  # 1.5 MiB remain: split off, free for others
        (int(24.5 * MIB), True, 26 * MIB),
        (int(31.5 * MIB), False, 32 * MIB),  # 0.5 MiB remain: they stay with the tensor
        (32 * MIB, True, 32 * MIB),
    ],
)
def test_the_allocator_rounds(size: int, whole: bool, expected: int) -> None:
    assert allocated_bytes(size, whole_segments=whole) == expected


@pytest.mark.parametrize(
    ("layers", "stages", "expected"),
    [(80, 4, (20, 20, 20, 20)), (61, 4, (15, 15, 16, 15)), (5, 3, (2, 2, 1)), (3, 1, (3,))],
)
def test_layers_are_divided_as_vllm_divides_them(layers: int, stages: int, expected: tuple[int, ...]) -> None:
    assert stage_sizes(layers, stages) == expected


def _layout(name: str, tensor: int, pipeline: int = 1) -> WeightLayout:
    config = config_of(name)
    scheme = choose_scheme(config)
    assert isinstance(scheme, Scheme)
    return WeightLayout(parse_architecture(config), scheme, 2, tensor, pipeline, whole_segments=False)


def test_kv_heads_are_repeated_beyond_their_number() -> None:
    """Two KV heads on eight ranks: each rank holds one, so that the ranks together hold more than the model has."""
    alone, divided = _layout("Qwen/Qwen2.5-1.5B-Instruct", 1), _layout("Qwen/Qwen2.5-1.5B-Instruct", 4)
    qkv = 0
    assert divided.stages[0].parameter_bytes[0][qkv] * 4 > alone.stages[0].parameter_bytes[0][qkv]
    assert divided.stages[0].total_bytes < alone.stages[0].total_bytes / 3


def test_pipeline_stages_hold_all_layers_and_tied_embeddings_twice() -> None:
    name = "meta-llama/Llama-3.2-1B-Instruct"
    whole, parts = _layout(name, 1), _layout(name, 1, 2)
    assert sum(len(stage.layer_bytes) for stage in parts.stages) == len(whole.stages[0].layer_bytes)
    embedding = 128256 * 2048 * 2
    extra = sum(stage.total_bytes for stage in parts.stages) - whole.stages[0].total_bytes
    assert extra == pytest.approx(embedding, rel=0.15)
