from __future__ import annotations

import io
from dataclasses import dataclass, field

from nexus_orch.view.sweep import make_rows, print_sweep, render_sweep


@dataclass(frozen=True)
class Point:
    number: int
    overrides: tuple[str, ...]
    outcome: str
    seconds: float = 0.0
    cause: str | None = None
    message: str = ""
    measured: dict[str, float] = field(default_factory=dict)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


POINTS = (
    Point(0, ("model=qwen7b", "a=1"), "served", 61.2, measured={"kv_cache_tokens": 52000.0, "tokens_per_second": 71.4}),
    Point(1, ("model=qwen7b", "a=2"), "failed", 30.0, "no_kv_cache_memory", "the engine failed: no_kv_cache_memory"),
    Point(2, ("model=qwen7b", "a=3"), "does_not_fit", message="12.0 GiB too much"),
)


def test_the_table_as_plain_text() -> None:
    assert render_sweep(POINTS) == (
        "point  overrides  result                      KV tokens  tokens/s        time\n"
        "    0  a=1        served                         52,000      71.4  1 min 01 s\n"
        "    1  a=2        failed: no_kv_cache_memory          -         -        30 s"
        "  the engine failed: no_kv_cache_memory\n"
        "    2  a=3        does not fit                        -         -           -  12.0 GiB too much\n"
    )


def test_overrides_that_all_points_share_are_left_out() -> None:
    assert [row[1] for row in make_rows(POINTS)] == ["a=1", "a=2", "a=3"]
    assert make_rows(POINTS[:1])[0][1] == "model=qwen7b a=1"
    assert make_rows([POINTS[0], POINTS[0]])[0][1] == "-"


def test_no_points_give_the_header_only() -> None:
    assert render_sweep(()).splitlines() == ["point  overrides  result  KV tokens  tokens/s  time"]


def test_a_pipe_gets_no_control_sequences_and_a_terminal_colours() -> None:
    pipe, terminal = io.StringIO(), Terminal()
    print_sweep(POINTS, pipe)
    print_sweep(POINTS, terminal)
    assert pipe.getvalue() == render_sweep(POINTS)
    assert "served" in terminal.getvalue()
    assert "12.0 GiB" in terminal.getvalue()
