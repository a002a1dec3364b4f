"""Whether one more launch of a campaign may start, and what is left of its queue."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.hybrid.campaign import TRIES, Queue
from bench.hybrid.grid import CARD_GIB, list_grid, make_case
from bench.hybrid.room import CARD_SPARE_GIB, Need, Room, find_need

ROOM = Room(("0", "1"), 100.0)
WHOLE = CARD_GIB - CARD_SPARE_GIB
GRID = ("qwen7b/0/none/eager", "qwen7b/50/uva/graphs", "qwen14b/25/prefetch/graphs")


@pytest.mark.parametrize(
    ("need", "taken", "card"),
    [
        (Need(20, 10, 0), [], "0"),
        (Need(20, 10, 0), [("0", Need(10, 5, 0))], "1"),
        (Need(60, 10, 0), [("0", Need(100, 5, 0)), ("1", Need(70, 5, 0))], "1"),
        (Need(70, 10, 0), [("0", Need(100, 5, 0)), ("1", Need(70, 5, 0))], None),
        (Need(20, 96, 0), [("0", Need(10, 5, 0))], None),
        (Need(20, 95, 0), [("0", Need(10, 5, 0))], "1"),
        (Need(WHOLE, 10, 0), [("0", Need(1, 5, 0))], "1"),
        (Need(WHOLE, 10, 0), [("0", Need(1, 5, 0)), ("1", Need(1, 5, 0))], None),
    ],
)
def test_the_emptiest_card_with_room(need: Need, taken: list[tuple[str, Need]], card: str | None) -> None:
    assert ROOM.find_card(need, taken) == card


def test_what_only_loading_takes_is_free_again() -> None:
    assert Need(20, 96, 40).after_loading() == Need(20, 56, 0)


def test_a_launch_needs_what_its_plan_says() -> None:
    """Copies are made while prefetched weights are loaded, none while they are read in place."""
    settings = ("memory=hybrid", "memory.cpu_offload_gib=7.1", "memory.gpu_memory_utilization=0.108")
    copied, read = (
        find_need("qwen7b", (*settings, f"memory.offload_backend={backend}"), is_alone=False)
        for backend in ("prefetch", "uva")
    )
    assert copied.loading_gib > 7 and read.loading_gib == 0
    assert copied.card_gib == pytest.approx(0.108 * CARD_GIB + 1.5, abs=0.2)
    assert find_need("qwen7b", settings, is_alone=True).card_gib == WHOLE


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("qwen7b/0/none/graphs", True),
        ("qwen7b/50/uva/eager", False),
        ("qwen3_30b_a3b/0/none/eager", True),
        ("qwen3_30b_a3b/25/uva/eager", True),
        ("qwen3_30b_a3b/25/prefetch/eager", False),
    ],
)
def test_where_the_processors_decide(case: str, expected: bool) -> None:
    assert make_case(case).is_processor_bound is expected


def _write(folder: Path, *lines: str) -> Queue:
    file = folder / "queue"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Queue(file)


def test_the_queue_tells_cases_and_the_ram(tmp_path: Path) -> None:
    queue = _write(tmp_path, "host-gib 90", GRID[0], f"{GRID[1]} alone  # with a card to itself", "", "host-gib 70")
    assert [(entry.case.name, entry.is_alone) for entry in queue.waiting()] == [(GRID[0], False), (GRID[1], True)]
    assert queue.host_gib() == 70
    assert _write(tmp_path, GRID[0]).host_gib() is None
    assert set(GRID) <= {*list_grid("qwen7b"), *list_grid("qwen14b")}


def test_a_line_that_is_just_being_written_waits(tmp_path: Path) -> None:
    queue = _write(tmp_path, "host-gib 0", "host-gib", "qwen7b/50/uv", GRID[0])
    assert [entry.case.name for entry in queue.waiting()] == [GRID[0]]
    assert queue.host_gib() == 0
    told = list(queue.mistakes())
    assert [mistake.partition(":")[0] for mistake in told] == ["host-gib", "qwen7b/50/uv"]
    assert "MODEL/PERCENT/MECHANISM/MODE" in told[1]


def test_a_case_is_taken_as_often_as_the_file_says_it(tmp_path: Path) -> None:
    queue = _write(tmp_path, GRID[0], GRID[0], GRID[1])
    numbers = []
    while (entry := next(queue.waiting(), None)) is not None:
        numbers.append(queue.take(entry))
    assert numbers == [1, 2, 3]


def test_a_case_that_fails_is_launched_once_more(tmp_path: Path) -> None:
    queue = _write(tmp_path, GRID[0])
    numbers = []
    while (entry := next(queue.waiting(), None)) is not None:
        numbers.append(queue.take(entry))
        queue.give_back(entry)
        assert not queue.is_due(entry) or len(numbers) == TRIES
    assert len(numbers) == len(set(numbers)) == TRIES
