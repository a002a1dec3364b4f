"""Rules for runs that keep weights in host RAM, and for WSL, where host RAM is pinned only on request."""

from __future__ import annotations

from packaging.specifiers import SpecifierSet

from nexus_orch.adapt.extra_args import find_flag, parse_extra_args
from nexus_orch.adapt.ways import Part, find_release
from nexus_orch.errors import Problem
from nexus_orch.plan.ram_first import reads_ahead
from nexus_orch.types import Choice, EngineFacts, Plan

RUNNER_VARIABLE = "VLLM_USE_V2_MODEL_RUNNER"

RUNNER_IGNORES_OFFLOAD = SpecifierSet(">=0.20,<0.28")
"""v1/worker/gpu/model_runner.py installs no offloader in 0.22.1, 0.25.1 and 0.27.1 and does in 0.28.0; on an H100 with
0.25.1 both backends loaded all weights without a word."""

RUNNER_NEEDS_PINNING = SpecifierSet(">=0.20,<0.25.1")
"""v1/worker/gpu/buffer_utils.py raises "UVA is not available" without pinned memory, and the variable that allows it
under WSL came with 0.25.1 (platforms/cuda.py)."""

ALLOCATOR_VARIABLE = "PYTORCH_CUDA_ALLOC_CONF"
"""torch 2.9 brought PYTORCH_ALLOC_CONF, but its CUDA allocator read `expandable_segments` from the old name only
(pytorch/pytorch#183387). Later ones take both: the old name is the one that every release understands."""

_ALLOCATOR_VARIABLES = (ALLOCATOR_VARIABLE, "PYTORCH_ALLOC_CONF")
_EXPANDABLE = "expandable_segments:True"

ALLOCATOR_FORGETS = SpecifierSet(">=0.20,<0.31")
"""v1/worker/gpu_worker.py: `_scoped_allocator_max_split` resets every other option of the allocator while the weights
are loaded; it is missing in 0.19.1, there from 0.22.1 to 0.30.0, and keeps the other options from 0.31.0 on."""

_LAYOUT_IS_FIXED = ("--enable-sleep-mode", "--enable-cumem-allocator", "--data-parallel-size")
"""Options that do not go with expandable segments: vLLM's own memory pool (device_allocator/cumem.py asserts it before
0.22), and ranks that share graph buffers."""

_CONNECTORS = ("--kv-transfer-config", "--kv-offloading-size")
CONNECTOR_REFUSES = SpecifierSet(">=0.22")
"""config/vllm.py: `_verify_kv_transfer_compat`, missing in 0.19.1 and there from 0.22.1 on."""

LOAD_STRATEGY_FLAG = "--safetensors-load-strategy"


_OFFLOADING = ("--cpu-offload-gb", "--offload-group-size")


def offloads_weights(plan: Plan, engine: EngineFacts) -> bool:
    """True when weights stay in host RAM, by whichever mechanism: by the plan, or by the user's extra arguments."""
    if engine.device == "cpu":
        return False
    by_plan = plan.settings.get("memory.cpu_offload_gib") or plan.settings.get("memory.prefetch.group_size")
    return bool(by_plan) or any(_gives(plan, engine, option) for option in _OFFLOADING)


def guard_model_runner(plan: Plan, engine: EngineFacts) -> Part:
    """Where the second model runner cannot do what the plan needs, the first one is asked for."""
    reason = _fault_of_runner(plan, engine)
    if engine.device == "cpu" or reason is None:
        return Part()
    key = f"engine.env.{RUNNER_VARIABLE}"
    given = plan.spec.engine.env.get(RUNNER_VARIABLE)
    if given is None:
        return Part(env={RUNNER_VARIABLE: "0"}, choices=[Choice(key, "0", "derived", reason)])
    if given.strip().lower() in ("0", "false"):
        return Part()
    problem = Problem(
        reason,
        key=key,
        value=given,
        origin=plan.spec.origin(key) or plan.spec.origin("engine.env"),
        remedy=f"{key}=0, or vLLM 0.28 or later",
        cause="offload_ignored" if offloads_weights(plan, engine) else "pinned_memory_unavailable",
    )
    return Part(problems=[problem])


def _fault_of_runner(plan: Plan, engine: EngineFacts) -> str | None:
    release = find_release(engine)
    runner = f"the second model runner of vLLM {engine.version}"
    if offloads_weights(plan, engine) and release in RUNNER_IGNORES_OFFLOAD:
        return f"{runner} ignores offloading without a word"
    if plan.settings.get("memory.pin_host") and release in RUNNER_NEEDS_PINNING:
        return f"{runner} needs pinned memory, which this release does not give under WSL"
    return None


def guard_allocator(plan: Plan, engine: EngineFacts) -> Part:
    """A card that is filled to the brim: let torch grow its pieces of memory, where that is sound and has an effect.

    Not measured here. With several tensor-parallel ranks vLLM's all-reduce cannot share such memory and dies
    (vllm-project/vllm#42609); WSL's driver does not offer it to all; a KV connector is refused with it.
    """
    given = next((name for name in _ALLOCATOR_VARIABLES if name in plan.spec.engine.env), None)
    if given is not None:
        return _judge_allocator(plan, engine, given)
    is_sound = (
        offloads_weights(plan, engine)
        and find_release(engine) not in ALLOCATOR_FORGETS
        and (plan.settings.get("serve.tensor_parallel") or 1) == 1
        and not plan.settings.get("memory.pin_host")
        and not _has_connector(plan, engine)
        and not any(_gives(plan, engine, option) for option in _LAYOUT_IS_FIXED)
    )
    if not is_sound:
        return Part()
    reason = "the card is filled to the brim: torch can then use free memory that lies in pieces"
    choice = Choice(f"engine.env.{ALLOCATOR_VARIABLE}", _EXPANDABLE, "derived", reason)
    return Part(env={ALLOCATOR_VARIABLE: _EXPANDABLE}, choices=[choice])


def _judge_allocator(plan: Plan, engine: EngineFacts, variable: str) -> Part:
    """The user's own settings of the allocator stand, unless vLLM is sure to end the start because of them."""
    value = plan.spec.engine.env[variable]
    is_seen = variable == ALLOCATOR_VARIABLE and _EXPANDABLE in value and find_release(engine) in CONNECTOR_REFUSES
    if not is_seen or not _has_connector(plan, engine) or _gives(plan, engine, "--enable-sleep-mode"):
        return Part()
    key = f"engine.env.{variable}"
    message = f"vLLM {engine.version} refuses expandable segments beside a KV connector, which KV offload is"
    remedy = f"leave {key} or the KV offload out"
    return Part(problems=[Problem(message, key, value, plan.spec.origin(key), remedy)])


def _has_connector(plan: Plan, engine: EngineFacts) -> bool:
    by_plan = plan.settings.get("memory.kv_offload_gib") or plan.settings.get("memory.kv_offload_dir")
    return bool(by_plan) or any(_gives(plan, engine, option) for option in _CONNECTORS)


def guard_load_strategy(plan: Plan, engine: EngineFacts) -> Part:
    """Checkpoint files that are in RAM already, or that share it with weights, are read as they are needed.

    From 0.19.1 on vLLM reads whole checkpoints ahead by itself when they lie on a network file system; before, `lazy`
    was the default, and the only way before 0.10.2 (model_executor/model_loader/weight_utils.py).
    """
    preloads = reads_ahead(plan)
    shares_ram = offloads_weights(plan, engine)
    flag = engine.flag(LOAD_STRATEGY_FLAG)
    if flag is None or flag.default == "lazy" or not (preloads or shares_ram):
        return Part()
    if _gives(plan, engine, LOAD_STRATEGY_FLAG):
        return Part()
    why = "the files were read into RAM before" if preloads else "RAM is for the weights that stay there"
    reason = f"{why}: vLLM need not read them ahead"
    choice = Choice("memory.load_strategy", "lazy", "derived", reason)
    return Part(argv=[flag.name, "lazy"], choices=[choice], said={flag.name: choice.key})


def _gives(plan: Plan, engine: EngineFacts, option: str) -> bool:
    """Whether the user's extra arguments give this option in any of its spellings."""
    wanted = engine.flag(option)
    given = (find_flag(engine, argument.spelling) for argument in parse_extra_args(plan.spec.serve.extra_args))
    return wanted is not None and wanted in given
