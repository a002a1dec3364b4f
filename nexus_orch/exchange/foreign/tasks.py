"""Tasks that run on rented machines: scripts with the machine that they want, of SkyPilot and of dstack."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nexus_orch.exchange.foreign.documents import count_of, mapping_of, text_of, texts
from nexus_orch.exchange.foreign.shell import Place, parse_script
from nexus_orch.exchange.start import Beside, Container, Start, make_reference

_SCRIPTS = ("setup", "run")
_CARDS = "SKYPILOT_NUM_GPUS_PER_NODE"
_DSTACK = ("service", "task", "dev-environment")


def is_task(document: Mapping[str, Any]) -> bool:
    """Whether this is a task of SkyPilot: a script with the machine that it wants."""
    return isinstance(document.get("run"), str) and ("resources" in document or "setup" in document)


def parse_task(document: Mapping[str, Any], beside: Beside) -> list[Start]:
    """The starts of vLLM in a task of SkyPilot: setup and run are one script, `envs` its variables."""
    cards = _cards_of(mapping_of(document.get("resources")).get("accelerators"))
    env = {name: text_of(value) for key in ("envs", "secrets") for name, value in mapping_of(document.get(key)).items()}
    env[_CARDS] = str(cards) if cards is not None else make_reference(_CARDS, "the accelerators that SkyPilot finds")
    nodes = count_of(document.get("num_nodes")) or 1
    env |= {"SKYPILOT_NUM_NODES": str(nodes), "SKYPILOT_NODE_RANK": "0"}
    text = "\n".join(text_of(document.get(key)) for key in _SCRIPTS)
    return _in_script(text, {**env, **beside.told}, Place(name="run", beside=beside), cards, nodes)


def is_dstack(document: Mapping[str, Any]) -> bool:
    return text_of(document.get("type")) in _DSTACK and isinstance(document.get("commands"), list)


def parse_dstack(document: Mapping[str, Any], beside: Beside) -> list[Start]:
    """The starts of vLLM among the commands of a service or task of dstack, which are one script."""
    env = _environment(document.get("env"))
    cards = _dstack_cards(mapping_of(document.get("resources")).get("gpu"))
    nodes = count_of(document.get("nodes")) or 1
    env["DSTACK_NODES_NUM"], env["DSTACK_NODE_RANK"] = str(nodes), "0"
    if cards is not None:
        env["DSTACK_GPUS_PER_NODE"], env["DSTACK_GPUS_NUM"] = str(cards), str(cards * nodes)
    image = text_of(document.get("image"))
    place = Place(name="commands", beside=beside, container=Container(image, is_shared_network=True) if image else None)
    return _in_script("\n".join(texts(document.get("commands"))), {**env, **beside.told}, place, cards, nodes)


def _in_script(text: str, env: Mapping[str, str], place: Place, cards: int | None, nodes: int) -> list[Start]:
    starts = parse_script(text, replace(place, env=env), names_lines=False)
    return [replace(start, cards=cards, nodes=nodes, env=_without_own(start.env)) for start in starts]


def _without_own(env: Mapping[str, str]) -> dict[str, str]:
    """The variables without those of the task's machine."""
    return {name: value for name, value in env.items() if not name.startswith(("SKYPILOT_", "DSTACK_"))}


def _environment(value: Any) -> dict[str, str]:
    """A mapping, or a list of NAME=VALUE; a name alone comes from where the task is started."""
    if isinstance(value, dict):
        return {name: text_of(item) for name, item in value.items()}
    items = [text.partition("=") for text in texts(value)]
    return {name: given if assigned else make_reference(name) for name, assigned, given in items}


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


def _dstack_cards(value: Any) -> int | None:
    """`24GB`, `H100:2`, `24GB:2`, a count, or a mapping with one; a range of counts is not known."""
    if isinstance(value, dict):
        return count_of(value.get("count")) if "count" in value else 1
    text = text_of(value)
    if not text or ".." in text:
        return None
    counts = [count_of(part) for part in text.split(":")]
    return next((count for count in counts if count is not None), 1)
