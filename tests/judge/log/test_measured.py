"""Numbers from the lines of many releases, per rank and for the engine."""

from __future__ import annotations

import pytest

from nexus_orch.judge.log.measured import GB, Measured
from nexus_orch.types import GIB
from tests.judge.logs import read


def measured(*lines: str) -> Measured:
    return read(*lines).measured


def test_v0_with_three_workers() -> None:
    """0.5 and 0.6: rank 0 writes without a process name, the figure called GB is GiB."""
    found = measured(
        "INFO 07-17 23:41:10 llm_engine.py:174] Initializing an LLM engine (v0.5.2) with config: model='m', "
        "max_seq_len=8192, enforce_eager=False, device_config=cuda)",
        "INFO 07-17 23:41:16 model_runner.py:559] Loading model weights took 6.2000 GB",
        "(VllmWorkerProcess pid=6923) INFO 07-17 23:41:16 model_runner.py:559] Loading model weights took 6.1138 GB",
        "(VllmWorkerProcess pid=6922) INFO 07-17 23:41:16 model_runner.py:559] Loading model weights took 6.1138 GB",
        "INFO 07-17 23:41:28 distributed_gpu_executor.py:56] # GPU blocks: 10039, # CPU blocks: 1310",
    )
    assert found.engine_version == "0.5.2"
    assert found.of_engine("weights_bytes") == round(6.2 * GIB)
    assert sorted(found.of_ranks("weights_bytes")) == [round(6.1138 * GIB)] * 2 + [round(6.2 * GIB)]
    assert found.kv_cache_blocks == 10039


def test_v1_with_two_ranks_keeps_both_and_the_least_kv_cache_counts() -> None:
    found = measured(
        "(Worker_TP0 pid=1) INFO 10-23 08:04:01 [gpu_worker.py:298] Available KV cache memory: 35.68 GiB",
        "(Worker_TP1 pid=2) INFO 10-23 08:04:01 [gpu_worker.py:298] Available KV cache memory: 35.10 GiB",
        "INFO 07-28 23:02:27 [kv_cache_utils.py:833] GPU KV cache size: 176,240 tokens",
        "INFO 07-28 23:02:27 [kv_cache_utils.py:833] GPU KV cache size: 170,000 tokens",
    )
    shown = found.as_dict()
    assert shown["kv_cache_bytes"] == round(35.10 * GIB)
    assert shown["kv_cache_tokens"] == 170_000
    assert shown["ranks"]["Worker_TP0 pid=1"] == {"kv_cache_bytes": round(35.68 * GIB)}


def test_one_rank_is_not_shown_twice() -> None:
    found = measured("(EngineCore pid=1) INFO 11-22 12:30:45 [m.py:3] Model loading took 27.57 GiB and 1.4 seconds")
    assert found.as_dict() == {"weights_bytes": round(27.57 * GIB), "loading_seconds": 1.4}


def test_the_breakdown_of_v0() -> None:
    found = measured(
        "INFO 04-04 17:58:00 [worker.py:268] the current vLLM instance can use total_gpu_memory (16.00GiB) x "
        "gpu_memory_utilization (0.90) = 14.40GiB",
        "INFO 04-04 17:58:00 [worker.py:268] model weights take 0.47GiB; non_torch_memory takes 0.03GiB; PyTorch "
        "activation peak memory takes 0.50GiB; the rest of the memory reserved for KV Cache is 13.40GiB.",
    )
    assert found.of_engine("budget_bytes") == round(14.4 * GIB)
    assert found.of_engine("activation_bytes") == round(0.5 * GIB)
    assert found.of_engine("kv_cache_bytes") == round(13.4 * GIB)


def test_the_breakdown_of_new_releases() -> None:
    found = measured(
        "(EngineCore pid=1) INFO 11-22 12:30:45 [gpu_worker.py:1034] Free memory on device (78.66/79.18 GiB) on "
        "startup. Desired GPU memory utilization is (0.92, 72.84 GiB). Actual usage is 14.51 GiB for consumed memory "
        "(weights + non-torch), 2.75 GiB for peak activation, and 0.49 GiB for CUDAGraph memory. Replace ..."
    )
    numbers = {name: found.of_engine(name) for name in ("consumed_bytes", "activation_bytes", "cuda_graph_bytes")}
    assert numbers == {
        "consumed_bytes": round(14.51 * GIB),
        "activation_bytes": round(2.75 * GIB),
        "cuda_graph_bytes": round(0.49 * GIB),
    }
    assert found.of_engine("memory_free_bytes") == round(78.66 * GIB)
    assert found.of_engine("budget_bytes") == round(72.84 * GIB)


def test_uva_tells_a_growing_sum_and_prefetch_decimal_units() -> None:
    uva = measured(
        "(Worker pid=1) INFO 11-22 12:30:45 [uva.py:68] Total CPU offloaded parameters: 8.61",
        "(Worker pid=1) INFO 11-22 12:30:45 [uva.py:68] Total CPU offloaded parameters: 3.20",
    )
    assert uva.of_engine("offloaded_bytes") == round(8.61 * GIB)
    prefetch = measured(
        "(Worker pid=1) INFO 11-22 12:30:45 [prefetch.py:382] [PrefetchOffloader] Initialized 14 modules. "
        "Total GPU memory saved: 6.5263 GB, Static buffer pool: 0.9323 GB (group_size=2)"
    )
    assert prefetch.of_engine("offloaded_bytes") == round(6.5263 * GB)
    assert prefetch.of_engine("static_pool_bytes") == round(0.9323 * GB)


def test_the_context_that_vllm_fitted_replaces_the_one_that_was_wanted() -> None:
    found = measured(
        "INFO 11-22 12:30:45 [model.py:1776] Using max model len 131072",
        "INFO 11-22 12:30:45 [k.py:3] Auto-fit max_model_len: reduced from 131072 to 40960 to fit in available memory",
    )
    assert found.max_model_len == 40960


@pytest.mark.parametrize(
    "line",
    [
        "INFO 11-22 12:30:45 [m.py:3] Model loading took 1.2.3 GiB and 1.4 seconds",
        f"INFO 11-22 12:30:45 [m.py:3] Model loading took {'9' * 400} GiB and 1.4 seconds",
    ],
)
def test_a_figure_that_is_none_is_left_out(line: str) -> None:
    assert measured(line).as_dict() == {"loading_seconds": 1.4}


def test_numbers_are_numbers_only() -> None:
    found = measured(
        "INFO 11-22 12:30:45 [m.py:3] Resolved architecture: Qwen2ForCausalLM",
        "INFO 11-22 12:30:45 [c.py:3] Initializing a V1 LLM engine (v0.25.1) with config: enforce_eager=True, x=1",
        "INFO 11-22 12:30:45 [m.py:3] Using max model len 4096",
    )
    assert found.numbers() == {"max_model_len": 4096}
