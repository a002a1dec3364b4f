"""Every pinned setting of the engine becomes a choice of the plan, or a problem that names it. None is dropped."""

from __future__ import annotations

import json

import pytest

from nexus_orch.cli import main
from nexus_orch.plan.answer.unused import ENGINE_SETTINGS

pytestmark = pytest.mark.slow

VALUES = {
    "model.dtype": "float16",
    "model.quantization": "fp8",
    "memory.offload_backend": "uva",
    "memory.enforce_eager": "true",
    "memory.kv_cache.dtype": "fp8",
    "memory.kv_cache.calculate_scales": "true",
    "memory.gpu_memory_utilization": "0.8",
    "memory.kv_cache.block_size": "32",
    "memory.kv_cache.max_blocks": "512",
    "model.max_model_len": "512",
    "serve.max_num_seqs": "4",
    "serve.max_num_batched_tokens": "512",
}


@pytest.mark.parametrize("hardware", ["cpu", "rtx4090x2"])
@pytest.mark.parametrize("key", ENGINE_SETTINGS)
def test_no_pin_is_dropped_without_a_word(hardware: str, key: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["plan", f"hardware={hardware}", "model=qwen0_5b", f"{key}={VALUES.get(key, '1')}", "--format", "json"])
    told = capsys.readouterr()
    if code == 2 and not told.out:
        assert key in told.err
        return
    plan = json.loads(told.out)
    chosen = {choice["key"]: choice for choice in plan["choices"] if choice["value"] is not None}
    is_noted = any(note.startswith(f"{key}=") for note in plan["prediction"]["notes"])
    assert key in chosen or plan["problems"] or is_noted, plan["choices"]
    assert key not in chosen or chosen[key]["origin"] == "pinned"


@pytest.mark.parametrize("key", ["memory.gpu_memory_utilization", "memory.offload_backend"])
def test_what_a_cpu_has_no_use_for_is_named(key: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "hardware=cpu", "model=qwen0_5b", f"{key}={VALUES[key]}"]) == 2
    assert key in capsys.readouterr().out


@pytest.mark.parametrize("strategy", ["hybrid", "auto"])
@pytest.mark.parametrize(
    ("pin", "told"),
    [
        ("memory.offload_backend=uva", "memory.offload_backend=uva"),
        ("memory.offload_backend=prefetch", "memory.offload_backend=prefetch"),
        ("memory.offload_params=[mlp]", "memory.offload_params=[mlp]"),
    ],
)
def test_a_way_of_offloading_does_no_harm_where_everything_fits(
    strategy: str, pin: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A profile names it for all models: one that needs no offload is served without."""
    run = ["plan", "hardware=rtx4090", "model=qwen14b_awq", f"memory={strategy}", pin, "--format", "json"]
    assert main(run) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["problems"] == []
    assert f"{told} has no use: all weights fit on the cards" in plan["prediction"]["notes"]
    assert not any("offload" in word for word in plan["argv"])


def test_a_way_of_offloading_has_its_use_where_weights_leave(capsys: pytest.CaptureFixture[str]) -> None:
    run = ["plan", "hardware=rtx4090", "model=qwen14b", "memory=hybrid", "memory.offload_backend=uva"]
    assert main([*run, "--format", "json"]) == 0
    assert "has no use" not in capsys.readouterr().out
