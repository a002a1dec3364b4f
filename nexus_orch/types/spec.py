"""RunSpec: what the user asked for, after composing and validating the profiles.

The field names are the configuration keys: `spec.memory.kv_cache.dtype` is `memory.kv_cache.dtype` in YAML, on the
command line and in the JSON Schema. `None` means that the planner decides. Every other value is pinned: it is used as
written or refused, never changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class GpuSpec:
    """The cards of one node; a described card means `count` equal ones. `count` 0 runs the engine on the CPU; None asks
    NVML."""

    model: str | None = None
    count: int | None = None
    memory_mib: int | None = None
    devices: tuple[int, ...] | None = None
    """The cards to use by their NVML indices, in the order of the ranks; None lets the planner decide."""
    pcie_gbps: float | None = None
    """Host to device bandwidth of one card, in GB/s (1e9 bytes per second)."""


@dataclass(frozen=True)
class HostSpec:
    """The host's memory, in GiB. None asks the operating system."""

    ram_gib: float | None = None
    reserved_gib: float | None = None
    """RAM that the plan leaves alone."""
    swap_gib: float | None = None


@dataclass(frozen=True)
class HardwareSpec:
    name: str = "auto"
    gpu: GpuSpec = field(default_factory=GpuSpec)
    host: HostSpec = field(default_factory=HostSpec)
    nodes: int = 1


@dataclass(frozen=True)
class LoraSpec:
    """Adapters that are served beside the model."""

    enabled: bool | None = None
    max_loras: int | None = None
    max_lora_rank: int | None = None
    max_cpu_loras: int | None = None
    modules: tuple[str, ...] | None = None
    """Adapters that are there from the start, as vLLM writes them: NAME=PATH or JSON."""
    target_modules: tuple[str, ...] | None = None
    dtype: str | None = None
    fully_sharded: bool | None = None


@dataclass(frozen=True)
class ModelSpec:
    name: str = ""
    path: str | None = None
    """A folder, or a hub id such as "Qwen/Qwen2.5-7B-Instruct"."""
    config: Mapping[str, Any] | None = None
    """The architecture (the content of config.json), so that planning needs no download."""
    dtype: str | None = None
    quantization: str | None = None
    max_model_len: int | None = None
    trust_remote_code: bool = False
    served_name: str | None = None
    rope_scaling: Mapping[str, Any] | None = None
    hf_overrides: Mapping[str, Any] | None = None
    """Changes of the model's configuration, which the engine and the plan both make."""
    limit_mm_per_prompt: Mapping[str, Any] | None = None
    """Images, videos and sounds of one prompt; 0 for none."""
    language_model_only: bool | None = None
    lora: LoraSpec = field(default_factory=LoraSpec)


@dataclass(frozen=True)
class KvCacheSpec:
    dtype: str | None = None
    block_size: int | None = None
    max_blocks: int | None = None
    size_gib: float | None = None
    """KV cache of each GPU in GiB; of the whole host on the CPU engine."""
    calculate_scales: bool | None = None


@dataclass(frozen=True)
class PreloadSpec:
    enabled: bool | None = None
    channels: int | None = None


@dataclass(frozen=True)
class MemorySpec:
    strategy: str | None = None
    """The loader's name (vram_only, hybrid ...); None lets the planner choose."""
    gpu_memory_utilization: float | None = None
    cpu_offload_gib: float | None = None
    """Weights kept in host RAM, in GiB for each GPU (as vLLM counts them)."""
    offload_backend: str | None = None
    offload_params: tuple[str, ...] | None = None
    """Segments of the names of the parameters that may leave the cards ("experts"); None lets the planner choose."""
    kv_offload_gib: float | None = None
    kv_offload_dir: str | None = None
    """A folder for KV blocks that leave host RAM too."""
    swap_gib: float | None = None
    enforce_eager: bool | None = None
    preload: PreloadSpec = field(default_factory=PreloadSpec)
    reserve_host: bool | None = None
    dynamic: str = "advise"
    """off, advise or act: what a lack of memory while serving leads to."""
    kv_cache: KvCacheSpec = field(default_factory=KvCacheSpec)


@dataclass(frozen=True)
class SpeculativeSpec:
    """Speculative decoding: who drafts tokens that the model then verifies together. All None: nobody."""

    method: str | None = None
    model: str | None = None
    """The draft model, a folder or a hub id; None for methods that need none, and for layers of the model itself."""
    config: Mapping[str, Any] | None = None
    """The content of the draft's config.json, so that planning needs no download."""
    num_speculative_tokens: int | None = None
    draft_tensor_parallel: int | None = None
    quantization: str | None = None
    max_model_len: int | None = None
    prompt_lookup_max: int | None = None
    prompt_lookup_min: int | None = None
    options: Mapping[str, Any] | None = None
    """Further keys of vLLM's speculative configuration, handed on as they are."""

    @property
    def is_asked(self) -> bool:
        """Whether anybody drafts."""
        return self != SpeculativeSpec()


@dataclass(frozen=True)
class ServeSpec:
    host: str = "127.0.0.1"
    port: int | None = None
    """None takes 8000, or the next free port."""
    api_key_env: str | None = None
    """The name of the environment variable that holds the API key; the key itself is never written down."""
    front_door: bool = False
    """Clients ask a proxy in the supervisor, which stays while the engine is started again."""
    continue_streams: bool = False
    """A stream that the engine's death broke off goes on after the restart, from its tokens."""
    tensor_parallel: int | None = None
    pipeline_parallel: int | None = None
    pipeline_partition: tuple[int, ...] | None = None
    """Layers on each pipeline stage."""
    data_parallel: int | None = None
    """Engines side by side, each with its own KV cache; they share the experts of a model."""
    expert_parallel: bool | None = None
    """Whole experts lie on each rank, instead of a part of each."""
    prefix_caching: bool | None = None
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    cpu_threads_bind: str | None = None
    """The cores of each rank of the CPU engine, as vLLM writes them: "0-3|4-7"."""
    speculative: SpeculativeSpec = field(default_factory=SpeculativeSpec)
    extra_args: tuple[str, ...] = ()


@dataclass(frozen=True)
class EngineSpec:
    kind: str | None = None
    """Which engine provider starts vLLM (local ...); None takes the one that comes first."""
    version: str | None = None
    python: str | None = None
    """The interpreter of the engine's environment; None looks for an installed engine."""
    adapter: str | None = None
    """The adapter's name; None takes the only one that knows the release."""
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class WorkloadSpec:
    concurrency: int = 1
    input_tokens: int = 512
    output_tokens: int = 256
    objective: str = "throughput"
    """throughput, latency or context: what free memory is spent on."""


@dataclass(frozen=True)
class ProbeSpec:
    """What is asked once the server is ready, and what happens then."""

    question: str | None = None
    """None asks for one short completion only."""
    max_tokens: int = 64
    then: str | None = None
    """serve or stop; None serves, and stops inside a sweep."""


@dataclass(frozen=True)
class LimitsSpec:
    attempts: int = 3
    """Most starts that fail, since the engine served last."""
    deaths: int = 3
    """Deaths of a serving engine, with too little served between them, that end the run. 1 never restarts it."""
    startup_stall_seconds: float = 300.0
    """Give up on a start without any progress for this long (there is no fixed deadline)."""
    stop_seconds: float = 20.0
    """How long each rung of the stop ladder waits."""
    log_mib: int = 256
    """Size at which engine.log is cut over; two pieces are kept."""
    pressure_seconds: float = 300.0
    """How long a lack of memory must last before it leads to advice."""
    adjustments: int = 2
    """Most restarts with a better plan (memory.dynamic=act)."""
    drain_seconds: float = 60.0
    """How long such a restart waits for requests that are being answered."""
    body_mib: int = 10
    """The largest body of a request that the front door takes."""


@dataclass(frozen=True)
class EvidenceSpec:
    """What a sweep measured of the profile that it wrote; it decides nothing. A plan says when it no longer holds."""

    engine_version: str | None = None
    driver: str | None = None
    cards: str | None = None
    """As "2 x NVIDIA GeForce RTX 4090"."""
    date: str | None = None
    tokens_per_second: float | None = None
    """Output tokens of `concurrency` requests together."""
    concurrency: int | None = None
    first_token_seconds: float | None = None
    starts: int | None = None
    """Engine starts in which it was measured."""
    soaked_requests: int | None = None
    failure_bound: float | None = None
    """Fewer of its requests fail than this share, with 95 % confidence."""


@dataclass(frozen=True)
class SweepConstraints:
    first_token_seconds: float | None = None
    """The longest median time to the first token."""
    max_model_len: int | None = None
    """The shortest context."""


@dataclass(frozen=True)
class SweepSpec:
    """What a sweep looks for, and what it may take."""

    launches: int = 16
    """Most engine starts that search; `confirmations` are those that confirm the pick."""
    confirmations: int = 4
    minutes: float | None = None
    objective: str = "tokens_per_second"
    constraints: SweepConstraints = field(default_factory=SweepConstraints)
    failure_bound: float = 0.0025
    """The share of failing requests below which a pick is called stable, with 95 % confidence."""
    client: str | None = None
    """Who measures: vllm or nexus; None takes vllm's own client where the engine has it."""
    measure_requests: int | None = None
    """Requests of one measurement; None is four for each of those at once."""
    soak_minutes: float = 10.0
    soak_requests: int = 400
    resume: str | None = None
    """A folder, or never; None goes on with the last sweep of the same command that did not come to its end."""


@dataclass(frozen=True)
class RunSpec:
    """A validated run. `origins` maps each dotted key to the file or command line that set it."""

    name: str
    model: ModelSpec = field(default_factory=ModelSpec)
    hardware: HardwareSpec = field(default_factory=HardwareSpec)
    memory: MemorySpec = field(default_factory=MemorySpec)
    engine: EngineSpec = field(default_factory=EngineSpec)
    serve: ServeSpec = field(default_factory=ServeSpec)
    workload: WorkloadSpec = field(default_factory=WorkloadSpec)
    probe: ProbeSpec = field(default_factory=ProbeSpec)
    limits: LimitsSpec = field(default_factory=LimitsSpec)
    evidence: EvidenceSpec = field(default_factory=EvidenceSpec)
    sweep: SweepSpec = field(default_factory=SweepSpec)
    plugin: Mapping[str, Any] = field(default_factory=dict)
    """Settings that plugins add; an adapter must know each of them."""
    origins: Mapping[str, str] = field(default_factory=dict)

    def get(self, key: str) -> Any:
        """The value at a dotted key such as "memory.kv_cache.dtype". Raises AttributeError for an unknown key."""
        value: Any = self
        for part in key.split("."):
            # records are asked for first: a plan asks for hundreds of values, and whether one is a Mapping is slow
            is_mapping = not hasattr(value, "__dataclass_fields__") and isinstance(value, Mapping)
            value = value[part] if is_mapping else getattr(value, part)
        return value

    def is_open(self, key: str) -> bool:
        """Whether the value at a dotted key is left to the planner."""
        return self.get(key) in (None, "auto")

    def with_value(self, key: str, value: Any) -> RunSpec:
        """A copy of the spec with another value at a dotted key."""
        changed: RunSpec = _with_value(self, key.split("."), value)
        return changed

    def origin(self, key: str) -> str | None:
        """Where the value at this dotted key was written, or None when it is a default."""
        return self.origins.get(key)


def _with_value(record: Any, path: Sequence[str], value: Any) -> Any:
    """A copy of a nested record with the value at the path."""
    first, *rest = path
    return replace(record, **{first: _with_value(getattr(record, first), rest, value) if rest else value})
