"""llama-swap configurations: the models whose command starts vLLM. Source: llama-swap's config.example.yaml."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nexus_orch.exchange.foreign.documents import count_of, mapping_of, text_of, texts
from nexus_orch.exchange.foreign.shell import Place, find_starts
from nexus_orch.exchange.start import Beside, Start, broken, shown
from nexus_orch.exchange.text.variables import split_words

_FIRST_PORT = 5800
_MACRO = re.compile(r"\$\{([\w-]+)\}")


def is_llama_swap(document: Mapping[str, Any]) -> bool:
    return any("cmd" in mapping_of(model) for model in mapping_of(document.get("models")).values())


def parse_llama_swap(document: Mapping[str, Any], beside: Beside) -> list[Start]:
    """The starts of vLLM among the models. Raises ConfigError, with the other programs' names, when there is none."""
    macros = {name: text_of(value) for name, value in mapping_of(document.get("macros")).items()}
    next_port = count_of(document.get("startPort")) or _FIRST_PORT
    found: list[Start] = []
    others: list[str] = []
    for name, content in mapping_of(document.get("models")).items():
        model = mapping_of(content)
        own = {
            **macros,
            "MODEL_ID": name,
            **{key: text_of(value) for key, value in mapping_of(model.get("macros")).items()},
        }
        command = _filled(text_of(model.get("cmd")), own)
        uses_port = "${PORT}" in command
        command = _filled(command, {"PORT": str(next_port)})
        next_port += uses_port
        lines = "\n".join(line for line in command.splitlines() if not line.lstrip().startswith("#"))
        words = split_words(re.sub(r"\\\r?\n", " ", lines))
        env = dict(item.partition("=")[::2] for item in texts(model.get("env")))
        starts = find_starts(words, Place(env, f"model {name}", beside))
        told = "the port is the one that llama-swap would give"
        ports = (
            [told] if any(str(next_port - 1) in (*start.argv, *_ports(start)) for start in starts) * uses_port else []
        )
        found += [replace(start, place=f"model {name}").with_assumptions(*ports) for start in starts]
        if not starts:
            others.append(f"{name} ({shown(words[0]) if words else 'no command'})")
    if not found:
        raise broken(
            f"no model of this llama-swap configuration starts vLLM: {', '.join(others)}",
            "name a file that starts vLLM",
        )
    note = [f"models that other programs serve: {', '.join(others)}"] if others else []
    return [start.with_notes(*note) for start in found]


def _ports(start: Start) -> list[str]:
    published = start.container.ports if start.container is not None else ()
    return [str(port.port) for port in published]


def _filled(text: str, macros: Mapping[str, str]) -> str:
    for _ in range(10):  # macros may name macros
        filled = _MACRO.sub(lambda match: macros.get(match[1], match[0]), text)
        if filled == text or len(filled) > 100_000:
            break
        text = filled
    return text
