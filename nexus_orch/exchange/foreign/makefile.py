"""Makefiles: the recipes that start vLLM. Variables are filled in as make does it, nothing is run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePath

from nexus_orch.exchange.foreign.recipe_lines import RecipeLine, find_in_recipes
from nexus_orch.exchange.start import Beside, Start, make_reference, named

_ASSIGNED = re.compile(
    r"\s*(?P<export>export\s+)?(?:override\s+)?(?P<name>[\w.-]+)\s*(?P<how>\?|:{1,3}|\+)?=\s*(?P<value>.*)"
)
_TARGET = re.compile(r"(?P<names>[^\s:=#][^:=#]*?)\s*::?(?!=)\s*(?P<rest>[^=].*|$)")
_OWN = re.compile(r"(?P<name>[\w.-]+)\s*(?P<how>\?|:{1,3}|\+)?=\s*(?P<value>.*)")
_INCLUDE = re.compile(r"\s*[-s]?include\s+(\S+)")
_EXPORT = re.compile(r"\s*export\s+([\w. -]+)")
_CONDITION = re.compile(r"\s*(?P<word>ifeq|ifneq|ifdef|ifndef|else|endif)\b\s*(?P<rest>.*)")
_PAIR = re.compile(r"\((.*),(.*)\)|[\"'](.*)[\"']\s+[\"'](.*)[\"']")
_DEEPEST = 20
_LONGEST = 32_768


def is_makefile(name: str) -> bool:
    plain = PurePath(name).name.lower()
    return plain.startswith(("makefile", "gnumakefile")) or plain.endswith(".mk")


def parse_makefile(text: str, beside: Beside) -> list[Start]:
    """The starts of vLLM in the recipes."""
    reader = _Reader(beside)
    reader.read(text)
    env = {name: reader.value(name) for name in sorted(reader.exported) if name in reader.variables}
    return find_in_recipes(reader.expanded(), env, beside)


@dataclass
class _Reader:
    beside: Beside
    variables: dict[str, str] = field(default_factory=dict)
    """Values as they are written: make fills them in where they are used."""
    own: dict[str, dict[str, str]] = field(default_factory=dict)
    """The variables of single targets."""
    exported: set[str] = field(default_factory=set)
    recipes: list[RecipeLine] = field(default_factory=list)
    depth: int = 0

    def read(self, text: str) -> None:
        target = ""
        holds: list[bool] = []
        for number, line in _logical_lines(text):
            condition = None if line.startswith("\t") else _CONDITION.match(line)
            if condition is not None:
                self._condition(condition["word"], condition["rest"], holds)
            elif not all(holds):
                continue
            elif line.startswith("\t"):
                if target:
                    self.recipes.append(RecipeLine(target, number, line[1:]))
            else:
                target = self._outside(line, number, target)

    def _outside(self, line: str, number: int, target: str) -> str:
        """What stands in no recipe: the target that follows it."""
        include, assigned, rule = _INCLUDE.match(line), _ASSIGNED.fullmatch(line), _TARGET.match(line)
        if line.lstrip().startswith("#") or not line.strip():
            return target
        if include is not None and self.depth < _DEEPEST:
            self.depth += 1
            self.read(self.beside.read(self.filled(include[1])) or "")
            self.depth -= 1
        elif assigned is not None:
            self._assign(self.variables, assigned)
            if assigned["export"]:
                self.exported.add(assigned["name"])
        elif rule is not None:
            name = rule["names"].split()[0]
            rest, is_inline, command = rule["rest"].partition(";")
            own = _OWN.fullmatch(rest.strip())
            if own is not None:
                self._assign(self.own.setdefault(name, {}), own)
            elif is_inline:
                self.recipes.append(RecipeLine(name, number, command.strip()))
            return name
        elif (exported := _EXPORT.fullmatch(line)) is not None:
            self.exported |= set(exported[1].split())
        return target

    def _assign(self, into: dict[str, str], match: re.Match[str]) -> None:
        name, how = match["name"], match["how"] or ""
        value = re.split(r"\s+#", match["value"], maxsplit=1)[0].rstrip() if "#" in match["value"] else match["value"]
        if name in self.beside.told or (how == "?" and name in into):
            return
        if how == "+":
            value = f"{into.get(name, '')} {value}".strip()
        into[name] = self.filled(value)[:_LONGEST] if how.startswith(":") else value.strip()[:_LONGEST]

    def _condition(self, word: str, rest: str, holds: list[bool]) -> None:
        if word == "endif":
            holds[-1:] = []
        elif word == "else":
            if not holds:
                return
            before = holds[-1]
            following = _CONDITION.match(rest)
            holds[-1] = not before and (following is None or self._holds(following["word"], following["rest"]))
        else:
            holds.append(self._holds(word, rest))

    def _holds(self, word: str, rest: str) -> bool:
        """A variable that the file does not set is empty, as for make."""
        if word in ("ifdef", "ifndef"):
            name = rest.partition("#")[0].strip()
            is_set = (name in self.variables or name in self.beside.told) and bool(self.value(name))
            return is_set is (word == "ifdef")
        pair = _PAIR.match(rest)
        if pair is None:
            return False
        sides = [side.strip() for side in pair.groups() if side is not None]
        left, right = (self.filled(side, empty=True) for side in sides[:2])
        return (left == right) is (word == "ifeq")

    def expanded(self) -> Iterator[RecipeLine]:
        for one in self.recipes:
            text = self.filled(one.text, one.recipe).lstrip("@-+ \t")
            yield RecipeLine(one.recipe, one.line, text)

    def value(self, name: str) -> str:
        return self.filled(f"$({name})")

    def filled(self, text: str, target: str = "", *, empty: bool = False, depth: int = 0) -> str:
        """The text with the values of make's variables; one without a value is a reference, or `empty`."""
        said: list[str] = []
        position = 0
        while (at := text.find("$", position)) >= 0 and depth < _DEEPEST:
            said.append(text[position:at])
            following = text[at + 1 : at + 2]
            end = _closing(text, at + 1) if following in ("(", "{") and following else None
            if following == "$":
                said.append("$")
                position = at + 2
            elif end is not None:
                said.append(self._look_up(text[at + 2 : end], target, empty=empty, depth=depth))
                position = end + 1
            else:
                said.append(target if following == "@" else self._look_up(following, target, empty=empty, depth=depth))
                position = at + 2
        return "".join((*said, text[position:]))[:_LONGEST]

    def _look_up(self, inside: str, target: str, *, empty: bool, depth: int) -> str:
        name = inside.strip()
        told = self.beside.told.get(name)
        if told is not None:
            return told
        kept = self.own.get(target, {}).get(name, self.variables.get(name))
        if kept is not None:
            return named(self.filled(kept, target, empty=empty, depth=depth + 1), name)
        function, _, rest = name.partition(" ")
        if function in _FUNCTIONS and rest:
            return self._call(function, rest, target, depth)
        if empty or not name:
            return ""
        return make_reference(name if re.fullmatch(r"[A-Za-z_]\w*", name) else f"$({name})")

    def _call(self, function: str, rest: str, target: str, depth: int) -> str:
        def given(text: str) -> str:
            return self.filled(text.strip(), target, empty=True, depth=depth + 1)

        parts = _arguments(rest)
        if function == "if":
            chosen = parts[1] if given(parts[0]) else (parts[2] if len(parts) > 2 else "")
            return self.filled(chosen.strip(), target, depth=depth + 1)
        if function == "or":
            return next((value for part in parts if (value := given(part))), "")
        if function == "strip":
            return " ".join(given(rest).split())
        return make_reference(f"$({function} {rest})")


_FUNCTIONS = frozenset({"if", "or", "strip", "shell", "wildcard", "subst", "patsubst", "filter", "findstring", "word"})


def _arguments(text: str) -> list[str]:
    """The arguments of a function: parts between commas that stand in no brackets."""
    parts, depth = [""], 0
    for char in text:
        depth += (char in "({") - (char in ")}")
        if char == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return parts if len(parts) > 1 else [*parts, ""]


def _closing(text: str, at: int) -> int | None:
    opening, depth = text[at], 0
    closing = ")" if opening == "(" else "}"
    for position in range(at, min(len(text), at + 2048)):
        depth += (text[position] == opening) - (text[position] == closing)
        if depth == 0:
            return position
    return None


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines with what a backslash joins to them: a recipe keeps it for the shell, elsewhere it is a blank."""
    number, kept, first = 0, "", 1
    for line in text.splitlines():
        number += 1
        first = first if kept else number
        kept += line
        if kept.endswith("\\"):
            kept = f"{kept}\n" if kept.startswith("\t") else f"{kept[:-1].rstrip()} "
            continue
        yield first, kept
        kept = ""
    if kept:
        yield first, kept
