"""Which of the ways that a loader offers is taken: the one whose prediction is best, and that fits."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from nexus_orch.contracts import Loader, Need, Placement, Refusal
from nexus_orch.errors import PluginError
from nexus_orch.plan.asked.inputs import read_inputs
from nexus_orch.plan.cards.choose import choose_parallelism
from nexus_orch.plan.make import make_plan
from nexus_orch.plan.search.strategy import choose_loader
from nexus_orch.types import GIB, Facts, Plan, RunSpec, WorkloadSpec
from tests.plan.cases import LOADERS, make_facts, make_gpu, make_spec

Q14, MOE, SMALL = "Qwen/Qwen2.5-14B-Instruct", "Qwen/Qwen3-30B-A3B", "Qwen/Qwen2.5-1.5B-Instruct"
CARD = make_gpu()
SMALL_CARD = make_gpu(total_bytes=12 * GIB, free_bytes=int(11.7 * GIB))
HYBRID = {"memory.strategy": "hybrid"}
BACKENDS = ("uva", "prefetch")


def _plan(
    model: str,
    settings: Mapping[str, Any] | None = None,
    *,
    work: WorkloadSpec | None = None,
    gpu: Any = CARD,
    **facts: Any,
) -> Plan:
    spec = replace(make_spec({**HYBRID, **(settings or {})}), workload=work or WorkloadSpec())
    return make_plan(spec, make_facts(model, gpu, **{"ram_gib": 512, "version": "0.25.1", **facts}), LOADERS)


def _speed(plan: Plan) -> float:
    prediction = plan.prediction
    latency = plan.spec.workload.objective == "latency"
    return (prediction.decode_tokens_per_second if latency else prediction.tokens_per_second) or 0.0


@pytest.mark.parametrize("objective", ["throughput", "latency"])
@pytest.mark.parametrize(("requests", "tokens"), [(1, 64), (1, 3000), (16, 500), (64, 2000)])
@pytest.mark.parametrize(("model", "gpu"), [(Q14, CARD), (MOE, CARD), (Q14, SMALL_CARD), (MOE, SMALL_CARD)])
def test_no_pinned_back_end_is_predicted_to_be_clearly_faster(
    model: str, gpu: Any, requests: int, tokens: int, objective: Any
) -> None:
    work = WorkloadSpec(requests, tokens, 128, objective)
    chosen = _plan(model, work=work, gpu=gpu)
    pinned = [_plan(model, {"memory.offload_backend": backend}, work=work, gpu=gpu) for backend in BACKENDS]
    assert chosen.fits
    assert _speed(chosen) * 1.11 >= max(_speed(plan) for plan in pinned if plan.fits)


def test_more_ram_never_turns_a_run_that_fits_into_one_that_does_not() -> None:
    for version in ("0.16.0", "0.25.1", "0.33.0"):
        fits = [_plan(Q14, version=version, ram_gib=ram).fits for ram in range(8, 40, 2)]
        assert sorted(fits) == fits
        assert fits[-1]
        assert not fits[0]


def test_reading_in_place_is_taken_where_the_copies_while_loading_do_not_fit() -> None:
    plan = _plan(Q14, ram_gib=20)
    assert plan.fits
    assert plan.settings["memory.offload_backend"] == "uva"
    choice = plan.choice("memory.offload_backend")
    assert choice is not None
    assert "copying ahead would take" in choice.reason


def test_a_buffer_on_top_of_the_budget_does_not_put_prefetch_behind_reading_in_place() -> None:
    """Up to 0.27 the buffers come on top, so that what is copied ahead is planned twice: ties still go to it."""
    card = make_gpu(total_bytes=80 * GIB, free_bytes=79 * GIB)
    for version in ("0.19.1", "0.25.1", "0.33.0"):
        work = WorkloadSpec(1, 8000, 256, "latency")
        plan = _plan("meta-llama/Llama-3.1-70B-Instruct", work=work, gpu=card, version=version)
        in_place = _plan(
            "meta-llama/Llama-3.1-70B-Instruct",
            {"memory.offload_backend": "uva"},
            work=work,
            gpu=card,
            version=version,
        )
        assert plan.settings["memory.offload_backend"] == "prefetch"
        first, other = (found.prediction.time_to_first_token_seconds or 0 for found in (plan, in_place))
        assert first < other / 4


@pytest.mark.parametrize("version", ["0.25.1", "0.33.0"])
@pytest.mark.parametrize(("model", "ram"), [("Qwen/Qwen2.5-32B-Instruct", 40), (Q14, 8)])
def test_the_ram_that_a_remedy_asks_for_is_enough_and_hardly_less_would_do(model: str, ram: int, version: str) -> None:
    work = WorkloadSpec(concurrency=8, input_tokens=500, output_tokens=128)
    plan = _plan(model, work=work, ram_gib=ram, version=version)
    assert not plan.fits
    told = re.search(r"in all (\d+) GiB", plan.problems[0].remedy or "")
    assert told is not None
    assert _plan(model, work=work, ram_gib=int(told[1]), version=version).fits
    assert not _plan(model, work=work, ram_gib=int(told[1]) - 2, version=version).fits


def test_the_strategy_left_open_is_never_clearly_slower_than_a_pinned_one() -> None:
    card = make_gpu(total_bytes=int(31.4 * GIB), free_bytes=31 * GIB)
    work = WorkloadSpec(concurrency=64, input_tokens=2000, output_tokens=256)
    spec = replace(make_spec(), workload=work)
    for version in ("0.25.1", "0.33.0"):
        facts = make_facts(Q14, card, version=version, ram_gib=512)
        chosen = make_plan(spec, facts, LOADERS)
        pinned = [
            make_plan(replace(make_spec({"memory.strategy": name}), workload=work), facts, LOADERS) for name in LOADERS
        ]
        assert _speed(chosen) * 1.11 >= max(map(_speed, pinned))


def test_a_plan_without_offload_does_not_speak_of_the_bus() -> None:
    card = make_gpu(total_bytes=34 * GIB, free_bytes=int(33.6 * GIB))
    work = WorkloadSpec(concurrency=64, input_tokens=2000, output_tokens=256)
    plan = _plan(Q14, work=work, gpu=card, version="0.33.0")
    choice = plan.choice("memory.enforce_eager")
    assert plan.per_gpu[0].offloaded_bytes == 0
    assert choice is not None
    assert "bus" not in choice.reason
    assert "requests run at once instead of" in choice.reason


def test_a_pinned_mechanism_that_takes_too_much_ram_is_refused_with_what_would_do() -> None:
    plan = _plan(Q14, {"memory.offload_backend": "prefetch"}, ram_gib=20)
    (problem,) = plan.problems
    assert problem.cause == "host_oom"
    assert "memory.offload_backend=auto" in (problem.remedy or "")
    assert _plan(Q14, ram_gib=20).fits


def test_a_pinned_prefetch_stays_prefetch_where_no_grouping_frees_enough() -> None:
    work = WorkloadSpec(concurrency=64, input_tokens=2000, output_tokens=256)
    plan = _plan(Q14, {"memory.offload_backend": "prefetch"}, work=work, gpu=SMALL_CARD)
    assert plan.settings["memory.offload_backend"] == "prefetch"
    assert plan.settings["memory.prefetch.num_in_group"] <= plan.settings["memory.prefetch.group_size"]
    assert plan.per_gpu[0].static_pool_bytes > 0


def test_each_offer_says_what_is_true_of_it() -> None:
    """A 14B model on a card that holds one request by offloading, and 64 by no means; one that fits for fewer."""
    work = WorkloadSpec(concurrency=64, input_tokens=2000, output_tokens=256)
    told = _reasons(Q14, SMALL_CARD, work)
    assert any("it is not enough" in reason or "and not enough" in reason for reason in told)
    assert any("the least that makes room" in reason for reason in told)
    told = _reasons("Qwen/Qwen2.5-7B-Instruct", CARD, replace(work, input_tokens=8000), version="0.11.2")
    assert "all weights fit on the card" in told
    assert "everything fits on the card" not in told


def _reasons(model: str, gpu: Any, work: WorkloadSpec, version: str = "0.25.1") -> list[str]:
    """Those of all offers of the loader."""
    spec = replace(make_spec(HYBRID), workload=work)
    facts = make_facts(model, gpu, version=version, ram_gib=512)
    inputs = read_inputs(spec, facts, ())
    chosen = choose_loader(inputs, choose_parallelism(inputs), LOADERS)
    assert chosen.trial is not None
    offers = LOADERS["hybrid"].offer(chosen.trial.settled.draft.needs(0.95), spec, facts)
    return [choice.reason for offer in offers for choice in offer.choices]


def test_more_wanted_requests_do_not_serve_all_of_them_slower() -> None:
    """What cannot be held at once is not bought with weights that every step fetches."""
    speeds = [
        _speed(_plan(Q14, work=WorkloadSpec(requests, input_tokens=4000, output_tokens=256), ram_gib=256))
        for requests in (1, 4, 16, 32, 64)
    ]
    assert all(later >= 0.9 * earlier for earlier, later in pairwise(speeds))


def test_offloading_a_little_is_never_faster_than_nothing() -> None:
    card = make_gpu(total_bytes=80 * GIB, free_bytes=79 * GIB)
    for eager in (True, False):
        for model in (SMALL, MOE):
            whole = _plan(model, {"memory.enforce_eager": eager}, gpu=card)
            little = {"memory.enforce_eager": eager, "memory.cpu_offload_gib": 0.01, "memory.offload_backend": "uva"}
            moved = _plan(model, little, gpu=card)
            assert whole.per_gpu[0].offloaded_bytes == 0
            assert moved.per_gpu[0].offloaded_bytes > 0
            assert (moved.prediction.decode_tokens_per_second or 0) <= (whole.prediction.decode_tokens_per_second or 0)


def test_cuda_graphs_stay_where_the_bus_is_not_the_limit() -> None:
    card = make_gpu(total_bytes=80 * GIB, free_bytes=79 * GIB)
    little = _plan(SMALL, {"memory.cpu_offload_gib": 0.05}, gpu=card)
    assert little.per_gpu[0].offloaded_bytes > 0
    assert "memory.enforce_eager" not in little.settings
    much = _plan(Q14)
    assert much.settings["memory.enforce_eager"] is True


@given(
    model=st.sampled_from([Q14, MOE, SMALL, "google/gemma-3-12b-it", "Qwen/Qwen3-VL-8B-Instruct"]),
    version=st.sampled_from(["0.16.0", "0.19.1", "0.25.1", "0.27.1", "0.33.0"]),
    card=st.tuples(st.integers(6, 100), st.floats(0.4, 1.0)),
    ram=st.integers(8, 200),
    work=st.tuples(st.sampled_from([1, 16, 128]), st.sampled_from(["auto", "uva", "prefetch"])),
)
@example(Q14, "0.27.1", (8, 0.724), 16, (1, "auto"))
@example(MOE, "0.25.1", (80, 0.734), 64, (128, "prefetch"))
@settings(max_examples=40)
def test_every_plan_has_a_placement_and_stays_within_what_is_free(
    model: str, version: str, card: tuple[int, float], ram: int, work: tuple[int, str]
) -> None:
    """Budget and what comes on top of it: CUDA graphs, buffers, page tables. A card is its GiB and what is free."""
    (total, free), (requests, backend) = card, work
    assume(backend != "prefetch" or version != "0.16.0")
    gpu = make_gpu(total_bytes=total * GIB, free_bytes=int(total * free * GIB))
    spec = make_spec({**HYBRID, "memory.offload_backend": backend})
    spec = replace(spec, workload=WorkloadSpec(requests, 1000, 32))
    facts = make_facts(model, gpu, version=version, ram_gib=ram)
    plan = make_plan(spec, facts, LOADERS)
    inputs = read_inputs(spec, facts, ())
    parallelism = choose_parallelism(inputs)
    chosen = choose_loader(inputs, parallelism, LOADERS)
    assert chosen.trial is not None
    settled = chosen.trial.settled
    outside = settled.draft.outside_bytes(settled.placement)
    if plan.fits:
        assert settled.budgets[0] + outside <= gpu.free_bytes


class _Silent(Loader):
    name = "silent"

    def supports(self, spec: RunSpec, facts: Facts) -> Refusal | None:
        return None

    def offer(self, needs: Sequence[Need], spec: RunSpec, facts: Facts) -> Sequence[Placement]:
        return []


def test_a_loader_that_offers_nothing_is_named() -> None:
    spec = make_spec({"memory.strategy": "silent"})
    with pytest.raises(PluginError) as caught:
        make_plan(spec, make_facts(Q14, CARD), {"silent": _Silent()})
    assert "the loader silent" in str(caught.value)
