"""PowerShell and batch files: their continued lines, variables and quotes, as words."""

from __future__ import annotations

import re
from collections.abc import Iterator

from nexus_orch.exchange.foreign.shell import Place, find_starts
from nexus_orch.exchange.start import Beside, Start, broken, make_reference

_POWERSHELL = re.compile(
    r"`[ \t]*\r?\n|^\s*\$env:\w+\s*=|^\s*\$\w+\s*=\s*|^\s*param\s*\(|\$\{?env:", re.MULTILINE | re.IGNORECASE
)
_BATCH = re.compile(r"^\s*@echo off|\^[ \t]*\r?\n\s*-|^\s*set\s+\"?\w+=", re.MULTILINE | re.IGNORECASE)
_ASSIGNED = re.compile(
    r"\$(?:(?P<env>env:)|(?:\w+:)?)(?P<name>\w+)\s*(?P<adds>\+)?=\s*(?P<value>.*)", re.DOTALL | re.IGNORECASE
)
_PARAMETER = re.compile(r"\$(\w+)\s*=\s*(\"[^\"]*\"|'[^']*'|[\w.:/-]+)")
_BATCH_SET = re.compile(r"set\s+(?:\"(?P<quoted>\w+=[^\"]*)\"|(?P<plain>\w+=.*))", re.IGNORECASE)
_VARIABLE = re.compile(r"\$\{(?:env:)?(\w+)\}|\$(?:env:)?(\w+)", re.IGNORECASE)
_BATCH_VARIABLE = re.compile(r"%(\w+)%")
_TOKEN = re.compile(
    r"""(?P<blank>\s+)|(?P<single>'(?:''|[^'])*')|(?P<double>"(?:`.|""|[^"`])*")|(?P<escaped>`.)|(?P<text>[^\s'"`]+)|(?P<open>['"])""",
    re.VERBOSE | re.DOTALL,
)


def is_powershell(text: str, suffix: str) -> bool:
    return suffix in (".ps1", ".psm1") or (suffix not in (".sh", ".bash") and _POWERSHELL.search(text) is not None)


def is_batch(text: str, suffix: str) -> bool:
    return suffix in (".bat", ".cmd") or (suffix == "" and _BATCH.search(text) is not None)


def parse_powershell(text: str, beside: Beside) -> list[Start]:
    """The starts of vLLM in a PowerShell script. Raises ConfigError for quotes that are not closed."""
    shell = _PowerShell(beside)
    found: list[Start] = []
    for line, command in _statements(text):
        found += shell.run(command, line)
    return found


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """The statements with their lines: a backtick, an open bracket or a pipe at the end goes on in the next line."""
    pending, first, depth = "", 0, 0
    for number, raw in enumerate(text.splitlines(), 1):
        line = re.sub(r"(?:^|\s)#.*$", "", raw).rstrip()
        if not pending and not line.strip():
            continue
        first = first if pending else number
        goes_on = line.endswith("`")
        plain = re.sub(r"'[^']*'|\"[^\"]*\"", "", line)
        depth += sum(plain.count(sign) for sign in "({") - sum(plain.count(sign) for sign in ")}")
        pending += (line[:-1] if goes_on else line) + ("\n" if depth > 0 else " ")
        if not goes_on and depth <= 0:
            yield first, pending.strip()
            pending, depth = "", 0
    if pending.strip():
        yield first, pending.strip()


class _PowerShell:
    def __init__(self, beside: Beside) -> None:
        self.beside = beside
        self.variables: dict[str, str] = {name.lower(): value for name, value in beside.all.items()}
        self.variables.setdefault("userprofile", "~")
        self.lists: dict[str, list[str]] = {}
        self.env: dict[str, str] = {}

    def run(self, command: str, line: int) -> list[Start]:
        """Take over what the statement sets, and give the starts in it."""
        match = _ASSIGNED.fullmatch(command)
        if match is not None:
            self._assign(match)
            return []
        if command.lower().startswith("param"):
            for name, value in _PARAMETER.findall(command):
                assigned = _ASSIGNED.fullmatch(f"${name} = {value}")
                if assigned is not None:
                    self._assign(assigned)
            return []
        if command.startswith(("if ", "if(", "for", "while", "function")):
            inner = command.partition("{")[2].rpartition("}")[0]
            return [start for _, part in _statements(inner) for start in self.run(part, line)]
        words = self._words(command.removeprefix("& "), line)
        if words[:1] and words[0].lower() in ("write-host", "write-output", "echo"):
            return []
        return find_starts(words, Place(dict(self.env), f"line {line}", self.beside))

    def _assign(self, match: re.Match[str]) -> None:
        name, value = match["name"].lower(), match["value"].strip()
        told = next((said for key, said in self.beside.told.items() if key.lower() == name), None)
        if value.startswith("@("):
            items = re.sub(r",(?=(?:[^'\"]|'[^']*'|\"[^\"]*\")*$)", " ", value[2:].rpartition(")")[0])
            words = self._words(items, 1)
            self.lists[name] = [*self.lists.get(name, []), *words] if match["adds"] else words
            return
        words = self._words(value, 1)
        is_plain = not value.startswith(("(", "$(", "if", "Get-", "[")) and len(words) <= 1
        text = told or (" ".join(words) if is_plain else make_reference(match["name"], f"`{value}`"))
        if match["env"]:
            self.env[match["name"]] = text
        self.variables[name] = text

    def _words(self, text: str, line: int) -> list[str]:
        words: list[str] = []
        current: str | None = None
        for match in _TOKEN.finditer(text):
            kind, value = str(match.lastgroup), match[0]
            if kind == "open":
                raise broken(f"a quote ({value}) in line {line} is never closed", "close it")
            if kind == "blank":
                words += [] if current is None else [current]
                current = None
            elif (kind == "text" and current is None and value.startswith("@") and value[1:].lower() in self.lists) or (
                kind == "text" and current is None and value.lower().lstrip("$") in self.lists and value.startswith("$")
            ):
                words += self.lists[value[1:].lower()]
            else:
                current = (current or "") + self._piece(kind, value)
        return words if current is None else [*words, current]

    def _piece(self, kind: str, value: str) -> str:
        if kind == "single":
            return value[1:-1].replace("''", "'")
        if kind == "escaped":
            return value[1]
        if kind == "double":
            return self._filled(re.sub(r"`(.)", r"\1", value[1:-1].replace('""', '"')))
        return self._filled(value)

    def _filled(self, text: str) -> str:
        def value_of(match: re.Match[str]) -> str:
            name = match[1] or match[2]
            return self.variables.get(name.lower(), make_reference(name))

        return _VARIABLE.sub(value_of, text)


def parse_batch(text: str, beside: Beside) -> list[Start]:
    """The starts of vLLM in a batch file: `^` goes on in the next line, `set` sets a variable."""
    env: dict[str, str] = {}
    known = {name.upper(): value for name, value in {"USERPROFILE": "~", **beside.all}.items()}
    found: list[Start] = []
    joined = re.sub(r"\^[ \t]*\r?\n", " ", text)
    for number, line in enumerate(joined.splitlines(), 1):
        command = line.strip().removeprefix("@")
        if re.match(r"(?i)(rem|echo|::)", command):
            continue
        filled = _BATCH_VARIABLE.sub(lambda match: known.get(match[1].upper(), make_reference(match[1])), command)
        assigned = _BATCH_SET.fullmatch(filled)
        if assigned is not None:
            name, _, value = (assigned["quoted"] or assigned["plain"]).partition("=")
            env[name] = known[name.upper()] = beside.told.get(name, value)
            continue
        words = [word[1:-1] if word[:1] == '"' == word[-1:] else word for word in re.findall(r'"[^"]*"|\S+', filled)]
        found += find_starts(words, Place(dict(env), f"line {number}", beside))
    return found
