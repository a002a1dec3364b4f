"""What options that are only passed on say about memory: drafts, prefixes, states, context parallelism, graph sizes.

A plan that looked at settings alone would be wrong for a run that has them: `serve.extra_args` reaches the engine as it
is. Sources: vllm/engine/arg_utils.py and vllm/config/speculative.py of 0.11.0 to 0.33.0.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nexus_orch.releases.options import names_of
from nexus_orch.releases.speculation import WITHOUT_DRAFT
from nexus_orch.types import SpeculativeSpec

_LIMIT = re.compile(r"(image|video)\W{1,4}(\d+)")


@dataclass(frozen=True)
class Passed:
    """What the passed options say; None where they say nothing."""

    speculative: SpeculativeSpec = field(default_factory=SpeculativeSpec)
    caches_prefixes: bool | None = None
    state_mode: str | None = None
    """--mamba-cache-mode."""
    state_dtype: str | None = None
    """--mamba-ssm-cache-dtype."""
    context_parallel: int = 1
    """Ranks among which the tokens of a request are divided while it is decoded."""
    data_parallel: int | None = None
    local_engines: int | None = None
    """Those of the engines side by side that run on this machine."""
    expert_parallel: bool = False
    overlaps_batches: bool | None = None
    """--async-scheduling."""
    has_adapters: bool = False
    serves_images: bool = True
    profiles_images: bool = True
    """The vision tower is run while memory is profiled."""


def read_passed(extra_args: Sequence[str]) -> Passed:
    """The options of a command line that move memory and have no setting of ours."""
    options = _Options(extra_args)
    return Passed(
        speculative=_speculative(options),
        caches_prefixes=options.flag("enable-prefix-caching"),
        state_mode=options.text("mamba-cache-mode"),
        state_dtype=options.text("mamba-ssm-cache-dtype"),
        context_parallel=max(1, options.number("decode-context-parallel-size", "dcp") or 1)
        * max(1, options.number("prefill-context-parallel-size", "pcp") or 1),
        data_parallel=options.number("data-parallel-size", "dp"),
        local_engines=options.number("data-parallel-size-local", "dpl"),
        expert_parallel=options.flag("enable-expert-parallel") is True or options.flag("ep") is True,
        overlaps_batches=options.flag("async-scheduling"),
        has_adapters=options.flag("enable-lora") is True,
        serves_images=_serves_images(options),
        profiles_images=options.flag("skip-mm-profiling") is not True,
    )


class _Options:
    """The values of options in the spellings that the engine's parser takes: `--a b`, `--a=b`, `--a_b`, `--no-a`,
    `--a.key b`."""

    def __init__(self, words: Sequence[str]) -> None:
        self._given: dict[str, str] = {}
        self._keys: dict[str, dict[str, str]] = {}
        for name, value in _pairs(words):
            head, _, key = name.partition(".")
            if key:
                self._keys.setdefault(head, {})[key] = value
            else:
                self._given[head] = value

    def text(self, *names: str) -> str | None:
        return next((self._given[name] for name in _all_names(names) if self._given.get(name)), None)

    def number(self, *names: str) -> int | None:
        told = self.text(*names)
        return int(told) if told is not None and told.isdecimal() else None

    def flag(self, name: str) -> bool | None:
        for spelt in _all_names([name]):
            if f"no-{spelt}" in self._given:
                return False
            if spelt in self._given:
                return self._given[spelt].lower() not in ("false", "0")
        return None

    def record(self, *names: str) -> Mapping[str, Any]:
        """A JSON object, with dotted keys over it."""
        found: dict[str, Any] = {}
        for name in _all_names(names):
            try:
                told = json.loads(self._given.get(name) or "{}")
            except (ValueError, RecursionError):
                told = {}
            found |= told if isinstance(told, dict) else {}
            found |= self._keys.get(name, {})
        return found


def _all_names(names: Iterable[str]) -> list[str]:
    """The options with every name that they had and have (`RENAMED`)."""
    return [known.removeprefix("--") for name in names for known in names_of(f"--{name}")]


def _pairs(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each option without its dashes, with the words behind it."""
    name, values = "", list[str]()
    for word in (*words, "--"):
        if word.startswith("-") and not word[1:2].isdigit():
            if name:
                yield name, " ".join(values)
            spelt, equals, value = word.lstrip("-").partition("=")
            head, dot, key = spelt.partition(".")
            name, values = head.replace("_", "-") + dot + key, [value] if equals else []
        else:
            values.append(word)


def _speculative(options: _Options) -> SpeculativeSpec:
    """Speculative decoding in the words of any release."""
    told = options.record("speculative-config", "sc")
    tokens = _count(told.get("num_speculative_tokens")) or options.number("num-speculative-tokens", "spec-tokens")
    model = told.get("model") or options.text("speculative-model", "spec-model")
    method = str(told.get("method") or options.text("spec-method") or "") or None
    if str(model).strip("[]") in WITHOUT_DRAFT:
        method, model = str(model).strip("[]"), None
    ranks = _count(told.get("draft_tensor_parallel_size"))
    ranks = ranks or options.number("speculative-draft-tensor-parallel-size")
    return SpeculativeSpec(method, None if model is None else str(model), None, tokens, ranks)


def _count(value: object) -> int | None:
    if isinstance(value, str) and value.isdecimal():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _serves_images(options: _Options) -> bool:
    """Unless --language-model-only is given, or no image and no video is allowed (`--limit-mm-per-prompt`)."""
    if options.flag("language-model-only"):
        return False
    told = options.record("limit-mm-per-prompt")
    limits = {kind: str(count) for kind, count in told.items()}
    if not limits:
        limits = dict(_LIMIT.findall(options.text("limit-mm-per-prompt") or ""))
    return not (limits.get("image") == "0" and limits.get("video", "0") == "0")
