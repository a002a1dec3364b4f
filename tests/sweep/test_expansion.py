"""A grid becomes points: each planned as if it were asked for, dropped with the plan's reason, one for each command."""

from __future__ import annotations

import pytest

from nexus_orch.errors import ConfigError
from nexus_orch.plugin_manager import load_plugins
from nexus_orch.sweep.expansion.planned import Expansion, plan_points
from tests.sweep.worlds import BASE

OFFLOAD, LENGTH, SEQS = "memory.cpu_offload_gib", "model.max_model_len", "serve.max_num_seqs"


def expand(grid: dict[str, list[object]], *more: str) -> Expansion:
    return plan_points([*BASE, *more], grid, load_plugins(None))


def test_points_come_in_the_order_of_the_grid_with_their_overrides_and_plans() -> None:
    found = expand({OFFLOAD: [8, 12], LENGTH: [4096, 8192]})
    assert [point.overrides for point in found.points] == [
        ("memory.cpu_offload_gib=8", "model.max_model_len=4096"),
        ("memory.cpu_offload_gib=8", "model.max_model_len=8192"),
        ("memory.cpu_offload_gib=12", "model.max_model_len=4096"),
        ("memory.cpu_offload_gib=12", "model.max_model_len=8192"),
    ]
    assert all(point.refusal is None and point.engine == point.number for point in found.points)
    less, more = found.points[1].prior, found.points[3].prior
    assert less is not None and more is not None
    assert less.spare_bytes < more.spare_bytes
    assert less.max_model_len == 8192


def test_what_lacks_much_is_dropped_with_the_plans_reason_and_what_lacks_little_is_not() -> None:
    found = expand({OFFLOAD: [0.5, 8, 12], LENGTH: [8192, 16384]})
    refusals = {point.overrides: point.refusal for point in found.points}
    assert "do not fit" in str(refusals["memory.cpu_offload_gib=0.5", "model.max_model_len=8192"])
    near = next(point for point in found.points if point.settings == {OFFLOAD: 8, LENGTH: 16384})
    assert near.refusal is None and near.prior is not None
    assert not near.prior.fits and near.prior.spare_bytes < 0


def test_groups_are_composed_and_contradictions_refuse_a_point_alone() -> None:
    found = expand({"memory": ["hybrid", "vram_only"], OFFLOAD: [12]})
    assert [point.refusal is None for point in found.points] == [True, False]
    assert "vram_only" in found.points[1].overrides[0]


def test_equal_commands_are_one_point_and_loads_share_an_engine() -> None:
    twice = expand({"workload.output_tokens": [128, 256], OFFLOAD: [12], LENGTH: [8192], SEQS: [16]})
    assert [point.engine for point in twice.points] == [0, 0]
    assert twice.points[1].refusal == "its command is that of point 0"
    loads = expand({"workload.concurrency": [4, 8], OFFLOAD: [12], LENGTH: [8192], SEQS: [16]})
    assert [(point.engine, point.refusal) for point in loads.points] == [(0, None), (0, None)]
    assert loads.loads == (4, 8)


@pytest.mark.parametrize(("more", "expected"), [((), 16), (("workload.concurrency=4",), 4), (("workload=chat",), 8)])
def test_points_are_compared_at_the_bases_concurrency_or_at_16(more: tuple[str, ...], expected: int) -> None:
    assert expand({OFFLOAD: [8, 12]}, *more).concurrency == expected


@pytest.mark.parametrize(
    ("grid", "key", "words"),
    [
        ({}, None, "the grid is empty"),
        ({OFFLOAD: []}, OFFLOAD, "names no value"),
        ({OFFLOAD: [-3]}, OFFLOAD, "must be a number from 0"),
        ({SEQS: ["many"]}, SEQS, "not text"),
        ({"serve.max_num_seq": [1]}, "serve.max_num_seq", "unknown key"),
        ({"memory.kv_cache": [1]}, "memory.kv_cache", "a section"),
        ({SEQS: [16, 16]}, SEQS, "twice"),
        ({SEQS: "16"}, SEQS, "no list"),
        ({SEQS: list(range(1, 1001)), LENGTH: list(range(1, 102))}, SEQS, "101,000 points"),
    ],
)
def test_a_mistake_in_the_grid_is_told_with_key_and_remedy(grid: dict[str, list[object]], key: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        expand(grid)
    (problem,) = caught.value.problems
    assert (problem.key, problem.origin) == (key, "command line")
    assert words in problem.message
    assert problem.remedy


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        expand({OFFLOAD: [-3, "x"], SEQS: []})
    assert [problem.key for problem in caught.value.problems] == [OFFLOAD, OFFLOAD, SEQS]


def test_a_grid_of_which_nothing_can_run_says_why_and_where_to_look() -> None:
    with pytest.raises(ConfigError) as caught:
        expand({OFFLOAD: [0.5, 1], LENGTH: [8192]})
    assert "no point of the grid can run" in caught.value.problems[0].message
    assert "nexus plan memory.cpu_offload_gib=0.5" in str(caught.value.problems[0].remedy)
