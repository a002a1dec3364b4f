"""Dashes and quotes that a blog or a word processor put in place of the plain ones."""

from __future__ import annotations

import re
from collections.abc import Sequence

from nexus_orch.adapt.arguments import Spellings, spell
from nexus_orch.errors import Problem
from nexus_orch.exchange.imported import Imported
from nexus_orch.types import EngineFacts

_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212"
_BEGINS = re.compile(rf"(?=-?[{_DASHES}])[-{_DASHES}]{{1,3}}(?=[A-Za-z])")
_QUOTES = re.compile(
    "(?:^|[\\s=:,{\\[(])[\u201c\u201d\u201e\u2018\u2019\u201a]|[\u201c\u201d\u2018\u2019](?:$|[\\s:,}\\])])"
)
"""Quotes at the edge of a word; an apostrophe inside of one is text."""


def mend_typography(argv: Sequence[str], engine: EngineFacts, imported: Imported) -> list[str]:
    """The words with plain dashes in front of their options, which the report tells. Quotes are a problem: what they
    were meant to hold together is in pieces already."""
    spellings = Spellings(engine)
    mended = [_mended(word, spellings, imported) for word in argv]
    quoted = [word for word in mended if _QUOTES.search(word)]
    if quoted:
        message = f"{quoted[0]} holds a typographic quote, which neither a shell nor vLLM takes for one"
        imported.problems.append(Problem(message, remedy="write \" or ' in place of each"))
    return mended


def _mended(word: str, spellings: Spellings, imported: Imported) -> str:
    match = _BEGINS.match(word)
    if match is None:
        return word
    rest = word[match.end() :]
    name = rest.partition("=")[0]
    is_short = spellings.find(spell(f"--{name}")).flag is None and spellings.find(f"-{name}").flag is not None
    plain = f"-{rest}" if is_short else f"--{rest}"
    imported.note("changed", f"{word} is read as {plain}: its dash is a typographic one, which vLLM would not know")
    return plain
