"""Speculative decoding: which release knows which method, and how it is asked for."""

from __future__ import annotations

from collections.abc import Mapping

from nexus_orch.releases.fact import Fact

takes_speculative_config = Fact(
    "speculative decoding is asked for by one option that takes JSON, --speculative-config; before, by options of its "
    "own (--speculative-model, --num-speculative-tokens ...)",
    since="0.8.2",
    source="engine/arg_utils.py: create_speculative_config",
)
lacks_draft_models = Fact(
    "a whole model does not draft: the V0 engine that did is gone, and the V1 engine cannot yet",
    since="0.10.0",
    before="0.15.0",
    source='engine/arg_utils.py: "Speculative decoding with draft model is not supported yet"',
)
shares_mtp_head = Fact(
    "layers for multi-token prediction share the output matrix of their model; before, each has its own",
    since="0.16.0",
    source="v1/spec_decode/eagle.py (from 0.20.0 on llm_base_proposer.py): `sh.head = target_language_model.lm_head`",
)
graphs_by_draft_width = Fact(
    "graphs are captured for as many tokens as the largest batch has with its drafts; before, for requests alone",
    since="0.12.0",
    source="config/vllm.py: decode_query_len",
)

_LITERAL = "config/speculative.py: SpeculativeMethod (before 0.11.0 in config.py)"
_SINCE = {
    "0.9.0": "deepseek_mtp",
    "0.9.1": "eagle3",
    "0.10.2": "qwen3_next_mtp ernie_mtp",
    "0.11.0": "mtp mimo_mtp longcat_flash_mtp",
    "0.11.1": "suffix pangu_ultra_moe_mtp glm4_moe_mtp",
    "0.14.0": "exaone_moe_mtp",
    "0.15.0": "glm4_moe_lite_mtp",
    "0.15.1": "step3p5_mtp",
    "0.16.0": "glm_ocr_mtp",
    "0.17.0": "nemotron_h_mtp qwen3_5_mtp extract_hidden_states",
    "0.18.0": "ngram_gpu",
    "0.20.0": "exaone4_5_mtp hy_v3_mtp dflash",
    "0.21.0": "gemma4_mtp mimo_v2_mtp",
    "0.22.0": "custom_class",
    "0.24.0": "minimax_m3_mtp",
    "0.25.0": "bailing_hybrid_mtp dspark",
    "0.26.0": "inkling_mtp",
    "0.27.0": "kimi_k3_mtp",
    "0.28.0": "dots3_note_mtp bailing_hybrid_v3_mtp",
    "0.29.0": "hy_v4_mtp qwen4_exp_mtp",
    "0.30.0": "glm5_next_mtp",
    "0.33.0": "step5_mtp",
}
SPECULATIVE_METHODS: Mapping[str, Fact] = {
    **{name: Fact(f"drafts by {name}", source=_LITERAL) for name in ("ngram", "draft_model", "eagle")},
    **{name: Fact(f"drafts by {name}", before="0.33.0", source=_LITERAL) for name in ("medusa", "mlp_speculator")},
    **{
        name: Fact(f"drafts by {name}", since=since, source=_LITERAL)
        for since, names in _SINCE.items()
        for name in names.split()
    },
}
"""The releases that know each method. Names of single models (deepseek_mtp) mean mtp from 0.11.0 on."""


WITHOUT_DRAFT = frozenset({"ngram", "ngram_gpu", "suffix", "extract_hidden_states"})
"""Methods that load no draft model."""
_BY_SECOND_RUNNER: Mapping[str, str] = {
    **dict.fromkeys(("eagle", "eagle3"), "0.22.0"),
    "dflash": "0.24.0",
    "dspark": "0.25.0",
    "extract_hidden_states": "0.29.0",
    "draft_model": "0.31.0",
    **dict.fromkeys(("ngram", "ngram_gpu"), "0.32.0"),
}
"""The first release whose second model runner runs a method (config/vllm.py:
_get_v2_model_runner_unsupported_features); the first one runs the others."""
_MTP = "mtp"


def is_mtp(method: str) -> bool:
    """Whether a method drafts by the model's own layers for multi-token prediction, whatever the release calls it."""
    return method == _MTP or method.endswith(f"_{_MTP}")


def second_runner_drafts(version: str, method: str) -> bool:
    """Whether the second model runner of this release runs the method."""
    since = _BY_SECOND_RUNNER.get(method)
    return is_mtp(method) or (since is not None and Fact("", since=since)(version))
