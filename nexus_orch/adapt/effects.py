"""What options and variables that are only passed on move, and what the plan says of those that it does not count.

Every option of a release has an effect here: by its own name, or by the group of vLLM's configuration that it belongs
to (facts: the groups of `nexus_orch/data/vllm_flags.json`; what an option moves: its help text and vllm/config/*.py of
0.33.0). An option of the configuration that neither names is taken to move memory and speed.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from nexus_orch.adapt.arguments import Argument, read_arguments
from nexus_orch.facts.options.catalogue import catalogue_flags
from nexus_orch.releases.known import known_releases
from nexus_orch.releases.options import find_by_option, names_of
from nexus_orch.types import EngineFacts, RunSpec

Moves = Literal["memory", "context", "speed", "memory and speed", "memory, context and speed"]


@dataclass(frozen=True)
class Effect:
    """What an option moves, and by what; `setting` is the setting of ours that says the same and is counted."""

    moves: Moves
    by: str
    setting: str | None = None


_GRAPHS = Effect("memory and speed", "which CUDA graphs are captured")
_COMPILING = Effect("memory and speed", "how the model is compiled and which CUDA graphs are captured")
_SPECULATION = Effect(
    "memory and speed", "the draft's weights and cache, and how many tokens a step brings", "serve.speculative"
)
_ADAPTERS = Effect("memory and speed", "room for LoRA adapters on each card, and their kernels", "model.lora")
_IMAGES = Effect("memory", "what the vision encoder's profile run takes")
_LIMITS = Effect("memory", "what the vision encoder's profile run takes", "model.limit_mm_per_prompt")
_EXPERTS = Effect("memory and speed", "which card holds which experts")
_REPLICAS = Effect("memory and speed", "how many engines share the cards")
_KV_CONNECTOR = Effect("memory and speed", "where keys and values are kept beside the card's cache")
_MAMBA = Effect("memory", "the size of a request's state")
_BATCHES = Effect("speed", "which requests run together")
_KERNELS = Effect("speed", "which kernels run")

EFFECTS: Mapping[str, Effect] = {
    **dict.fromkeys(
        ("--cuda-graph-sizes", "--cudagraph-capture-sizes", "--max-cudagraph-capture-size", "--max-seq-len-to-capture"),
        _GRAPHS,
    ),
    **dict.fromkeys(("--compilation-config", "--optimization-level", "--performance-mode"), _COMPILING),
    **dict.fromkeys(
        (
            "--num-lookahead-slots",
            *("--speculative-model-quantization", "--speculative-max-model-len", "--ngram-prompt-lookup-max"),
            *("--ngram-prompt-lookup-min", "--speculative-disable-by-batch-size"),
        ),
        _SPECULATION,
    ),
    **dict.fromkeys(("--mm-processor-kwargs", "--mm-encoder-tp-mode", "--enable-mm-embeds"), _IMAGES),
    "--limit-mm-per-prompt": _LIMITS,
    "--skip-mm-profiling": Effect("memory", "the vision encoder's profile run, which is left out"),
    "--mm-encoder-only": Effect("memory", "the language model, which is not loaded"),
    "--mm-ipc-gpu-memory-gb": Effect("memory", "room on the card for images between processes"),
    **dict.fromkeys(("--mm-processor-cache-gb", "--mm-processor-cache-type"), Effect("memory", "host RAM for images")),
    **dict.fromkeys(
        (
            *("--enable-eplb", "--eplb-config", "--num-redundant-experts"),
            *("--expert-placement-strategy", "--enable-ep-weight-filter", "--all2all-backend"),
        ),
        _EXPERTS,
    ),
    "--data-parallel-rank": _REPLICAS,
    **dict.fromkeys(
        (
            *("--kv-transfer-config", "--ec-transfer-config", "--kv-offloading-backend"),
            *("--kv-events-config", "--weight-transfer-config"),
        ),
        _KV_CONNECTOR,
    ),
    **dict.fromkeys(("--enable-dbo", "--ubatch-size"), Effect("memory and speed", "how a batch is split in two")),
    **dict.fromkeys(("--nnodes", "--node-rank", "--headless"), Effect("memory and speed", "other machines of the run")),
    **dict.fromkeys(
        ("--mamba-ssm-cache-dtype", "--mamba-cache-dtype", "--mamba-block-size", "--mamba-cache-mode"), _MAMBA
    ),
    "--kv-cache-dtype-skip-layers": Effect("memory", "the type of some layers' keys and values"),
    "--enable-prefix-caching": Effect("speed", "prompts that begin alike", "serve.prefix_caching"),
    "--disable-hybrid-kv-cache-manager": Effect("memory", "one cache for layers of all kinds"),
    "--kv-sharing-fast-prefill": Effect("speed", "layers that share keys and values"),
    "--disable-sliding-window": Effect("memory and speed", "how far back attention looks"),
    "--block-size": Effect("memory", "the blocks of the KV cache", "memory.kv_cache.block_size"),
    "--num-gpu-blocks-override": Effect("memory", "the number of KV cache blocks", "memory.kv_cache.max_blocks"),
    "--kv-cache-dtype": Effect("memory", "the type of keys and values", "memory.kv_cache.dtype"),
    "--enforce-eager": Effect("memory and speed", "CUDA graphs", "memory.enforce_eager"),
    "--gpu-memory-utilization": Effect("memory", "the budget", "memory.gpu_memory_utilization"),
    "--max-model-len": Effect("context", "its length", "model.max_model_len"),
    "--max-num-seqs": Effect("memory and speed", "requests at once", "serve.max_num_seqs"),
    "--max-num-batched-tokens": Effect("memory and speed", "tokens in a step", "serve.max_num_batched_tokens"),
    "--tensor-parallel-size": Effect("memory and speed", "how the model is divided", "serve.tensor_parallel"),
    "--pipeline-parallel-size": Effect("memory and speed", "how the model is divided", "serve.pipeline_parallel"),
    "--quantization": Effect("memory and speed", "the format of the weights", "model.quantization"),
    "--dtype": Effect("memory and speed", "the type of the weights", "model.dtype"),
    "--enable-sleep-mode": Effect("memory", "an allocator of its own, which takes more"),
    "--enable-prompt-embeds": Effect("memory", "embeddings beside the tokens of a prompt"),
    "--logits-processors": Effect("speed", "what runs for each token"),
    "--max-logprobs": Effect("memory", "what is returned for each token"),
    "--model-impl": Effect("speed", "whose code runs the model"),
    "--runner": Effect("memory and speed", "what the model is used for"),
    "--task": Effect("memory and speed", "what the model is used for"),
    "--convert": Effect("memory and speed", "what the model is used for"),
    "--load-format": Effect("memory", "what is loaded: dummy weights have the model's size and no sense"),
    "--quantization-config": Effect("memory and speed", "the format of the weights"),
    "--additional-config": Effect("memory and speed", "what a platform's plugin does with it"),
    "--additional-kwargs": Effect("memory and speed", "what a platform's plugin does with it"),
    **dict.fromkeys(("--worker-cls", "--worker-extension-cls"), Effect("memory and speed", "whose code runs a card")),
}

_BY_GROUP: Mapping[str, Effect | None] = {
    "Frontend": None,
    "ObservabilityConfig": None,
    "LoggingConfig": None,
    "LoadConfig": None,
    "StructuredOutputsConfig": None,
    "DecodingConfig": None,
    "TokenizerPoolConfig": None,
    "DeviceConfig": None,
    "ModelConfig": None,
    "OffloadConfig": None,
    "ParallelConfig": None,
    "MultiModalConfig": None,
    "CacheConfig": None,
    "VllmConfig": None,
    "SchedulerConfig": _BATCHES,
    "KernelConfig": _KERNELS,
    "AttentionConfig": _KERNELS,
    "MambaConfig": _KERNELS,
    "CompilationConfig": _COMPILING,
    "LoRAConfig": _ADAPTERS,
    "PromptAdapterConfig": Effect("memory", "room for prompt adapters"),
}
"""What the other options of a group move; None: nothing that a plan tells."""
_UNKNOWN = Effect("memory and speed", "what it does is not known to the planner")

_COUNTED_SPECULATION = (
    *("--speculative-config", "--speculative-model", "--num-speculative-tokens"),
    *("--spec-method", "--spec-model", "--spec-tokens", "--speculative-draft-tensor-parallel-size"),
)
_COUNTED_ENGINES = ("--data-parallel-size", "--data-parallel-size-local", "--enable-expert-parallel")
OBEYED = frozenset(
    {
        "--hf-overrides",
        "--rope-scaling",
        "--rope-theta",
        "--language-model-only",
        *_COUNTED_SPECULATION,
        *_COUNTED_ENGINES,
        "--decode-context-parallel-size",
        "--prefill-context-parallel-size",
    }
)
"""Options that the plan counts in full (see `nexus_orch.adapt.overrides` and `nexus_orch.plan.asked.passed`)."""


def find_effect(given: Argument) -> Effect | None:
    """What an option moves, None for one that moves nothing which a plan tells."""
    flag = given.flag
    if flag is None or not OBEYED.isdisjoint(names_of(flag.name)):
        return None
    if flag.name == "--load-format" and "dummy" not in given.values:
        return None
    effect = find_by_option(EFFECTS, flag.name)
    if effect is not None:
        return effect
    group = flag.group or _groups().get(flag.name)
    return None if group is None else _BY_GROUP.get(group, _UNKNOWN)


@functools.cache
def _groups() -> Mapping[str, str]:
    """The group of each option in the newest release that tells one: old releases have none."""
    found: dict[str, str] = {}
    for release in known_releases():
        found |= {name: flag.group for name, flag in catalogue_flags(release).items() if flag.group is not None}
    return found


def _is_default(given: Argument) -> bool:
    """Whether an option says what the release does without it."""
    default = given.flag.default if given.flag is not None else None
    return default is not None and not isinstance(default, bool) and list(given.values) == [str(default)]


def tell_uncounted(spec: RunSpec, engine: EngineFacts) -> Iterator[str]:
    """A sentence for each extra argument that moves something which the plan does not count."""
    for given in read_arguments(spec.serve.extra_args, engine).options:
        effect = find_effect(given)
        if effect is not None and not _is_default(given):
            remedy = f"; {effect.setting} says the same and is counted" if effect.setting else ""
            yield f"not counted: {given.written} (it moves {effect.moves}: {effect.by}){remedy}"
