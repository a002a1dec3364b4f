"""Files of a shape that has no reader of its own: commands and containers are found wherever they stand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from nexus_orch.errors import ConfigError
from nexus_orch.exchange.foreign.documents import count_of, mapping_of, text_of
from nexus_orch.exchange.foreign.kubernetes import Cluster, parse_container
from nexus_orch.exchange.foreign.shell import Place, find_starts, parse_script
from nexus_orch.exchange.start import Beside, Start, make_reference

_SCRIPTS = ("setup", "run")
_CARDS = "SKYPILOT_NUM_GPUS_PER_NODE"


def is_task(document: Mapping[str, Any]) -> bool:
    """Whether this is a task of SkyPilot: a script with the machine that it wants."""
    return isinstance(document.get("run"), str) and ("resources" in document or "setup" in document)


def parse_task(document: Mapping[str, Any], beside: Beside) -> list[Start]:
    """The starts of vLLM in a task of SkyPilot: setup and run are one script, `envs` its variables."""
    cards = _cards_of(mapping_of(document.get("resources")).get("accelerators"))
    env = {name: text_of(value) for key in ("envs", "secrets") for name, value in mapping_of(document.get(key)).items()}
    env[_CARDS] = str(cards) if cards is not None else make_reference(_CARDS, "the accelerators that SkyPilot finds")
    text = "\n".join(text_of(document.get(key)) for key in _SCRIPTS)
    starts = parse_script(text, Place({**env, **beside.told}, "run", beside), names_lines=False)
    return [replace(start, cards=cards, env=_without(start.env, _CARDS)) for start in starts]


def _without(env: Mapping[str, str], name: str) -> dict[str, str]:
    return {key: value for key, value in env.items() if key != name}


def _cards_of(value: Any) -> int | None:
    """`H100:8`, or a mapping or list of such choices, which must agree."""
    if isinstance(value, dict):
        choices = [count_of(count) or _cards_of(name) for name, count in value.items()]
    elif isinstance(value, list):
        choices = [_cards_of(item) for item in value]
    else:
        text = text_of(value)
        return count_of(text.partition(":")[2] or 1) if text else None
    return choices[0] if len(set(choices)) == 1 else None


def find_anywhere(value: Any, beside: Beside, place: str = "") -> Iterator[Start]:
    """The starts in all texts, lists of words and containers of a document. What is no script is passed over."""
    if isinstance(value, str):
        yield from _in_text(value, beside, place or "the file")
    elif isinstance(value, list):
        if all(isinstance(item, (str, int, float)) for item in value):
            here = Place(name=place or "the file", beside=beside)
            starts = find_starts([text_of(item) for item in value], here)
            yield from starts or _each(dict(enumerate(value)), beside, place)
        else:
            yield from _each(dict(enumerate(value)), beside, place)
    elif isinstance(value, dict):
        is_container = isinstance(value.get("image"), str) and ("args" in value or "command" in value)
        starts = parse_container(place or "the container", value, Cluster(beside)) if is_container else []
        yield from starts or _each(value, beside, place)


def _each(items: Mapping[Any, Any], beside: Beside, place: str) -> Iterator[Start]:
    for key, item in items.items():
        yield from find_anywhere(item, beside, f"{place}.{key}".strip("."))


def _in_text(text: str, beside: Beside, place: str) -> Iterator[Start]:
    if "vllm" not in text or not any(blank in text for blank in " \n"):
        return
    try:
        yield from parse_script(text, Place(name=place, beside=beside), names_lines=False)
    except ConfigError:
        return
