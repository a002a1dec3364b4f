"""The names that checkpoints give to the modules of a layer, and the patterns with which they list some of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache, cached_property

_PARTS = {
    "qkv_proj": ("q_proj", "k_proj", "v_proj"),
    "gate_up_proj": ("gate_proj", "up_proj"),
    "in_proj_qkvz": ("in_proj_qkv", "in_proj_z"),
    "in_proj_ba": ("in_proj_b", "in_proj_a"),
    "fc1_latent_proj": (),
}
"""What vLLM fuses, by the modules of checkpoints (packed_modules_mapping). All parts are stored alike."""
_EXPERTS = {"w13_weight": ("gate_proj", "up_proj", "w1", "w3"), "w2_weight": ("down_proj", "w2")}
_OTHER_BLOCKS = {
    "self_attn": ("self_attn", "attention", "attn", "mixer"),
    "mlp": ("mlp", "block_sparse_moe", "feed_forward", "mixer", "moe"),
}
"""Other names of a layer's blocks. Nemotron-H calls each of them the mixer."""
_HEAD = "lm_head"
"""The output matrix lies in no layer."""
_STEMS = ("model.layers", "model.language_model.layers", "language_model.model.layers", "backbone.layers")
_NUMBERED = re.compile(r"layers\\?\.[^A-Za-z]*\d|\\\.\d")
"""A number of a layer in an entry, also within a regular expression."""
_LAYER = re.compile(r"(?:^|\.)layers\.(\d+)(?:\.|\*?$)")
"""ModelOpt's "path*" means the module and all below it, so that "layers.1*" does not name layer 10."""


@dataclass(frozen=True)
class Modules:
    """A list of modules as quantization configurations write it.

    `re:...` is a regular expression for the beginning of the whole name (compressed-tensors, torchao), a pattern with
    wildcards is one for the whole name (ModelOpt, Quark), and any other entry means a module of that name, wherever it
    lies, with all that is below it.
    """

    patterns: tuple[str, ...]

    @classmethod
    def of(cls, patterns: Iterable[object]) -> Modules:
        return cls(tuple(pattern for pattern in patterns if isinstance(pattern, str) and pattern))

    @cached_property
    def depend_on_layer(self) -> bool:
        """Whether some layers may be named and others not."""
        return any(_NUMBERED.search(pattern) for pattern in self.patterns)

    @cached_property
    def _of_one_layer(self) -> dict[int, tuple[str, ...]]:
        """The entries that name a single layer, from there on, so that thousands of them are found at once."""
        found: dict[int, list[str]] = {}
        for pattern in self.patterns:
            match = _single_layer(pattern)
            if match:
                found.setdefault(int(match[1]), []).append(pattern[match.end() :])
        return {layer: tuple(rests) for layer, rests in found.items()}

    @cached_property
    def _everywhere(self) -> tuple[str, ...]:
        return tuple(pattern for pattern in self.patterns if not _single_layer(pattern))

    def names(self, parameter: str, layer: int | None = None) -> bool:
        """Whether an entry names this parameter (by vLLM's fused name) of this layer; without one, of any layer.

        Any part of a fused module stands for the whole: vLLM wants them stored alike.
        """
        found = self._of_one_layer
        single = found.get(layer, ()) if layer is not None else {rest for rests in found.values() for rest in rests}
        tails = module_names(parameter)
        in_layer = not parameter.startswith(_HEAD)
        if in_layer and any(
            not rest or _holds(tail, rest) or fnmatchcase(tail, rest) for rest in single for tail in tails
        ):
            return True
        return any(_matches(pattern, tail, layer or 0) for pattern in self._everywhere for tail in tails)


@cache
def module_names(parameter: str) -> tuple[str, ...]:
    """What checkpoints may call the modules of this parameter, from the layer on: `self_attn.qkv_proj.weight` is in
    `self_attn.q_proj` and so on."""
    block, _, rest = parameter.removesuffix(".weight").removesuffix(".bias").partition(".")
    if not rest:
        return (block,)
    return tuple(f"{name}.{tail}" for name in _OTHER_BLOCKS.get(block, (block,)) for tail in _tails(rest))


def _tails(rest: str) -> Iterator[str]:
    yield rest
    head, _, last = rest.rpartition(".")
    if rest.startswith("experts."):
        yield "experts"
        yield from (f"experts.0.{part}" for part in _EXPERTS.get(last, ()))
    for part in _PARTS.get(last, ()):
        yield f"{head}.{part}" if head else part


def _single_layer(pattern: str) -> re.Match[str] | None:
    """Where an entry names one layer by its number and a dot; regular expressions may mean several."""
    return None if pattern.startswith("re:") else _LAYER.search(pattern)


def _is_plain(pattern: str) -> bool:
    return not pattern.startswith("re:") and not any(sign in pattern for sign in "*?[")


def _holds(name: str, part: str) -> bool:
    return f".{part}." in f".{name}."


def _matches(pattern: str, tail: str, layer: int) -> bool:
    if _is_plain(pattern):
        return _holds(tail, pattern)
    whole = (tail,) if tail == _HEAD else (tail, *(f"{stem}.{layer}.{tail}" for stem in _STEMS))
    if pattern.startswith("re:"):
        expression = _compile(pattern[3:])
        return expression is not None and any(expression.match(name) for name in whole)
    # ModelOpt writes "path*" for a module and all below it.
    return any(fnmatchcase(name, pattern) for name in whole)


@cache
def _compile(expression: str) -> re.Pattern[str] | None:
    try:
        return re.compile(expression)
    except re.error:
        return None
