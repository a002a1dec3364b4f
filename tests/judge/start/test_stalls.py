"""A start without progress is given up: a silent engine, a server that does not answer, a port that is taken."""

from __future__ import annotations

import pytest

from nexus_orch.judge.start.offload import Expected
from nexus_orch.judge.start.stall import DEAF_AFTER_SECONDS, judge_stall
from nexus_orch.judge.start.verdict import RunState, judge, step
from nexus_orch.types import FOREIGN, Failed, Probed
from tests.judge.histories import ATTEMPT, ERROR, INFO, UP, History
from tests.judge.logs import lines_of

NO_KV = ERROR + "ValueError: No available memory for the cache blocks."


def failed(history: History, expected: Expected | None = None) -> Failed:
    verdict = history.state(expected).verdict
    assert isinstance(verdict, Failed)
    return verdict


# Stalls


def stalls(history: History, limit: float = 300.0) -> bool:
    return judge_stall(history.state(), history.now, limit) is not None


def test_a_start_without_any_progress_stalls() -> None:
    history = History().started().log("Loading safetensors checkpoint shards:  50% Completed | 1/2 [00:01<00:01]")
    assert not stalls(history.quiet(290))
    history.quiet(20)
    state = judge_stall(history.state(), history.now, 300.0)
    assert state is not None
    assert isinstance(state.verdict, Failed)
    assert state.verdict.cause == "startup_stalled"
    assert "while Loading safetensors checkpoint shards 1/2" in state.verdict.evidence[0]


def test_repetition_is_no_progress() -> None:
    """vLLM says this every minute while a worker hangs, with another figure each time."""
    history = History().started()
    for minute in range(1, 8):
        history.log(f"{INFO}No available shared memory broadcast block found in {60 * minute} seconds.", after=60)
    assert stalls(history)


def test_new_lines_are_progress() -> None:
    history = History().started()
    for word in ("alpha", "beta", "gamma", "delta", "epsilon", "zeta"):
        history.log(f"{INFO}compiling {word}", after=100)
    assert not stalls(history)


def test_a_moving_bar_is_progress_and_a_still_one_is_not() -> None:
    moving, still = History().started(), History().started()
    for done in range(1, 8):
        moving.log(f"Loading safetensors checkpoint shards:  1% Completed | {done}/900 [00:01<00:01]", after=100)
        still.log("Loading safetensors checkpoint shards:  1% Completed | 9/900 [00:01<00:01]", after=100)
    assert not stalls(moving)
    assert stalls(still)


def test_memory_that_fills_is_progress() -> None:
    """One file of 60 GB from a slow disk is loaded without a word."""
    card, tree, idle = History().started(), History().started(), History().started()
    for second in range(8):
        card.gpu(used_gib=second, after=100)
        tree.host(rss_mib=1000 * second, after=100)
        idle.gpu(used_gib=30 + 0.1 * (second % 2), after=100)
    assert not stalls(card)
    assert not stalls(tree)
    assert stalls(idle)


def test_tokens_are_progress_while_the_first_completion_takes_long() -> None:
    history = History().started().log(UP).health(ok=True)
    for _ in range(8):
        history.metric(after=100, generation_tokens_per_second=0.1)
    assert not stalls(history)
    assert stalls(history.quiet(310))


def test_only_a_start_stalls() -> None:
    assert not stalls(History().ready().quiet(400))
    assert not stalls(History().quiet(400))
    assert not stalls(History().started().stop_asked().quiet(400))
    assert not stalls(History().started().exited(1).quiet(400))


def test_a_stalled_start_stays_stalled_while_it_is_taken_down() -> None:
    history = History().started().quiet(400)
    state = judge_stall(history.state(), history.now, 300.0)
    assert state is not None
    for observation in History().stop_asked().log("KeyboardInterrupt").exited(-9).observations:
        state = step(state, observation)
    assert isinstance(state.verdict, Failed)
    assert state.verdict.cause == "startup_stalled"


@pytest.mark.parametrize(
    ("name", "returncode", "cause"),
    [
        ("0.32.0-cpu-port-in-use", 1, "port_in_use"),
        ("0.32.0-cpu-unrecognized-argument", 2, "unrecognized_argument"),
        ("0.32.0-cpu-bad-block-size", 1, "unsupported_block_size"),
        ("0.32.0-cpu-weights-cut-short", 1, "weights_missing"),
        ("0.32.0-cpu-worker-killed-after-ready", 0, "illegal_instruction"),
    ],
)
def test_real_logs_with_their_exit_codes(name: str, returncode: int, cause: str) -> None:
    history = History().started().log(*lines_of(name), after=0.01).exited(returncode)
    verdict = judge(history.observations)
    assert isinstance(verdict, Failed)
    assert verdict.cause == cause


# A port that somebody else took


def _deaf(values: dict[str, float]) -> RunState:
    history = History().started().log(UP)
    probed = Probed(history.now, ATTEMPT, "health", False, "somebody else", values)
    return step(history.state(), probed)


def test_a_server_that_says_it_is_up_and_does_not_answer_is_given_up_soon() -> None:
    state = _deaf({})
    assert judge_stall(state, state.time + DEAF_AFTER_SECONDS - 5, 300.0) is None
    stalled = judge_stall(state, state.time + DEAF_AFTER_SECONDS + 5, 300.0)
    assert stalled is not None and failed_of(stalled).cause == "startup_stalled"


def test_a_stranger_on_the_port_is_named() -> None:
    state = _deaf({FOREIGN: 1.0})
    stalled = judge_stall(state, state.time + DEAF_AFTER_SECONDS + 5, 300.0)
    assert stalled is not None and failed_of(stalled).cause == "port_in_use"


def failed_of(state: RunState) -> Failed:
    assert isinstance(state.verdict, Failed)
    return state.verdict
