"""LoRA adapters: which ranks a release takes, what they are put on, and whether their memory is counted."""

from __future__ import annotations

from nexus_orch.releases.fact import Fact

_RANKS = "config/lora.py (before 0.10.1 config.py): possible_max_ranks, later MaxLoRARanks"
takes_rank_128 = Fact("ranks of 128 and 256", since="0.5.5", source=_RANKS)
takes_rank_512 = Fact("ranks of 320 and 512", since="0.8.0", source=_RANKS)
takes_rank_1 = Fact("a rank of 1", since="0.11.1", source=_RANKS)
adapts_experts = Fact(
    "routed experts get room for adapters, too",
    since="0.11.1",
    source="lora/utils.py: get_supported_lora_modules, FusedMoE",
)
adapts_words_of_qwen3 = Fact(
    "embedding and output matrix of Qwen3 get room for adapters",
    since="0.16.0",
    source="model_executor/models/qwen3.py: embedding_modules",
)
adds_words = Fact(
    "adapters may bring words of their own, for which 256 rows of embedding and output matrix are kept",
    before="0.12.0",
    source="lora/layers/vocal_parallel_embedding.py: lora_extra_vocab_size",
)
captures_without_adapters = Fact(
    "graphs are captured for batches with adapters and once more for those without",
    since="0.11.1",
    source="config/compilation.py: cudagraph_specialize_lora",
)
counts_model_alone = Fact(
    "the V0 engine takes the model alone for the weights when it sizes the KV cache: adapters and drafts come on top",
    since="0.6.6",
    before="0.8.0",
    source="worker/worker.py: weights_memory of model_runner.model_memory_usage (vllm-project/vllm#14450)",
)


def lora_ranks(version: str) -> tuple[int, ...]:
    """The values of max_lora_rank that a release takes."""
    return (
        *((1,) if takes_rank_1(version) else ()),
        *(8, 16, 32, 64),
        *((128, 256) if takes_rank_128(version) else ()),
        *((320, 512) if takes_rank_512(version) else ()),
    )
