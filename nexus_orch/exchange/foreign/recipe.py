"""Recipes of vllm-project/recipes: a model with the options that it always needs, its features and its variants.

Source: CONTRIBUTING.md of that repository. Variant `default` is the first way; a reader of the recipe chooses features
on its page, so they are named here, not added.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from nexus_orch.exchange.foreign.documents import mapping_of, text_of, texts
from nexus_orch.exchange.start import Container, Start


def is_recipe(document: Mapping[str, Any]) -> bool:
    return "model_id" in mapping_of(document.get("model"))


def parse_recipe(document: Mapping[str, Any]) -> list[Start]:
    """The default variant of a recipe, and its other variants as other ways to serve."""
    model = mapping_of(document.get("model"))
    variants = {name: mapping_of(value) for name, value in mapping_of(document.get("variants")).items()}
    ordered = {"default": variants.get("default", {}), **variants}
    return [_variant(document, model, name, variant, list(ordered)) for name, variant in ordered.items()]


def _variant(
    document: Mapping[str, Any], model: Mapping[str, Any], name: str, variant: Mapping[str, Any], names: list[str]
) -> Start:
    path = text_of(variant.get("model_id") or model.get("model_id"))
    words = [path, *_options(model.get("base_args")), *_options(variant.get("extra_args"))]
    name_of_strategy, strategy = _strategy(document)
    words += _options(strategy.get("extra_args"))
    tensor = text_of(variant.get("tp")) or text_of(strategy.get("tp"))
    if tensor and not any(word.startswith("--tensor-parallel") for word in words):
        words += ["--tensor-parallel-size", tensor]
    env = {**mapping_of(model.get("base_env")), **mapping_of(variant.get("extra_env"))}
    image = _image(variant.get("docker_image") or model.get("docker_image"))
    start = Start(
        tuple(words),
        {key: text_of(value) for key, value in env.items()},
        f"variant {name}",
        Container(image) if image else None,
        is_default=name == "default",
    )
    least = text_of(variant.get("min_vllm_version") or model.get("min_vllm_version"))
    told = [f"the recipe asks for vLLM {least} or newer"] if least[:1].isdigit() else []
    told += [f"the recipe asks for {least}, which is no release"] if least and not told else []
    if strategy:
        told.append(f"the recipe's strategy {name_of_strategy}: {', '.join(strategy)}")
    others = [other for other in names if other != name]
    if others and name == "default":
        told.append(f"the recipe's variant default is read; --pick takes others: {_numbered(names)}")
    return start.with_assumptions(*told).with_notes(*_features(document), *_overrides(document, variant))


def _strategy(document: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """How the recipe serves on one machine, and what it changes for that."""
    name = text_of(document.get("default_strategy")) or "single_node_tp"
    return name, mapping_of(mapping_of(document.get("strategy_overrides")).get(name))


def _options(value: Any) -> list[str]:
    """The words of a list of options; the page joins them, so an option may stand in one word with its value."""
    return [
        part
        for word in texts(value)
        for part in (word.split(None, 1) if word.startswith("--") and "=" not in word.split()[0] else [word])
    ]


def _numbered(names: list[str]) -> str:
    return ", ".join(f"{number}: {name}" for number, name in enumerate(names, 1) if number > 1)


def _image(value: Any) -> str:
    """The image that the recipe names for cards of NVIDIA."""
    if isinstance(value, dict):
        nested = value.get("nvidia")
        value = next(iter(nested.values()), "") if isinstance(nested, dict) and nested else nested
    return text_of(value)


def _features(document: Mapping[str, Any]) -> Iterator[str]:
    for name, feature in mapping_of(document.get("features")).items():
        content = mapping_of(feature)
        words = texts(content.get("args"))
        if words:
            yield f"the feature {name}: add {' '.join(words)} for it"
        for mode, way in mapping_of(content.get("modes")).items():
            words = texts(mapping_of(way).get("args"))
            if words:
                yield f"the feature {name}, mode {mode}: add {' '.join(words)} for it"


def _overrides(document: Mapping[str, Any], variant: Mapping[str, Any]) -> Iterator[str]:
    for where in (document, variant):
        for name, change in mapping_of(where.get("hardware_overrides")).items():
            content = mapping_of(change)
            env = [f"{key}={text_of(value)}" for key, value in mapping_of(content.get("extra_env")).items()]
            words = [*env, *texts(content.get("extra_args"))]
            if words:
                yield f"what the recipe adds on {name}: {' '.join(words)}"
    for name, change in mapping_of(document.get("strategy_overrides")).items():
        if name == _strategy(document)[0]:
            continue
        yield f"what the recipe changes for the strategy {name}: {', '.join(mapping_of(change)) or 'nothing'}"
