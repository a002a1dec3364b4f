"""Offload is asserted: promised and not proven is a failure, where the release would have proven it."""

from __future__ import annotations

import pytest

from nexus_orch.judge.log.reading import LogReading, follow
from nexus_orch.judge.start.offload import Expected, judge_offload, make_expected
from nexus_orch.plan.offload.mechanisms import PREFETCH, UVA
from nexus_orch.types import GIB, Proof
from tests.judge.histories import History
from tests.judge.logs import read
from tests.plan.cases import launches, plan_launch

KV = "(EngineCore pid=7) INFO 11-22 12:30:47 [gpu_worker.py:538] Available KV cache memory: 7.41 GiB"
OFFLOADED = "(EngineCore pid=7) INFO 11-22 12:30:45 [uva.py:68] Total CPU offloaded parameters: 8.61"
V2_RUNNER = "(EngineCore pid=7) INFO 11-22 12:30:43 [gpu_worker.py:360] Using V2 Model Runner"


def expect(*offloaded_bytes: int, asked_bytes: int = 0, tensor_parallel: int = 1) -> Expected:
    kept = (10 * GIB,) * len(offloaded_bytes)
    return Expected(offloaded_bytes, kept, asked_bytes, tensor_parallel, (UVA if asked_bytes else PREFETCH).proof)


def engine(version: str) -> str:
    prefix = "(EngineCore pid=7) INFO 11-22 12:30:42 [core.py:114]"
    return f"{prefix} Initializing a V1 LLM engine (v{version}) with config: a=1"


def asked(setting: str) -> str:
    return f"(APIServer pid=1) INFO 11-22 12:30:25 [api_utils.py:273] non-default args: {{'model': 'm', {setting}}}"


def test_what_was_offloaded_is_proven() -> None:
    assert judge_offload(read(engine("0.25.1"), OFFLOADED, KV), expect(8 * GIB)) is None


def test_a_plan_without_offload_needs_no_proof() -> None:
    assert judge_offload(read(engine("0.25.1"), KV)) is None


def test_a_silent_log_proves_that_nothing_was_offloaded() -> None:
    failed = judge_offload(read(engine("0.28.0"), KV), expect(8 * GIB))
    assert failed is not None
    assert failed.cause == "offload_ignored"
    assert failed.evidence


@pytest.mark.parametrize("setting", ["'cpu_offload_gb': 8.5", "'offload_group_size': 4"])
def test_without_a_plan_the_command_line_is_the_promise(setting: str) -> None:
    loaded = "(EngineCore pid=7) INFO 11-22 12:30:45 [m.py:1] Model loading took 27.57 GiB and 1.4 seconds"
    failed = judge_offload(read(asked(setting), engine("0.28.0"), loaded, KV))
    assert failed is not None
    assert failed.evidence == (asked(setting), loaded)


def test_it_is_too_early_before_the_kv_cache() -> None:
    assert judge_offload(read(engine("0.28.0")), expect(8 * GIB)) is None


def test_the_second_runner_of_some_releases_is_known_to_be_deaf() -> None:
    """Their first hundred gigabytes need not be loaded to know it."""
    assert judge_offload(read(engine("0.25.1"), V2_RUNNER), expect(8 * GIB)) is not None
    assert judge_offload(read(engine("0.28.0"), V2_RUNNER), expect(8 * GIB)) is None


@pytest.mark.parametrize("version", ["0.16.0", "0.9.2", "not a version"])
def test_a_release_that_does_not_tell_is_not_accused(version: str) -> None:
    assert judge_offload(read(engine(version), KV), expect(8 * GIB)) is None


def test_a_server_that_is_up_must_have_told() -> None:
    assert judge_offload(read(engine("0.28.0"), "INFO:     Application startup complete."), expect(GIB)) is not None


def test_what_a_full_card_brings_about_is_not_told_as_another_failure() -> None:
    error = "(EngineCore pid=7) ERROR 11-22 12:30:47 [core.py:1231] "
    full = judge_offload(read(engine("0.28.0"), KV, error + "No available memory for the cache blocks"), expect(GIB))
    other = judge_offload(read(engine("0.28.0"), KV, error + "EADDRINUSE"), expect(GIB))
    assert full is not None and other is not None
    assert "for what ended the engine" not in full.remedy
    assert "for what ended the engine: set serve.port" in other.remedy


# The amount


def told(gib: float, process: str = "EngineCore pid=7") -> str:
    return f"({process}) INFO 11-22 12:30:45 [uva.py:68] Total CPU offloaded parameters: {gib:.2f}"


@pytest.mark.parametrize(("gib", "is_good"), [(8.0, True), (8.79, True), (7.21, True), (9.0, False), (4.0, False)])
def test_an_offload_may_be_a_tenth_off(gib: float, is_good: bool) -> None:
    failed = judge_offload(read(engine("0.32.0"), told(gib), KV), expect(8 * GIB))
    assert (failed is None) == is_good
    if failed is not None:
        assert failed.cause == "offload_ignored"
        assert f"{gib:.2f} GiB" in failed.evidence[0] and "8.00 GiB were planned" in failed.evidence[0]


def test_the_amount_is_not_judged_while_it_grows() -> None:
    """UVA prints the sum after each list of layers."""
    assert judge_offload(read(engine("0.32.0"), told(2.0)), expect(8 * GIB)) is None
    assert judge_offload(read(engine("0.32.0"), told(2.0), told(8.0), KV), expect(8 * GIB)) is None


def test_whole_parameters_move_until_the_budget_is_reached() -> None:
    """Planned with a large one last, and it came without it: what was asked for is there."""
    assert judge_offload(read(engine("0.32.0"), told(2.01), KV), expect(4 * GIB, asked_bytes=2 * GIB)) is None
    assert judge_offload(read(engine("0.32.0"), told(1.0), KV), expect(4 * GIB, asked_bytes=2 * GIB)) is not None


def test_each_rank_is_judged_by_its_own_plan() -> None:
    """Two pipeline stages of unequal layers."""
    first, second = told(8.0, "Worker_PP0 pid=7"), told(4.0, "Worker_PP1 pid=8")
    assert judge_offload(read(engine("0.32.0"), first, second, KV), expect(8 * GIB, 4 * GIB)) is None
    failed = judge_offload(read(engine("0.32.0"), first, second, KV), expect(8 * GIB, 8 * GIB, tensor_parallel=1))
    assert failed is not None and failed.evidence[0].startswith("Worker_PP1 pid=8 offloaded 4.00 GiB")


def test_a_rank_that_cannot_be_told_is_not_accused() -> None:
    assert judge_offload(read(engine("0.32.0"), told(4.0, "Worker pid=7"), KV), expect(8 * GIB, 4 * GIB)) is None


@pytest.mark.parametrize(("loaded", "is_good"), [(10.1, True), (17.9, False)])
def test_releases_that_do_not_tell_are_judged_by_what_the_card_holds(loaded: float, is_good: bool) -> None:
    line = f"(EngineCore pid=7) INFO 11-22 12:30:45 [m.py:1] Model loading took {loaded} GiB and 1.4 seconds"
    failed = judge_offload(read(engine("0.16.0"), line, KV), expect(8 * GIB))
    assert (failed is None) == is_good


@pytest.mark.parametrize("name", ["q14_uva_16.5", "H1_uva6_eager", "H2_prefetch_4_2_1_eager"])
def test_the_plans_of_real_starts_are_proved_by_what_these_printed(name: str) -> None:
    launch = next(launch for launch in launches() if launch["name"] == name)
    plan = plan_launch(launch)
    expected = make_expected(plan)
    gib = launch["measured"]["offloaded_gib"]
    assert judge_offload(read(engine(launch["vllm_version"]), told(gib), KV), expected) is None
    assert judge_offload(read(engine(launch["vllm_version"]), told(gib * 0.8), KV), expected) is not None


# A mechanism of a plugin


MINE = Proof("mine", patterns=(r"my (?P<offloaded_gib>[\d.]+) GiB wait",), remedy="ask me")
MY_LINE = "(EngineCore pid=7) INFO 11-22 12:30:45 [mine.py:1] my {} GiB wait"


@pytest.mark.parametrize(("gib", "is_good"), [("8.00", True), ("4.00", False)])
def test_a_mechanism_is_proved_by_its_own_line(gib: str, is_good: bool) -> None:
    reading = LogReading()
    for line in (engine("0.9.2"), MY_LINE.format(gib), KV):
        reading = follow(reading, line, MINE.patterns)
    failed = judge_offload(reading, Expected((8 * GIB,), (GIB,), proof=MINE))
    assert (failed is None) == is_good
    if failed is not None:
        assert failed.remedy == "ask me"
        assert "offloaded 4.00 GiB, and 8.00 GiB were planned" in failed.evidence[0]


def test_the_verdict_reads_the_lines_of_the_plans_own_mechanism() -> None:
    expected = Expected((8 * GIB,), (GIB,), proof=MINE)
    history = History().started().log(engine("0.32.0"), MY_LINE.format("8.00"), KV)
    assert history.state(expected).numbers["offloaded_bytes"] == 8 * GIB
    assert "offloaded_bytes" not in history.state().numbers
