"""The settings of speculative decoding in the words of each release. Sources: nexus_orch/releases/speculation.py."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nexus_orch.adapt.ways import Table, Way, write_text
from nexus_orch.releases.fact import Fact
from nexus_orch.releases.speculation import SPECULATIVE_METHODS, lacks_draft_models, takes_speculative_config

OPTION = "--speculative-config"
_FLAT = takes_speculative_config.earlier
_NGRAM = "[ngram]"


def write_ngram(value: Any) -> str:
    """The word that older releases take in the place of a draft model: [ngram] for ngram."""
    return f"[{value}]"


def write_draft(value: Any) -> str:
    """The path or hub id of a draft model."""
    return write_text(value)


def _refuse_methods() -> Iterator[Way]:
    """A way for each method that a release lacks: too early, or no longer there."""
    for method, fact in SPECULATIVE_METHODS.items():
        missing = [fact.earlier] if fact.since is not None else []
        missing += [Fact("", since=fact.before)] if fact.before is not None else []
        for releases in missing:
            instead = f"use another serve.speculative.method, or vLLM {fact.span}"
            if method == "mtp":
                instead += (
                    f"; deepseek_mtp is the name for DeepSeek's models ({SPECULATIVE_METHODS['deepseek_mtp'].span})"
                )
            yield Way(
                releases=releases,
                values=(method,),
                refused=f"it has no speculative method {method}",
                instead=instead,
            )


def _within(name: str, *also: str) -> Way:
    return Way(OPTION, within=name, also=also)


SPECULATION: Table = {
    "serve.speculative.method": (
        *_refuse_methods(),
        Way(
            releases=lacks_draft_models,
            values=("draft_model",),
            refused=f"a whole model cannot draft in vLLM {lacks_draft_models.span}",
            instead=f"use eagle, eagle3 or ngram, or vLLM {lacks_draft_models.before} or later",
        ),
        Way("--speculative-model", releases=_FLAT, values=("ngram",), write=write_ngram),
        Way(releases=_FLAT, silent=("draft_model", "eagle", "medusa", "mlp_speculator")),  # the draft's config tells it
        _within("method", "--spec-method"),
    ),
    "serve.speculative.model": (
        Way("--speculative-model", releases=_FLAT, write=write_draft),
        _within("model", "--spec-model"),
    ),
    "serve.speculative.num_speculative_tokens": (
        Way("--num-speculative-tokens", releases=_FLAT),
        _within("num_speculative_tokens", "--spec-tokens"),
    ),
    "serve.speculative.draft_tensor_parallel": (
        Way("--speculative-draft-tensor-parallel-size", releases=_FLAT),
        _within("draft_tensor_parallel_size"),
    ),
    "serve.speculative.quantization": (
        Way("--speculative-model-quantization", releases=_FLAT),
        _within("quantization"),
    ),
    "serve.speculative.max_model_len": (
        Way("--speculative-max-model-len", releases=_FLAT),
        _within("max_model_len"),
    ),
    "serve.speculative.prompt_lookup_max": (
        Way("--ngram-prompt-lookup-max", releases=_FLAT),
        _within("prompt_lookup_max"),
    ),
    "serve.speculative.prompt_lookup_min": (
        Way("--ngram-prompt-lookup-min", releases=_FLAT),
        _within("prompt_lookup_min"),
    ),
    "serve.speculative.options": (
        Way(
            releases=_FLAT,
            refused=f"it has no {OPTION}, of which these are keys",
            instead=f"give them in serve.extra_args, or use vLLM {takes_speculative_config.since} or later",
        ),
        _within(""),
    ),
}
