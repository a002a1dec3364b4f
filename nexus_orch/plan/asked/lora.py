"""LoRA adapters: the room that is kept for them on each card, and their copies in host RAM.

Every linear layer gets two stacks, one slot for each adapter of a batch (lora/layers of 0.33.0, create_lora_weights):
A of rank x inputs, B of outputs x rank. Outputs that are divided among ranks divide B, inputs that are divided divide
A; with fully_sharded the other one is divided, too. Fused layers have an A for each of their parts; experts a pair for
each expert. Embedding and output matrix get them in the families that say so (`embedding_modules`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nexus_orch.plan.model.architecture import Architecture, Layer, Parameter
from nexus_orch.plan.model.formats import DTYPE_BYTES
from nexus_orch.releases.lora import adapts_experts, adapts_words_of_qwen3, adds_words
from nexus_orch.types import GIB, RunSpec

DEFAULT_RANK = 16
DEFAULT_LORAS = 1
EXTRA_WORDS = 256
_PARTS = {
    "qkv_proj": ("q_proj", "k_proj", "v_proj"),
    "gate_up_proj": ("gate_proj", "up_proj"),
    "w13_weight": ("gate_proj", "up_proj"),
}
"""The layers that are fused into one, by the name of the fused one."""
_WITH_EMBEDDING = frozenset(
    {
        *("llama", "mistral", "mixtral", "cohere", "cohere2", "granite", "granitemoehybrid", "jamba", "nemotron-nas"),
        *("nemotron_h", "exaone4", "lfm2", "lfm2_moe"),
    }
)
"""Families whose embedding and output matrix take adapters (models/*.py: embedding_modules of 0.19.1)."""

_WITH_EMBEDDING_LATER = frozenset({"qwen3", "qwen3_moe"})


@dataclass(frozen=True)
class StageLayers:
    """The part of a model that one pipeline stage holds."""

    layers: Sequence[Layer]
    is_first: bool
    is_last: bool


@dataclass(frozen=True)
class Lora:
    """Room for adapters: `loras` at once, of `rank` at most."""

    loras: int
    rank: int
    element_bytes: int
    cpu_loras: int
    fully_sharded: bool
    target_modules: tuple[str, ...]
    on_experts: bool
    with_words: bool
    """Embedding and output matrix of Qwen3 take adapters, too."""
    extra_words: int

    def card_bytes(self, architecture: Architecture, stage: StageLayers, tensor_parallel: int) -> int:
        """Bytes on each card of a stage."""
        return self.loras * self.element_bytes * self._elements(architecture, stage, tensor_parallel)

    def host_bytes(self, architecture: Architecture) -> int:
        """Bytes of the copies in host RAM, in each process that runs a card: whole adapters, not divided."""
        whole = StageLayers(architecture.layers, is_first=True, is_last=True)
        return self.cpu_loras * self.element_bytes * self._elements(architecture, whole, 1)

    def _elements(self, architecture: Architecture, stage: StageLayers, ranks: int) -> int:
        """Elements of one adapter on a rank."""
        found = sum(self._stacks(part, ranks) for layer in stage.layers for part in layer.parameters)
        return found + sum(self._words(architecture, stage)) if self._takes("embed_tokens") else found

    def _stacks(self, part: Parameter, ranks: int) -> int:
        """Elements of both stacks of one layer; 0 where it takes no adapter."""
        name = part.name.removesuffix(".weight").rpartition(".")[2]
        is_matrix = part.columns > 1 and (part.linear or name == "gate")
        if not is_matrix or not self._takes(name) or (part.copies > 1 and not self.on_experts):
            return 0
        rows, columns = part.shape_on_rank(ranks)
        parts = len(_PARTS.get(name, (name,)))
        divided = ranks if self.fully_sharded else 1
        a = parts * columns * (self.rank // divided if part.split == "rows" else self.rank)
        b = self.rank * (rows // divided if part.split == "columns" else rows)
        return part.copies * (a + b)

    def _takes(self, name: str) -> bool:
        """Whether a layer takes adapters in this run."""
        wanted = {name, *_PARTS.get(name, ())}
        return not self.target_modules or not wanted.isdisjoint(self.target_modules)

    def _words(self, architecture: Architecture, stage: StageLayers) -> Iterator[int]:
        """Elements beside embedding and output matrix, which are not divided."""
        later = architecture.model_type in _WITH_EMBEDDING_LATER and self.with_words
        if architecture.model_type not in _WITH_EMBEDDING and not later:
            return
        hidden, words = architecture.hidden_size, architecture.vocabulary
        if stage.is_first:
            yield self.rank * (words + self.extra_words + hidden) + self.extra_words * hidden
        if stage.is_last:
            yield self.rank * (words + hidden) + self.extra_words * hidden


def lora_notes(spec: RunSpec, room_bytes: int, lora: Lora | None) -> tuple[str, ...]:
    """What adapters take on a card, and settings of them that are without effect."""
    if lora is not None:
        adapters = "one adapter" if lora.loras == 1 else f"{lora.loras} adapters"
        return (f"room for {adapters} of rank {lora.rank} takes {room_bytes / GIB:.2f} GiB of each card",)
    told = [name for name in vars(spec.model.lora) if name != "enabled" and spec.get(f"model.lora.{name}") is not None]
    return tuple(f"model.lora.{name} is without effect: model.lora.enabled is not true" for name in told)


def read_lora(spec: RunSpec, version: str, dtype_bytes: int) -> Lora | None:
    """The room that the run asks for; None where it serves no adapters."""
    asked = spec.model.lora
    if not asked.enabled:
        return None
    loras = asked.max_loras or DEFAULT_LORAS
    return Lora(
        loras=loras,
        rank=asked.max_lora_rank or DEFAULT_RANK,
        element_bytes=DTYPE_BYTES.get(asked.dtype or "", dtype_bytes),
        cpu_loras=max(loras, asked.max_cpu_loras or 0),
        fully_sharded=bool(asked.fully_sharded),
        target_modules=asked.target_modules or (),
        on_experts=adapts_experts(version),
        with_words=adapts_words_of_qwen3(version),
        extra_words=EXTRA_WORDS if adds_words(version) else 0,
    )
