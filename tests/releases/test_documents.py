"""Documents state bounds of releases as the facts have them, and no bound that is no fact."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nexus_orch.releases import allocator, engine, host_ram, lora, memory, models, speculation

ROOT = Path(__file__).resolve().parents[2]

REMEDIES = "nexus_orch/data/log_patterns.json"
"""The patterns of the judge: a document as far as their remedies go."""

STATED = {
    "docs/hybrid.md": (
        f"| since | {host_ram.offloads_weights.since} | {host_ram.prefetches.since} |",
        f"a vision tower too, before {host_ram.moves_towers.since}: from then on it leaves first",
        f"From {host_ram.prefetches.since} on a release can be told which parameters may leave",
        f"stay offloaded after they were repacked from {host_ram.keeps_repacked_weights.since} on; before, they are",
        f"| before {host_ram.kv_offload_is_broken.since} | not there |",
        f"| {host_ram.kv_offload_is_broken.span} | broken (`num_cpu_blocks must be specified`): refused |",
        f"| {host_ram.offloads_kv_blocks.since} to before {host_ram.keeps_groups_with_connector.since} | only for",
        f"| {host_ram.offloads_kv_blocks.since} to before {host_ram.shares_kv_region.since} | each layer is a pinned",
        f"| {host_ram.shares_kv_region.span} | one file in /dev/shm",
        f"adds a folder below the RAM (from {host_ram.has_disk_tier.since} on)",
        f"From {allocator.resets_allocator.before} on torch is told to pin tensors above 16 MiB as they are",
        f"before {host_ram.pins_twice.since} a plain copy of what is offloaded, given back afterwards; from "
        f"{host_ram.pins_twice.since} on the copy is pinned too",
        f"keeps what is freed ({host_ram.pins_twice.since} to before {allocator.resets_allocator.before})",
        f"a release from {host_ram.tells_what_it_offloads.since} on has printed what it moved",
        f"Releases whose second model runner ignores every offload ({engine.second_runner_ignores_weights.span}) and "
        f"which choose it by themselves (from {engine.chooses_second_runner.since} on) are given",
    ),
    "docs/adapters.md": (
        f"| `v0` | {engine.v0_by_default.span} |",
        f"| `v1` | {engine.v0_by_default.before} to before {engine.chooses_second_runner.since} | the V1 engine; "
        f"`VLLM_USE_V1=0` brings the V0 engine back before {engine.v0_on_request.before} |",
        f"| `v2` | {engine.chooses_second_runner.span} |",
        f"ignores offloading in {engine.second_runner_ignores_weights.span}, and before "
        f"{engine.second_runner_needs_pinning.before} it does not start without pinned memory",
        f"`VLLM_USE_V1=0` from {engine.v1_only.since} on does nothing",
        f"the V1 engine, but not {allocator.resets_allocator.span}, which resets the allocator's options",
        f"no KV connector (refused from {allocator.connector_refuses_segments.since} on)",
        f"; from {host_ram.prefetches.since} on, not under WSL)",
        f"from vLLM {allocator.resets_allocator.before} on, which asks for it and lets the option be",
        f"On {engine.v0_on_request.span} it is taken when the run asks for that engine",
        f"which {host_ram.pins_under_wsl.span} take as `VLLM_WSL2_ENABLE_PIN_MEMORY=1`",
    ),
    "docs/hooks.md": (
        f"`v0` ({engine.v0_by_default.span}), `v1` ({engine.v0_by_default.before} to before "
        f"{engine.chooses_second_runner.since}), `v2` ({engine.chooses_second_runner.span})",
    ),
    "docs/planner.md": (
        f"by default from {memory.caches_prefixes_of_states.since} on, or with",
        f"From {memory.counts_batches_in_flight.since} on a window holds the tokens of the",
        f"Releases from {lora.counts_model_alone.before} on and before "
        f"{speculation.lacks_draft_models.since} run a whole draft model",
        f"experts from {lora.adapts_experts.since} on, embedding",
        f"From {lora.captures_without_adapters.since} on graphs are captured with adapters",
        f"Releases from {lora.counts_model_alone.since} to before {lora.counts_model_alone.before} do not count",
        f"(V1 runner from {memory.first_runner_reserves_graphs.since} on, all from "
        f"{memory.second_runner_reserves_graphs.since} on)",
        f"V0, V1 runner before {memory.samples_fused.since} |",
        f"V1 runner from {memory.samples_fused.since} on |",
        f"V2 runner from {memory.second_runner_profiles_sampler.since} on, without FlashInfer's sampler |",
        f"V2 runner from {memory.second_runner_profiles_sampler.since} on, where FlashInfer is installed |",
        f"From {memory.compares_free_memory.since} on vLLM compares free memory",
        f"From {memory.makes_handles_first.since} on the handles of cuBLAS",
        f"by default from {memory.caches_prefixes_of_states.since} on",
        f"before {memory.keeps_state_of_each_block.before} Mamba keeps one for each block of tokens",
        f"From {memory.counts_batches_in_flight.since} on a window holds",
        f"From {memory.wants_block_for_each_request.since} on such a model does not start",
        f"releases before {memory.is_little_known.before}, of which two launches are known",
        f"lie in segments that grow (from {allocator.resets_allocator.before} on)",
        f"V2 runner before {memory.second_runner_profiles_sampler.since} |",
        f"From {memory.runs_torch_2_11.since} on there is a third moment",
        f"as pinned memory is given out before vLLM {allocator.resets_allocator.before}",
        f"in whole ones before {memory.cpu_counts_memory.since}",
        f"and from {models.reads_gguf_by_plugin.since} on a plugin for the format",
        f"Before {models.layers_rest_in_the_middle.since} a release gives all that does not divide to the last stage",
        f"and the release must be {models.narrow_cache_on_all_cards.since} or later",
    ),
    "docs/causes.md": (
        f"an engine.version of {engine.second_runner_ignores_weights.before} or later, or set engine.env."
        f"VLLM_USE_V2_MODEL_RUNNER=0 ({engine.second_runner_ignores_weights.span} ignore the offload",
        f"prints what it offloads ({host_ram.tells_what_it_offloads.span})",
    ),
    REMEDIES: (
        f"an engine.version of {engine.second_runner_ignores_weights.before} or later, or set engine.env."
        f"VLLM_USE_V2_MODEL_RUNNER=0 ({engine.second_runner_ignores_weights.span} ignore the offload",
        f"VLLM_WSL2_ENABLE_PIN_MEMORY=1 (vLLM {host_ram.pins_under_wsl.since} or later)",
        f"(WSL): use vLLM {host_ram.weights_need_pinning.before} or later",
        f"several kinds of KV cache: use vLLM {host_ram.refuses_states_by_uva.before} or later",
    ),
    "docs/keys.md": (
        f"experts.w2_weight (vLLM {host_ram.prefetches.span})",
        f"that leave host RAM too (vLLM {host_ram.has_disk_tier.span})",
    ),
}
"""By the document, what it says about the bounds of a fact."""

ELSEWHERE = {
    "docs/adapters.md": (
        "0.16.0 and earlier of vLLM have it",  # the answer to an extra argument, which the catalogue gives
        'versions=">=0.22"',  # an example
    ),
    "docs/planner.md": (
        "Up to 0.11.0 a FlashInfer that happens to be installed",  # seen by nobody who plans: no rule follows from it
        "Of 0.28 to 0.32 few launches were at hand",  # what was measured
        "ran on one H100 with 0.11.2 and did not with 0.14.1",
    ),
}
"""Bounds that are no facts about what a release does."""

RELEASE = r"0\.(?:[4-9]|[1-9]\d)(?:\.\d+)?(?:\.post\d+)?(?![\d%]|\.\d| (?:of|GiB|ms|s|MiB|and 0))"
BOUND = re.compile(
    rf"(?:\b[Bb]efore|\b[Ff]rom|\b[Ss]ince|\b[Uu]p to|\b[Uu]ntil|\bin) (?:vLLM )?{RELEASE}"
    rf"|{RELEASE} (?:and|or) (?:later|earlier)|{RELEASE} to (?:before )?{RELEASE}|[<>]=?{RELEASE}"
)


def _read(document: str) -> str:
    """The document with all white space as one blank; of the patterns of the judge, the remedies."""
    text = (ROOT / document).read_text(encoding="utf-8")
    if document == REMEDIES:
        text = "\n".join(re.findall(r'"remedy": "(.*)"', text))
        text = re.sub(r"\[\[[^|]*\|", "[[", text)  # the releases that a part is for: held against the catalogue
    return " ".join(text.split())


@pytest.mark.parametrize(
    ("document", "sentence"), [(document, sentence) for document, told in STATED.items() for sentence in told]
)
def test_a_document_states_the_bounds_of_a_fact(document: str, sentence: str) -> None:
    assert sentence in _read(document)


@pytest.mark.parametrize("document", STATED)
def test_a_document_states_no_other_bound(document: str) -> None:
    text = _read(document)
    for sentence in (*STATED[document], *ELSEWHERE.get(document, ())):
        text = text.replace(sentence, "")
    assert [text[max(0, found.start() - 40) : found.end() + 40] for found in BOUND.finditer(text)] == []
