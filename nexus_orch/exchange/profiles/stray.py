"""Words of a command that are neither an option, nor its value, nor the model."""

from __future__ import annotations

import re

from nexus_orch.errors import Problem
from nexus_orch.exchange.imported import Imported
from nexus_orch.exchange.start import make_reference, references, shown
from nexus_orch.exchange.text.placeholders import is_placeholder, without_mark
from nexus_orch.types import EngineFacts

_EMPTY = '""'
_OTHER_REMEDY = "every value follows its option"
_VARIABLE = re.compile(r"\$\{?[A-Za-z_]\w*\}?")


def without_mistaken_model(model: str, words: list[str], engine: EngineFacts, imported: Imported) -> list[str]:
    """The words that remain to be judged behind the first one. A first word that was to be no model is a problem, and
    the word behind it belongs to it."""
    if not words:
        return []
    if model == "serve":
        message = "the word serve is one too many: vLLM's images begin with the server already"
        imported.problems.append(Problem(message, remedy="take it out"))
        return words[1:]
    if f"--{model}" in engine.flags:
        behind = f"; no shell fills in {words[0]} here" if _VARIABLE.fullmatch(words[0]) else ""
        message = f"the word {model} lacks its two dashes: --{model}, and vLLM refuses {words[0]} behind it{behind}"
        imported.problems.append(Problem(message, remedy=f"write --{model} and the value itself"))
        return words[1:]
    return words


def judge_word(word: str, imported: Imported) -> None:
    """A word behind the model that is no option's value: harmless when a shell would drop it, else a mistake."""
    missing = references(word)
    if missing and shown(word) == shown(make_reference(missing[0])):
        imported.note("assumed", f"{shown(word)} is not set in the file, so it adds nothing to the command")
    elif is_placeholder(word):
        imported.note("assumed", f"{without_mark(word)} stands for options that the text leaves out")
    elif word.startswith("#"):
        remedy = "take the comment out: where no shell reads the text, a comment is part of the command"
        message = f"{word} begins no comment here, and vLLM would refuse the words"
        imported.problems.append(Problem(message, remedy=remedy))
    elif word.startswith("-") and " " in word:
        message = f"{shown(word)} is one word: an option and its value in one item of a list"
        imported.problems.append(Problem(message, remedy="write them as two items, or with = between them"))
    elif _VARIABLE.fullmatch(word):
        message = f"the word {word} belongs to no option, and no shell fills it in here"
        imported.problems.append(Problem(message, remedy="write the value behind its option"))
    elif word.lower() in ("true", "false"):
        message = f"the word {word} belongs to no option: a switch such as --enforce-eager takes no value"
        imported.problems.append(
            Problem(message, remedy="take it out, or write --no- before a switch that is to be off")
        )
    else:
        said = without_mark(shown(word)) or _EMPTY
        imported.problems.append(Problem(f"the word {said} belongs to no option", remedy=_OTHER_REMEDY))
