"""Written histories through the reducer: what happened, and what it must be judged to be."""

from __future__ import annotations

import pytest

from nexus_orch.judge.start.offload import Expected
from nexus_orch.judge.start.verdict import DEAD_AFTER_SECONDS, GRACE_SECONDS
from nexus_orch.types import GIB, Degraded, Failed, Ready, Stage, Starting, Stopped
from tests.judge.histories import DEAD, ERROR, INFO, SHUTDOWN, UP, History
from tests.judge.logs import lines_of

NO_KV = ERROR + "ValueError: No available memory for the cache blocks."


def failed(history: History, expected: Expected | None = None) -> Failed:
    verdict = history.state(expected).verdict
    assert isinstance(verdict, Failed)
    return verdict


# Ready


def test_ready_is_process_health_and_a_completion() -> None:
    verdict = History().ready().state().verdict
    assert verdict == Ready({"output_tokens": 8.0})


def test_health_alone_is_not_ready() -> None:
    verdict = History().started().log(UP).health(ok=True).state().verdict
    assert verdict == Starting(Stage.WARMING, None, "the server is up")


def test_a_completion_alone_is_not_ready() -> None:
    """A server that is not ours may answer on the port."""
    assert isinstance(History().started().completion(ok=True).state().verdict, Starting)


def test_probes_of_a_process_that_never_started_count_for_nothing() -> None:
    assert History().health(ok=True).completion(ok=True).state().verdict == Starting()


def test_an_answered_question_proves_as_much_as_a_completion() -> None:
    assert isinstance(History().started().health(ok=True).question(ok=True).state().verdict, Ready)


def test_ready_tells_what_was_measured() -> None:
    history = History().started().log(*lines_of("0.25.1-h100-q7_eager")[:50]).health(ok=True).completion(ok=True)
    verdict = history.state().verdict
    assert isinstance(verdict, Ready)
    assert verdict.measured["weights_bytes"] == round(14.29 * GIB)
    assert verdict.measured["kv_cache_tokens"] == 1_071_264
    assert verdict.measured["output_tokens"] == 8


def test_the_stages_of_a_start_are_told() -> None:
    history = History().started()
    assert history.state().verdict == Starting()
    history.log("Loading safetensors checkpoint shards:  50% Completed | 1/2 [00:01<00:01]")
    assert history.state().verdict == Starting(Stage.LOADING, 0.5, "Loading safetensors checkpoint shards 1/2")


# Failures before it was ready


def test_an_exit_before_ready_is_judged_by_the_log() -> None:
    verdict = failed(History().started().log(NO_KV).exited(1))
    assert verdict.cause == "no_kv_cache_memory"
    assert verdict.evidence[0] == NO_KV


def test_lines_that_arrive_after_the_exit_still_tell_the_cause() -> None:
    verdict = failed(History().started().exited(1).log(NO_KV))
    assert verdict.cause == "no_kv_cache_memory"


def test_a_clear_cause_is_not_taken_back() -> None:
    history = History().started().log(NO_KV).exited(1).log(ERROR + "RuntimeError: NCCL error: unhandled cuda error")
    assert failed(history).cause == "no_kv_cache_memory"


@pytest.mark.parametrize(
    ("returncode", "cause"),
    [
        (1, "unknown"),
        (0, "unknown"),
        (2, "unrecognized_argument"),
        (-4, "illegal_instruction"),
        (132, "illegal_instruction"),
        (-7, "shared_memory"),
        (-9, "host_oom"),
        (137, "host_oom"),
        (-11, "engine_dead"),
    ],
)
def test_without_a_signature_the_exit_code_tells(returncode: int, cause: str) -> None:
    verdict = failed(History().started().log("something strange", "and stranger").exited(returncode))
    assert verdict.cause == cause
    assert any("something strange" in line for line in verdict.evidence)
    assert any(str(abs(returncode)) in line or "signal" in line for line in verdict.evidence)


def test_exit_code_2_of_an_engine_that_ran_is_no_mistake_on_the_command_line() -> None:
    banner = INFO + "Initializing a V1 LLM engine (v0.25.1) with config: a=1"
    assert failed(History().started().log(banner).exited(2)).cause == "unknown"


def test_an_unknown_failure_shows_the_exception() -> None:
    verdict = failed(History().started().log(ERROR + "KeyError: 'layers.0'", "later words").exited(1))
    assert verdict.cause == "unknown"
    assert verdict.evidence == (ERROR + "KeyError: 'layers.0'", "the engine ended with exit code 1")


def test_an_engine_that_hangs_after_its_failure_is_not_waited_for() -> None:
    history = History().started().log(NO_KV)
    assert isinstance(history.state().verdict, Starting)
    history.quiet(GRACE_SECONDS + 1)
    assert failed(history).cause == "no_kv_cache_memory"


def test_an_error_from_which_the_engine_recovers_is_no_failure() -> None:
    history = History().started().log(NO_KV).quiet(GRACE_SECONDS - 5).log(INFO + "falling back").quiet(10)
    assert isinstance(
        history.log(UP).health(ok=True).completion(ok=True).quiet(2 * GRACE_SECONDS).state().verdict, Ready
    )


# Failures after it was ready


def test_an_exit_after_ready_is_a_failure_though_its_code_is_0() -> None:
    """vLLM ends with 0 when its engine core died (vllm-project/vllm#48966)."""
    killed = lines_of("0.32.0-cpu-worker-killed-by-signal-9")
    at = killed.index(next(line for line in killed if "died unexpectedly" in line))
    history = History().started().log(*killed[:at], after=0).health(ok=True).completion(ok=True)
    assert isinstance(history.state().verdict, Ready)
    assert failed(history.log(*killed[at:], after=0).exited(0)).cause == "worker_died"


def test_an_exit_after_ready_without_a_word_is_a_dead_engine() -> None:
    assert failed(History().ready().exited(1)).cause == "engine_dead"


def test_running_out_of_memory_while_serving() -> None:
    oom = ERROR + "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity"
    assert failed(History().ready().log(oom, DEAD).exited(0)).cause == "runtime_oom"


def test_a_log_that_shows_a_failure_makes_it_degraded_until_it_exits() -> None:
    history = History().ready().log(DEAD)
    verdict = history.state().verdict
    assert isinstance(verdict, Degraded)
    assert "engine_dead" in verdict.reason
    assert failed(history.quiet(GRACE_SECONDS + 1)).cause == "engine_dead"


def test_tokens_disprove_a_failure_in_the_log() -> None:
    history = History().ready().log(ERROR + "RuntimeError: NCCL error: remote process exited")
    history.metric(generation_tokens_per_second=12.0).quiet(2 * GRACE_SECONDS)
    assert isinstance(history.state().verdict, Ready)


def test_health_can_lie() -> None:
    """/health says 200 with a dead engine (vllm-project/vllm#21728)."""
    history = History().ready().completion(ok=False)
    verdict = history.state().verdict
    assert isinstance(verdict, Degraded)
    assert "HTTP 500" in verdict.reason
    history.completion(ok=False, times=2).health(ok=True)
    assert isinstance(history.state().verdict, Degraded)
    history.quiet(DEAD_AFTER_SECONDS)
    verdict = failed(history)
    assert verdict.cause == "engine_dead"
    assert "completions failed 3 times" in verdict.evidence[0]
    assert "/health said that all is well" in verdict.evidence[0]


def test_health_that_lies_from_the_start() -> None:
    history = History().started().log(UP).health(ok=True).completion(ok=False, times=3)
    verdict = history.state().verdict
    assert verdict == Starting(Stage.WARMING, None, "a completion failed: HTTP 500: Internal Server Error")
    assert failed(history.quiet(DEAD_AFTER_SECONDS)).cause == "engine_dead"


def test_a_server_that_is_slow_but_works_is_not_dead() -> None:
    history = History().started().log(UP).health(ok=True)
    for _ in range(6):
        history.completion(ok=False, after=60).metric(prompt_tokens_per_second=0.5)
    assert isinstance(history.state().verdict, Starting)


def test_health_that_stops_answering() -> None:
    history = History().ready().health(ok=False)
    assert isinstance(history.state().verdict, Degraded)
    assert isinstance(history.health(ok=True).state().verdict, Ready)
    history.health(ok=False, times=int(DEAD_AFTER_SECONDS) + 1)
    assert failed(history).cause == "engine_dead"


def test_a_server_that_does_not_answer_yet_is_not_dead() -> None:
    assert isinstance(History().started().health(ok=False, times=500).state().verdict, Starting)


def test_a_question_that_cannot_be_asked_does_no_harm() -> None:
    assert isinstance(History().ready().question(ok=False).quiet(100).state().verdict, Ready)


# Signal 9: the kernel, or somebody


def test_signal_9_with_ram_to_spare_was_not_the_kernel() -> None:
    history = History().ready().host(used_gib=8.0).exited(-9)
    verdict = failed(history)
    assert verdict.cause == "worker_died"
    assert "8.0 of 24.0 GiB RAM were in use" in verdict.evidence[-1]


def test_signal_9_with_full_ram_was_the_kernel() -> None:
    assert failed(History().ready().host(used_gib=23.5).exited(-9)).cause == "host_oom"


def test_a_worker_killed_by_signal_9_with_ram_to_spare() -> None:
    died = ERROR + "Worker proc VllmWorker-0 died unexpectedly (exit code: -9), shutting down executor."
    assert failed(History().ready().host(used_gib=8.0).log(died).exited(0)).cause == "worker_died"
    assert failed(History().ready().host(used_gib=23.5).log(died).exited(0)).cause == "host_oom"


def test_an_allocation_that_failed_is_a_lack_of_ram_whatever_the_samples_say() -> None:
    line = ERROR + "RuntimeError: DefaultCPUAllocator: can't allocate memory: you tried to allocate 34359738368 bytes."
    assert failed(History().started().host(used_gib=8.0).log(line).exited(1)).cause == "host_oom"


# Stops


def test_a_stop_that_was_asked_for_is_no_failure() -> None:
    history = History().ready().stop_asked("the work is done")
    assert isinstance(history.state().verdict, Ready)
    history.log(DEAD, ERROR + "Worker proc VllmWorker-0 died unexpectedly (exit code: -15), shutting down.").exited(-9)
    assert history.state().verdict == Stopped("the work is done")


def test_a_stop_does_not_excuse_an_earlier_failure() -> None:
    history = History().started().log(NO_KV).quiet(GRACE_SECONDS + 1).stop_asked().log("KeyboardInterrupt").exited(-2)
    assert failed(history).cause == "no_kv_cache_memory"


@pytest.mark.parametrize("returncode", [-15, 143, -2, 130, -1])
def test_a_signal_from_outside_is_a_stop(returncode: int) -> None:
    verdict = History().ready().exited(returncode).state().verdict
    assert isinstance(verdict, Stopped)


def test_a_clean_shutdown_that_somebody_else_asked_for_is_a_stop() -> None:
    assert isinstance(History().ready().log(SHUTDOWN, DEAD).exited(0).state().verdict, Stopped)


# Offload


def test_a_hybrid_start_without_proof_fails_at_once() -> None:
    version = INFO + "Initializing a V1 LLM engine (v0.28.0) with config: a=1"
    history = History().started().log(version, INFO + "Available KV cache memory: 2.00 GiB")
    assert isinstance(history.state().verdict, Starting)
    assert failed(history, Expected(offloaded_bytes=(8 * GIB,))).cause == "offload_ignored"


def test_an_answer_after_the_failure_does_not_make_a_start_one_that_was_ready() -> None:
    """The engine may still answer while it is being stopped; what failed at the start can be tried another way."""
    version = INFO + "Initializing a V1 LLM engine (v0.28.0) with config: a=1"
    history = History().started().log(version, INFO + "Available KV cache memory: 2.00 GiB")
    state = history.health(ok=True).completion(ok=True).state(Expected(offloaded_bytes=(8 * GIB,)))
    assert isinstance(state.verdict, Failed)
    assert not state.was_ready


def test_a_hybrid_start_that_fails_for_want_of_memory_failed_for_want_of_offload() -> None:
    history = History().started().log(*lines_of("0.25.1-h100-q14_off8p5_eager"), after=0).exited(1)
    assert failed(history).cause == "offload_ignored"


# Attempts


def test_a_new_attempt_begins_anew() -> None:
    history = History().started().log(NO_KV).exited(1).started(attempt=2)
    state = history.state()
    assert (state.attempt, state.verdict) == (2, Starting())
    history.log("late words of the first attempt", attempt=1)
    assert history.state() == state
