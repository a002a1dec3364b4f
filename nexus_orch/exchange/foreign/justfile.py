"""Justfiles: the recipes that start vLLM, with the file's variables and the defaults of their parameters."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePath

from nexus_orch.exchange.foreign.recipe_lines import RecipeLine, find_in_recipes
from nexus_orch.exchange.start import Beside, Start, make_reference
from nexus_orch.exchange.text.variables import parse_env_file

_ASSIGNED = re.compile(r"(export\s+)?([A-Za-z_][\w-]*)\s*:=\s*(.+)")
_RECIPE = re.compile(r"@?(?P<name>[A-Za-z_][\w-]*)(?P<parameters>[^:\n]*?)\s*:(?!=)(?P<needs>.*)")
_PARAMETER = re.compile(r"[+*$]*(?P<name>[A-Za-z_][\w-]*)(?:=(?P<value>\"[^\"]*\"|'[^']*'|[\w./:-]+))?")
_STRING = re.compile(r"\"((?:\\.|[^\"\\])*)\"|'([^']*)'")
_FROM_ENVIRONMENT = re.compile(r"env(?:_var_or_default|_var)?\(\s*(['\"])(\w+)\1\s*(?:,\s*(.+?)\s*)?\)")
_FILLED = re.compile(r"\{\{(?!\{)(.+?)\}\}")
_JOINED = re.compile(r"\s*[+/]\s*(?=(?:[^'\"]|'[^']*'|\"[^\"]*\")*$)")
_PLAIN = re.compile(r"[\w.:-]+")
_DEEPEST = 20


def is_justfile(name: str) -> bool:
    plain = PurePath(name).name.lower()
    return plain in ("justfile", ".justfile") or plain.endswith(".just")


def parse_justfile(text: str, beside: Beside) -> list[Start]:
    """The starts of vLLM in the recipes."""
    reader = _Reader(beside)
    lines = list(reader.read(text))
    env = {name: reader.value(name, {}) for name in reader.exported}
    if re.search(r"^set\s+dotenv-load", text, re.MULTILINE):
        env = {**parse_env_file(beside.read(".env") or ""), **env}
    return find_in_recipes(lines, env, beside)


@dataclass
class _Reader:
    beside: Beside
    variables: dict[str, str] = field(default_factory=dict)
    """The expressions as they are written."""
    exported: list[str] = field(default_factory=list)

    def read(self, text: str) -> Iterator[RecipeLine]:
        bodies: list[tuple[str, int, dict[str, str], list[str]]] = []
        for number, line in enumerate(text.splitlines(), 1):
            if line[:1] in (" ", "\t"):
                if bodies:
                    bodies[-1][3].append(line)
                continue
            if not line.strip() or line.startswith("#"):
                if bodies:
                    bodies[-1][3].append("")
                continue
            assigned, recipe = _ASSIGNED.fullmatch(line), _RECIPE.fullmatch(line)
            if assigned is not None:
                self.variables[assigned[2]] = assigned[3]
                self.exported += [assigned[2]] if assigned[1] else []
            elif recipe is not None:
                parameters = {
                    match["name"]: match["value"] or "" for match in _PARAMETER.finditer(recipe["parameters"])
                }
                bodies.append((recipe["name"], number, parameters, []))
        for name, number, parameters, body in bodies:
            yield from self._lines(name, number, parameters, body)

    def _lines(self, name: str, number: int, parameters: dict[str, str], body: list[str]) -> Iterator[RecipeLine]:
        text = "\n".join(line.strip() for line in body)
        parts = [text] if text.startswith("#!") else re.split(r"(?<!\\)\n", text)
        for part in parts:
            filled = _FILLED.sub(lambda match: self.value(match[1].strip(), parameters), part)
            yield RecipeLine(name, number, filled.lstrip("@-"))

    def value(self, expression: str, parameters: dict[str, str], depth: int = 0) -> str:
        """The value of an expression of names, strings and what the environment gives; else a reference."""
        pieces = _JOINED.split(expression)
        if len(pieces) > 1 and depth < _DEEPEST:
            signs = [match[0].strip() for match in _JOINED.finditer(expression)]
            first, *others = (self.value(piece, parameters, depth + 1) for piece in pieces)
            return first + "".join(
                ("/" if sign == "/" else "") + piece for sign, piece in zip(signs, others, strict=True)
            )
        name = expression.strip()
        string, asked = _STRING.fullmatch(name), _FROM_ENVIRONMENT.fullmatch(name)
        if string is not None:
            return string[2] if string[1] is None else string[1].replace('\\"', '"')
        told = self.beside.told.get(name if asked is None else asked[2])
        if told is not None:
            return told
        kept = parameters.get(name) or self.variables.get(name) if asked is None else asked[3]
        if kept and depth < _DEEPEST:
            return self.value(kept, parameters, depth + 1) if kept != name else make_reference(name)
        if asked is not None:
            return make_reference(asked[2])
        return (
            make_reference(name)
            if name.isidentifier()
            else name
            if _PLAIN.fullmatch(name)
            else make_reference(f"$({name})")
        )
