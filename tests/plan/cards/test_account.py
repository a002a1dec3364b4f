"""One account of a card: what the choice of a parallelism counts on is what the plan then has."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from nexus_orch.plan.asked.inputs import Inputs, read_inputs
from nexus_orch.plan.asked.target import make_target
from nexus_orch.plan.cards.account import NARROW_CACHE_WORKSPACE_BYTES
from nexus_orch.plan.cards.parallelism import Parallelism
from nexus_orch.plan.cards.pipeline_memory import make_pipeline_memory
from nexus_orch.plan.estimate.draft import Draft, kv_bytes
from nexus_orch.plan.offload.placements import place_nothing
from nexus_orch.plan.release.generations import default_batching
from nexus_orch.types import GIB, GpuFacts, Lesson
from tests.plan.cases import make_facts, make_gpu, make_spec

CARD = make_gpu()
CARDS = {
    "RTX 4090": CARD,
    "RTX 3090": make_gpu(name="RTX 3090", compute_capability=(8, 6)),
    "H100": make_gpu(name="H100", total_bytes=int(79.2 * GIB), free_bytes=int(78.7 * GIB), compute_capability=(9, 0)),
}
NAMES = ["Qwen/Qwen2.5-14B-Instruct", "Qwen/Qwen3-30B-A3B", "google/gemma-3-12b-it", "Qwen/Qwen3-8B"]
VERSIONS = st.sampled_from(["0.7.3", "0.11.2", "0.19.1", "0.25.1", "0.28.0", "0.32.0"])
PINNED = st.fixed_dictionaries(
    {
        "memory__gpu_memory_utilization": st.floats(0.5, 0.95),
        "memory__kv_cache__dtype": st.sampled_from([None, "fp8"]),
        "memory__enforce_eager": st.sampled_from([None, True]),
    }
)


def _inputs(name: str, *gpus: GpuFacts, lessons: tuple[Lesson, ...] = (), version: str, **pinned: Any) -> Inputs:
    keys = {key.replace("__", "."): value for key, value in pinned.items()}
    return read_inputs(make_spec(keys), make_facts(name, *gpus, version=version), lessons)


def _draft(inputs: Inputs, tensor: int) -> Draft:
    """The run with the engine's own batching, and as many stages as the cards allow."""
    gpus, generation = inputs.facts.machine.gpus, inputs.generation()
    tokens, requests = default_batching(gpus[0].total_bytes, gpus[0].name, generation, len(gpus))
    parallelism = Parallelism(tensor, len(gpus) // tensor, (), gpus=gpus)
    eager = bool(inputs.spec.memory.enforce_eager)
    return Draft(inputs, parallelism, generation, tokens, requests, eager, make_target(inputs))


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(NAMES),
    st.lists(st.sampled_from(sorted(CARDS)), min_size=4, max_size=4),
    st.sampled_from([1, 2, 4]),
    VERSIONS,
    PINNED,
)
def test_the_room_of_a_stage_is_what_the_plan_has_on_its_fullest_card(
    name: str, cards: list[str], tensor: int, version: str, pinned: dict[str, Any]
) -> None:
    inputs = _inputs(name, *[CARDS[card] for card in cards], version=version, **pinned)
    gpus = inputs.facts.machine.gpus
    memory = make_pipeline_memory(inputs, [gpus[start : start + tensor] for start in range(0, len(gpus), tensor)])
    draft = _draft(inputs, tensor)
    needs = draft.needs(pinned["memory__gpu_memory_utilization"])
    sizes = kv_bytes(draft, [need.budget_bytes for need in needs], place_nothing(len(gpus)))
    left = [size + need.movable_bytes - draft.account.doubt.below for size, need in zip(sizes, needs, strict=True)]
    for stage, room in enumerate(memory.room_bytes):
        assert room == min(left[stage * tensor : (stage + 1) * tensor])


def test_the_buffer_of_a_narrow_cache_is_left_free_when_the_cards_are_divided_too() -> None:
    """It comes on top of the engine's budget: where little is free, the stages have that much less room."""
    busy = make_gpu(free_bytes=int(20 * GIB))
    rooms = [
        make_pipeline_memory(
            _inputs(NAMES[0], busy, busy, version="0.19.1", memory__kv_cache__dtype=dtype), [(busy,), (busy,)]
        )
        for dtype in ("bfloat16", "fp8")
    ]
    lost = [wide - narrow for wide, narrow in zip(rooms[0].room_bytes, rooms[1].room_bytes, strict=True)]
    assert all(abs(size - NARROW_CACHE_WORKSPACE_BYTES) <= 2 for size in lost)


def test_what_one_parallelism_measured_is_not_counted_on_for_another() -> None:
    lessons = (
        Lesson("measured.activation_bytes", 9 * GIB, "a launch"),
        Lesson("measured.non_torch_bytes", 5 * GIB, "a launch"),
        Lesson("machine.free_bytes.0", 12 * GIB, "measured now"),
    )
    plain, taught, busy = (
        _inputs(NAMES[0], CARD, CARD, version="0.32.0", lessons=known) for known in ((), lessons[:2], lessons)
    )
    groups = [(gpu,) for gpu in plain.facts.machine.gpus]
    assert make_pipeline_memory(taught, groups) == make_pipeline_memory(plain, groups)
    assert max(make_pipeline_memory(busy, groups).room_bytes) < min(make_pipeline_memory(plain, groups).room_bytes)
    assert _draft(taught, 1).account.peak.pass_bytes == 9 * GIB
