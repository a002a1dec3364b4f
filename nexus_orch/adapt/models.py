"""Whether a release of vLLM can run this model at all: its architecture, and the format of its weights. Pure."""

from __future__ import annotations

from nexus_orch.errors import Problem
from nexus_orch.facts.engine.architectures import releases_with_architecture
from nexus_orch.facts.options.catalogue import releases_where, render_releases
from nexus_orch.plan.model.gguf import GGUF
from nexus_orch.plan.model.methods import engine_names, stored_method
from nexus_orch.plan.model.quantization import quantization_config
from nexus_orch.types import Facts, Flag, RunSpec

_IMPLEMENTATION, _FORMAT = "--model-impl", "--quantization"
"""Extra arguments with which users say themselves who runs the model, or that a plugin brings the format."""


def check_model(spec: RunSpec, facts: Facts) -> tuple[Problem, ...]:
    """Why this engine cannot run the model. What no known release has is left to plugins of vLLM and is no problem."""
    said = {word.partition("=")[0] for word in spec.serve.extra_args}
    found = (
        None if _IMPLEMENTATION in said else _check_architecture(spec, facts),
        None if _FORMAT in said else _check_quantization(spec, facts),
    )
    return tuple(problem for problem in found if problem is not None)


def _check_architecture(spec: RunSpec, facts: Facts) -> Problem | None:
    known, names = facts.engine.architectures, facts.model.config.get("architectures")
    if known is None or not isinstance(names, list | tuple) or any(name in known for name in names):
        return None
    releases = [release for name in names for release in releases_with_architecture(str(name))]
    if not releases:
        return None
    return Problem(
        f"vLLM {facts.engine.version} does not know the architecture {' or '.join(map(str, names))}",
        "model.config.architectures",
        " ".join(map(str, names)),
        spec.origin("model.config.architectures") or facts.model.config_source,
        f"{render_releases(releases)} of vLLM know it; if a transformers model will do: "
        f'serve.extra_args=["{_IMPLEMENTATION}","transformers"]',
        "unsupported_architecture",
    )


def _check_quantization(spec: RunSpec, facts: Facts) -> Problem | None:
    """A pinned format is checked where it is said; this is the one that the checkpoint is stored in."""
    stored = quantization_config(facts.model.config)
    method = None if stored is None else stored_method(stored)
    if method is None or spec.model.quantization is not None:
        return None
    return _check_format(spec, facts, method, "model.config.quantization_config.quant_method")


def check_gguf(spec: RunSpec, facts: Facts) -> Problem | None:
    """Why this engine would not load a GGUF file. A plan is made all the same: the plugin can be installed later."""
    checkpoint = facts.model.checkpoint
    said = {word.partition("=")[0] for word in spec.serve.extra_args}
    if checkpoint is None or checkpoint.format != GGUF or _FORMAT in said:
        return None
    return _check_format(spec, facts, GGUF, "model.path")


def _check_format(spec: RunSpec, facts: Facts, method: str, key: str) -> Problem | None:
    if _takes(facts.engine.option(_FORMAT), method):
        return None
    releases = releases_where(_FORMAT, lambda flag: _takes(flag, method))
    if not releases:
        return None
    return Problem(
        f"vLLM {facts.engine.version} does not know {method} weights",
        key,
        method,
        spec.origin(key) or facts.model.config_source,
        f"{render_releases(releases)} of vLLM know it; or choose the model in another format; if a plugin of vLLM "
        f'adds this one: serve.extra_args=["{_FORMAT}","{method}"]',
        "unsupported_quantization",
    )


def _takes(flag: Flag | None, method: str) -> bool:
    """True also when the release does not name its formats."""
    values = () if flag is None else flag.choices or flag.known_values
    return not values or not engine_names(method).isdisjoint(map(str, values))
