"""The settings file of VLLM-Nexus-GUI, the graphical ancestor of nexus_orch: its keys in our words."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from nexus_orch.errors import ConfigError, Problem
from nexus_orch.exchange.imported import Imported

_ALWAYS = "--dtype half, --enforce-eager, --max-num-seqs 32, --trust-remote-code, NCCL_P2P_DISABLE=1, OMP_NUM_THREADS=4"


def _read_share(value: Any) -> float:
    """85 (per cent) or 0.85."""
    number = float(value)
    return round(number / 100 if number > 1 else number, 4)


def _read_switch(value: Any) -> bool:
    return value.strip().lower() in ("1", "true", "yes", "on") if isinstance(value, str) else bool(value)


_SETTINGS: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "ip": ("serve.host", str),
    "port": ("serve.port", int),
    "gpu_count": ("serve.tensor_parallel", int),
    "mem_ratio": ("memory.gpu_memory_utilization", _read_share),
    "max_tokens": ("serve.max_num_batched_tokens", int),
    "max_model_len": ("model.max_model_len", int),
    "block_size": ("memory.kv_cache.block_size", int),
    "max_blocks": ("memory.kv_cache.max_blocks", int),
    "memory_channels": ("memory.preload.channels", int),
}
_WITHOUT_PLACE = {
    "memory_offload_ratio": "the planner computes how much must go to RAM, and the V1 engine has no swap space",
    "reserved_memory": "write what is to stay free in GiB: hardware.host.reserved_gib",
    "advanced_cuda_split": "set +engine.env.PYTORCH_CUDA_ALLOC_CONF=max_split_size_mb:N if you need it",
}


def read_ancestor(content: Mapping[str, Any], unbuilt: Collection[str], profiles: Mapping[str, str]) -> Imported:
    """The settings of the file. `unbuilt` are keys that a run would refuse today. Raises ConfigError with all that
    cannot be read."""
    imported = Imported()
    _take_model(content, imported, profiles)
    for name, value in content.items():
        _take(name, value, imported, unbuilt)
    imported.groups["memory"] = "hybrid" if _read_switch(content.get("enable_memory_offload", False)) else "vram_only"
    imported.note("left out", f"what the old program always passed ({_ALWAYS}): the planner decides, with a reason")
    if imported.problems:
        raise ConfigError(*imported.problems)
    return imported


def _take_model(content: Mapping[str, Any], imported: Imported, profiles: Mapping[str, str]) -> None:
    path = str(content.get("model_path") or "").strip()
    if not path:
        imported.problems.append(
            Problem("the settings name no model", "model_path", remedy="choose the model's folder")
        )
        return
    imported.groups["model"] = profiles.get(path, "local")
    if imported.groups["model"] == "local":
        imported.set("model.path", path, "model_path")
    # the server was asked for its model by the path that vLLM was given
    imported.set("model.served_name", path, "model_path")


def _take(name: str, value: Any, imported: Imported, unbuilt: Collection[str]) -> None:
    if name in ("model_path", "enable_memory_offload") or value is None or str(value).strip() == "":
        return
    if name == "kv_dtype":
        _take_kv_dtype(str(value), imported)
    elif name == "calculate_scales":
        if _read_switch(value):
            imported.note("left out", "calculate_scales: only an fp8 KV cache has scales (memory.kv_cache.dtype=fp8)")
    elif name in _SETTINGS:
        key, read = _SETTINGS[name]
        if key in unbuilt:
            imported.note("left out", f"{name} = {value}: {key} does nothing yet")
            return
        try:
            imported.set(key, read(value.strip() if isinstance(value, str) else value), name)
        except (TypeError, ValueError):
            imported.problems.append(Problem("this is no number", name, value))
    else:
        reason = _WITHOUT_PLACE.get(name, "no setting of ours does this; the planner sizes memory by itself")
        imported.note("left out", f"{name} = {value}: {reason}")


def _take_kv_dtype(value: str, imported: Imported) -> None:
    if value == "float32":
        imported.note("no effect", "kv_dtype = float32: no release of vLLM keeps the KV cache in float32")
    elif value not in ("float16", "auto"):
        imported.set("memory.kv_cache.dtype", value, "kv_dtype")
