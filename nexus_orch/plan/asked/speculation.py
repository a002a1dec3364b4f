"""Speculative decoding: what a draft brings to the cards: weights, keys and values, graphs, logits.

Sources, of vLLM: config/speculative.py (who drafts, and which layers a draft has), v1/spec_decode/eagle.py and
v1/worker/gpu/spec_decode (what is shared with the model: the embedding, and the output matrix unless the draft has its
own), models/llama_eagle.py, llama_eagle3.py, deepseek_mtp.py (the layers themselves).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cached_property

from nexus_orch.errors import ConfigError, Problem
from nexus_orch.plan.model.architecture import Architecture, Layer, Parameter
from nexus_orch.plan.model.config_reader import ConfigReader
from nexus_orch.plan.model.drafts import count_drafts, draft_scheme, make_own_draft
from nexus_orch.plan.model.families import blocks
from nexus_orch.plan.model.formats import UNQUANTIZED, Scheme
from nexus_orch.plan.model.quantization import choose_scheme
from nexus_orch.plan.model.tensors import choose_architecture
from nexus_orch.plan.release.weights import RankWeights, WeightLayout
from nexus_orch.releases.speculation import WITHOUT_DRAFT, is_mtp, shares_mtp_head
from nexus_orch.suggest import suggest
from nexus_orch.types import Facts, ModelFacts, RunSpec, SpeculativeSpec

_SIZE = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)[Bb](?![A-Za-z0-9])")
USUAL_DRAFT_VOCABULARY = 32000
"""The words of EAGLE 3's drafts for Llama, Qwen3 and gpt-oss, as their config.json have them (draft_vocab_size)."""
GUESSED_SHARE = 0.5
"""By how much of itself an estimate made of a draft's name or of its model's sizes may be wrong: an assumption."""
SMALL_DRAFT_SHARE = 0.03
"""Weights of a draft made for one model, of those of its model: assistants of Gemma 4 with 12B and 31B took 0.2 to 1.2
GiB a card more than nothing (published launches on RTX 3090 and L40S)."""
_EAGLE = ("eagle", "eagle3")
_HEADS = ("medusa", "mlp_speculator")
_NEEDS_TOKENS = frozenset({"ngram", "ngram_gpu", "draft_model", *_EAGLE, "medusa"})
_KEYS = "serve.speculative"


@dataclass(frozen=True)
class Speculation:
    """A draft. `architecture` holds what it brings beside the model: its layers, which have caches of their own, and
    under `head` all else; None where it brings nothing that is known."""

    method: str
    tokens: int
    """Tokens that are drafted for each step."""
    tensor_parallel: int | None = None
    """Ranks that share the draft; None: as many as share the model."""
    architecture: Architecture | None = None
    scheme: Scheme = UNQUANTIZED
    extra_bytes: int = 0
    """Weights whose shape is not known, over all ranks."""
    unsure_share: float = 0.0
    """The share of its weights by which they may differ."""
    has_model: bool = False
    """Another model drafts, not layers of the model itself."""
    notes: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers that keep keys and values beside the model's own, on the last stage."""
        return self.architecture.layers if self.architecture is not None else ()

    def weights(self, dtype_bytes: int, tensor_parallel: int, *, whole_segments: bool) -> RankWeights | None:
        """The draft's weights on a rank of the last stage, where their shapes are known."""
        if self.architecture is None:
            return None
        ranks = min(tensor_parallel, self.tensor_parallel or tensor_parallel)
        key = (dtype_bytes, ranks, whole_segments)
        if key not in self._weights:
            layout = WeightLayout(self.architecture, self.scheme, dtype_bytes, ranks, 1, whole_segments)
            self._weights[key] = layout.stages[0]
        return self._weights[key]

    @cached_property
    def _weights(self) -> dict[tuple[int, int, bool], RankWeights]:
        return {}

    def weights_bytes(self, dtype_bytes: int, tensor_parallel: int, *, whole_segments: bool) -> int:
        """Bytes of the draft's weights on a rank of the last stage."""
        known = self.weights(dtype_bytes, tensor_parallel, whole_segments=whole_segments)
        ranks = min(tensor_parallel, self.tensor_parallel or tensor_parallel)
        return (0 if known is None else known.total_bytes) + self.extra_bytes // ranks


@dataclass(frozen=True)
class VerifyingModel:
    """The model that verifies what is drafted."""

    architecture: Architecture
    scheme: Scheme


def read_speculation(asked: SpeculativeSpec, spec: RunSpec, facts: Facts, target: VerifyingModel) -> Speculation | None:
    """The draft that the run asks for, by its settings or by extra arguments; None where nobody drafts."""
    if not asked.is_asked:
        return None
    method = asked.method or _infer_method(asked, facts.draft)
    problems = tuple(_problems(spec, facts, method)) if spec.serve.speculative.is_asked else ()
    tokens = asked.num_speculative_tokens or count_drafts(facts.model.config) or 1
    own = is_mtp(method) and facts.draft is None
    has_model = asked.model is not None and not own and method not in WITHOUT_DRAFT
    found = Speculation(method, tokens, asked.draft_tensor_parallel, has_model=has_model)
    if problems or method in (*WITHOUT_DRAFT, "none"):
        return replace(found, problems=problems)
    if own:
        return _with_mtp(found, facts, target)
    if facts.draft is None:
        return _unknown(found, asked, target.architecture)
    try:
        return _with_model(found, facts, target.architecture, asked)
    except ConfigError as error:
        return _with_files(found, facts.draft, error)


def _infer_method(asked: SpeculativeSpec, draft: ModelFacts | None) -> str:
    """What vLLM takes the draft for where no method is given (config/speculative.py: __post_init__)."""
    name = (asked.model or "").lower()
    told = str(draft.config.get("model_type", "")) if draft is not None else ""
    for method in ("eagle3", "eagle", "medusa", "mlp_speculator"):
        if method in name or told == method:
            return method
    return "draft_model" if asked.model is not None else "none"


def _problems(spec: RunSpec, facts: Facts, method: str) -> list[Problem]:
    asked, origin = spec.serve.speculative, spec.origin
    known = facts.engine.option("--spec-method")

    def problem(key: str, message: str, remedy: str) -> Problem:
        whole = f"{_KEYS}.{key}"
        return Problem(message, whole, spec.get(whole), origin(whole), remedy, is_mistake=True)

    found = []
    if method == "none":
        remedy = f"{_KEYS}.method=ngram, or name a draft: {_KEYS}.model=ORG/NAME"
        return [problem("num_speculative_tokens", "nobody drafts: speculation has neither method nor model", remedy)]
    if known is not None and known.choices and method not in known.choices:
        names = [str(choice) for choice in known.choices]
        message = f"vLLM {facts.engine.version} has no speculative method {method}"
        found.append(problem("method", message, suggest(method, names) or f"it has {', '.join(names)}"))
    if asked.model is None and method in ("draft_model", *_EAGLE, *_HEADS, "dflash"):
        found.append(problem("model", f"{method} needs a draft model", f"{_KEYS}.model=ORG/NAME, or another method"))
    if asked.num_speculative_tokens is None and method in _NEEDS_TOKENS:
        message = f"{method} must be told how many tokens to draft"
        found.append(problem("num_speculative_tokens", message, f"{_KEYS}.num_speculative_tokens=3"))
    double = sorted(set(asked.options or {}) & _OWN_NAMES)
    if double:
        ours = _OURS.get(double[0], double[0])
        found.append(problem("options", f"{double[0]} has a key of its own", f"set {_KEYS}.{ours} instead"))
    return found


_OURS = {"draft_tensor_parallel_size": "draft_tensor_parallel"}
_OWN_NAMES = frozenset(
    {
        *("method", "model", "num_speculative_tokens", "draft_tensor_parallel_size", "quantization", "max_model_len"),
        *("prompt_lookup_max", "prompt_lookup_min"),
    }
)


def _with_mtp(found: Speculation, facts: Facts, target: VerifyingModel) -> Speculation:
    """Layers of the model's own checkpoint."""
    number = count_drafts(facts.model.config)
    notes: tuple[str, ...] = ()
    if not number:
        notes = ("config.json names no layers for multi-token prediction: one is assumed",)
    shares = shares_mtp_head(facts.engine.version)
    made = make_own_draft(target.architecture, number or 1, shares_head=shares)
    if made is None:
        note = f"not counted: the layers of {found.method} (no layer of this model keeps keys and values)"
        return replace(found, notes=(note,))
    unsure = GUESSED_SHARE if notes else 0.0
    return replace(found, architecture=made, scheme=draft_scheme(target.scheme), unsure_share=unsure, notes=notes)


def _with_model(found: Speculation, facts: Facts, target: Architecture, asked: SpeculativeSpec) -> Speculation:
    """A draft whose configuration is known. Raises ConfigError where the planner cannot tell its layers."""
    assert facts.draft is not None
    config = facts.draft.config
    if found.method in _HEADS:
        return _with_files(found, facts.draft, None)
    capability = facts.machine.gpus[0].compute_capability if facts.machine.gpus else None
    scheme = choose_scheme(config, asked.quantization, capability, facts.engine.version)
    if isinstance(scheme, Problem):
        scheme = UNQUANTIZED
    made = choose_architecture(facts.draft)
    if found.method in _EAGLE:
        made = _as_eagle(made, found.method, ConfigReader(config), target)
    return replace(found, architecture=made, scheme=scheme, unsure_share=GUESSED_SHARE if made.is_guess else 0.0)


def _as_eagle(made: Architecture, method: str, config: ConfigReader, target: Architecture) -> Architecture:
    """A model's layers as EAGLE has them: a matrix in front that joins what the model knows with the embedding, and of
    EAGLE 3 a first layer twice as wide at its entry, and an output matrix of its own for a smaller vocabulary."""
    hidden = made.hidden_size
    norm = blocks.vector("norm", hidden)
    if method == "eagle":
        joined = blocks.replicated_linear("fc", 2 * hidden, hidden)
        return replace(made, embedding=(), head=(joined, norm), vision=(), tied_embeddings=False)
    source = config.integer("target_hidden_size", default=target.hidden_size)
    words = config.integer("draft_vocab_size", default=made.vocabulary if config.config else USUAL_DRAFT_VOCABULARY)
    head = (
        blocks.replicated_linear("fc", 3 * source, hidden),
        norm,
        Parameter("lm_head.weight", words, hidden, "vocabulary"),
    )
    first, *others = made.layers
    wide = tuple(
        replace(part, columns=part.columns * 2) if part.name == "self_attn.qkv_proj.weight" else part
        for part in first.parameters
    )
    layers = (replace(first, parameters=wide), *others)
    return replace(made, layers=layers, embedding=(), head=head, vision=(), tied_embeddings=False)


def _with_files(found: Speculation, draft: ModelFacts, error: ConfigError | None) -> Speculation:
    """A draft of which only the size of its files is known: heads without a cache, or an architecture that the planner
    cannot read."""
    size = draft.checkpoint.total_bytes if draft.checkpoint is not None else 0
    what = "" if error is None else f" ({error.problems[0].message})"
    caches = found.method in _HEADS
    note = f"not counted: {'' if caches else 'keys and values of '}the draft {draft.name}{what}"
    notes = () if caches and size else (note,)
    return replace(found, extra_bytes=size, notes=notes, unsure_share=0.0 if size else 1.0)


def _unknown(found: Speculation, asked: SpeculativeSpec, target: Architecture) -> Speculation:
    """A draft of which nothing lies here. One of EAGLE is built like its model's layers; of another the name may tell
    the size of its weights."""
    name = asked.model or found.method
    remedy = f"{_KEYS}.config takes its config.json"
    if found.method in _EAGLE:
        made = _eagle_like(target, found.method)
        note = f"the draft {name} is not here: it is counted as one layer of its model's sizes; {remedy}"
        return replace(found, architecture=made, unsure_share=GUESSED_SHARE, notes=(note,))
    told = _SIZE.search(name)
    whole = sum(layer.elements * count for layer, count in target.distinct_layers)
    named = float(told.group(1)) * 1e9 if told is not None else None
    if named is None or named > whole / 2:  # the name of its model
        size, by = int(whole * SMALL_DRAFT_SHARE * 2), "as a small draft of its model"
    else:
        size, by = int(named * 2), "by its name"
    note = (
        f"the draft {name} is not here: its weights are taken as {size / 2**30:.1f} GiB {by}, its keys and "
        f"values are not counted; {remedy}"
    )
    return replace(found, extra_bytes=size, unsure_share=GUESSED_SHARE, notes=(note,))


def _eagle_like(target: Architecture, method: str) -> Architecture:
    """The usual draft of EAGLE for a model: one dense layer of its heads and widths."""
    hidden = target.hidden_size
    shape = blocks.Heads(hidden, target.attention_heads, target.kv_heads, target.head_dim)
    width = max((layer.mlp_width for layer in target.layers), default=0) or 3 * hidden
    parameters = (*blocks.attention(shape), *blocks.mlp(hidden, width), *blocks.norms(hidden))
    layer = Layer(parameters, shape.cache(), mlp_width=width)
    made = replace(target, layers=(layer,), vision=(), rotary_dim=target.rotary_dim)
    return _as_eagle(made, method, ConfigReader({}), target)
