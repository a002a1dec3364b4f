"""Facts: what is true about the model, the machine and the engine, each with its source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from nexus_orch.errors import Problem
from nexus_orch.releases.options import names_of

Sourced = Literal["file", "nvml", "os", "catalogue", "profile", "installed", "measured", "assumed"]
Device = Literal["cuda", "cpu"]
"""What an engine runs on."""
Storage = Literal["network", "rotating", "solid", "memory", "unknown"]
"""What a file lies on: bytes from another machine, a disk that turns, one that does not, RAM itself."""


@dataclass(frozen=True)
class TensorHeader:
    """One tensor of a checkpoint, from its safetensors header. `dtype` is safetensors' name (BF16, I32 ...)."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int


@dataclass(frozen=True)
class CheckpointFacts:
    """The weight files of a model folder."""

    format: Literal["safetensors", "bin", "gguf"]
    files: tuple[str, ...]
    total_bytes: int
    """Bytes of the weights: tensor data for safetensors, file sizes else."""
    tensors: tuple[TensorHeader, ...] = ()
    """Empty unless the format is safetensors."""
    file_bytes: tuple[int, ...] = ()
    """The size of each file when it was looked at."""
    cached_bytes: int | None = None
    """About how much of the files is in the page cache; None when the system does not tell."""
    storage: Storage = "unknown"


@dataclass(frozen=True)
class ModelFacts:
    name: str
    path: str | None
    """A local folder, or the hub id that vLLM will fetch."""
    config: Mapping[str, Any]
    config_source: str
    """A file name, or "profile"."""
    checkpoint: CheckpointFacts | None = None
    is_local: bool = False
    has_chat_template: bool | None = None
    notes: tuple[str, ...] = ()
    missing_weights: tuple[Problem, ...] = ()
    """What the folder lacks to be served; it is planned all the same."""


@dataclass(frozen=True)
class GpuFacts:
    index: int
    name: str
    total_bytes: int
    """Memory as CUDA reports it (a little less than NVML's figure)."""
    free_bytes: int
    source: Sourced
    memory_bandwidth_bytes_per_second: float | None = None
    host_bandwidth_bytes_per_second: float | None = None
    """Host to device, one direction, pinned memory."""
    compute_capability: tuple[int, int] | None = None
    supports_bf16: bool | None = None
    supports_fp8: bool | None = None
    nvlink: bool | None = None
    """Whether NVLink joins this card to the others of the machine; None where nobody has looked for a bridge."""
    nvlink_is_bridge: bool = False
    """Its NVLink is a bridge between two cards: among more of them, a pair is the most that it joins."""
    fp16_flops: float | None = None
    """Dense FP16 or BF16 operations per second."""
    numa_node: int | None = None
    """The node of the host's memory that the card's bus leads to; None where nobody can tell."""


@dataclass(frozen=True)
class HostFacts:
    ram_total_bytes: int
    """RAM that this process may use: the smaller of the machine's and the cgroup's."""
    ram_available_bytes: int
    swap_total_bytes: int
    swap_free_bytes: int
    cpu_count: int
    source: Sourced
    reserved_bytes: int = 0
    """RAM that the plan leaves alone (from hardware.host.reserved_gib)."""
    cgroup_limit_bytes: int | None = None
    pinned_limit_bytes: int | None = None
    """How much RAM CUDA can pin; about half of it under WSL, else None for no known limit."""
    numa_nodes: int = 1
    ram_bandwidth_bytes_per_second: float | None = None
    shared_memory_bytes: int | None = None
    """What is free in /dev/shm; None where there is none."""
    node_available_bytes: tuple[int, ...] = ()
    """RAM that each NUMA node has free or could free of page cache; empty where nobody can tell."""


@dataclass(frozen=True)
class MachineFacts:
    """One node. `gpus` is empty when the engine runs on the CPU."""

    name: str
    gpus: tuple[GpuFacts, ...]
    host: HostFacts
    platform: str
    """sys.platform: linux, win32, darwin."""
    is_wsl: bool = False
    is_this_machine: bool = True
    """False when a profile describes a machine that is not the one that plans."""
    notes: tuple[str, ...] = ()
    driver_version: str | None = None
    """The NVIDIA driver's, None without cards of this machine."""
    visible_gpus: tuple[int, ...] = ()
    """The cards of this machine that an engine sees, in its order, whether the run may use them or not."""


@dataclass(frozen=True)
class Flag:
    """One option of `vllm serve` in one release.

    `kind`: value (takes a value), store_true (a bare flag), bool_optional (--x and --no-x), json (takes JSON or dotted
    sub-keys), bool_value (takes true or false), optional_value (the value may be left out), append (may be repeated)
    or other (how it takes its value is not known). `choices` is empty when the values are not limited.
    """

    name: str
    kind: str
    aliases: tuple[str, ...] = ()
    type: str | None = None
    choices: tuple[Any, ...] = ()
    default: Any = None
    nargs: str | None = None
    optional: bool = False
    known_values: tuple[Any, ...] = ()
    """The values that the release names although it takes others too."""
    default_text: str | None = None
    """The expression of a default that is computed when vLLM starts; `default` is None then."""
    group: str | None = None
    help: str = ""
    """One sentence."""

    @property
    def takes_whole_numbers(self) -> bool:
        """Whether its value must be a whole number: `int`, or vLLM's own reader that also takes 32k."""
        return self.type in ("int", "human_readable_int", "human_readable_int_or_auto")


@dataclass(frozen=True)
class EngineFacts:
    """The installed vLLM, or the release that the plan assumes when none is installed."""

    version: str
    device: Device
    source: Literal["installed", "catalogue"]
    python: str | None = None
    """The interpreter that runs it; None when nothing is installed."""
    root: str | None = None
    """The folder of the package `vllm`; None when nothing is installed."""
    flags: Mapping[str, Flag] = field(default_factory=dict)
    """Every option by its long name, with the leading dashes."""
    notes: tuple[str, ...] = ()
    architectures: frozenset[str] | None = None
    """The models that its registry names ("LlamaForCausalLM"); None when that is not known."""
    torch: str | None = None
    """The version of the PyTorch that is installed beside it; None when that is not known."""
    flashinfer: bool | None = None
    """Whether FlashInfer is installed beside it; None when that is not known. Every release since 0.11.1 for CUDA asks
    for it (requirements/cuda.txt), so that an assumed engine has it."""

    def flag(self, name: str) -> Flag | None:
        """The flag of that name or alias ("--max-model-len"), or None when this release lacks it."""
        found = self.flags.get(name)
        if found is not None:
            return found
        return next((flag for flag in self.flags.values() if name in flag.aliases), None)

    def option(self, name: str) -> Flag | None:
        """The flag that means what our tables call `name`, under whichever of its names this release has it; None when
        this release lacks it. A word of the user's own is looked up by `flag`, as vLLM does."""
        return next(filter(None, map(self.flag, names_of(name))), None)


@dataclass(frozen=True)
class Facts:
    model: ModelFacts
    machine: MachineFacts
    engine: EngineFacts
    draft: ModelFacts | None = None
    """The model that drafts for it (serve.speculative); None without one, and where nothing is known of it."""
