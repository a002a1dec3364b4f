"""The options of a start, one by one: to settings of ours, to extra arguments, or to a sentence of the report."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from nexus_orch.adapt.arguments import Argument, Spellings, spell
from nexus_orch.adapt.ways import Way
from nexus_orch.errors import Problem
from nexus_orch.exchange.imported import Imported
from nexus_orch.exchange.profiles.options import Option, make_unknown, read_option
from nexus_orch.exchange.profiles.retired import find_retired
from nexus_orch.exchange.profiles.reverse import Reverse
from nexus_orch.exchange.profiles.surroundings import translate
from nexus_orch.exchange.start import Start, make_no_value, references, shown
from nexus_orch.exchange.text.placeholders import is_placeholder, without_mark
from nexus_orch.exchange.text.secrets import API_KEY_OPTION, choose_api_key_env, is_secret_option
from nexus_orch.releases.options import names_of
from nexus_orch.types import EngineFacts

_OPEN = ("auto", "None", "")
"""Words by which an option leaves the decision to vLLM."""
_OF_OTHER_MACHINES = frozenset(
    {
        *("--data-parallel-address", "--data-parallel-rpc-port", "--data-parallel-start-rank", "--data-parallel-rank"),
        *("--master-addr", "--master-port", "--node-rank"),
    }
)
"""Options that say where the other machines of a run are: one machine is planned, and needs none of them."""
_PATHS = frozenset({"serve.speculative.model", "model.lora.modules"})
"""Settings that name folders of the machine."""
_OWN_NAME = re.compile(r"hostname|_IP\b|\bip a", re.IGNORECASE)
"""Where a script asks its machine who it is."""


def _unread(start: Start) -> list[str]:
    """Places that the start takes variables from and that were not read."""
    return [note for note in start.notes if note.startswith("the variables of")]


def take_option(option: Option, start: Start, imported: Imported, reverse: Reverse) -> None:
    name, given = option.flag.name, option.given
    if name == "--model":
        return
    if is_secret_option(name):
        _take_secret(name, given.values, imported)
        return
    missing = [reference for value in given.values for reference in references(value)]
    if missing:
        _take_unknown_value(option, missing, start, imported)
        return
    placed = next((value for value in given.values if is_placeholder(value)), None)
    if placed is not None and name in _OF_OTHER_MACHINES:
        imported.note("left out", f"{given.written}: it stands for what only the machines that run it know")
        return
    if placed is not None:
        message = f"{name}: {without_mark(placed)} is a placeholder"
        imported.problems.append(Problem(message, remedy="write the value in its place"))
        return
    if _take_parts(option, start, imported, reverse) or any(
        _take_setting(key, option, start, imported, reverse) for key in reverse.keys_of(name)
    ):
        return
    imported.extra_args += translate(given.words, start, imported)
    imported.note("passed on", given.written)


def _take_unknown_value(option: Option, missing: Sequence[str], start: Start, imported: Imported) -> None:
    """An option whose value the source does not show: one that tells where machines are decides nothing."""
    name, written = option.flag.name, shown(option.given.written)
    if name == "--host" and all(_OWN_NAME.search(one) for one in missing):
        text = "the machine's own name or address; every address is used, as without the option"
        imported.note("left out", f"{written}: {text}")
    elif name in _OF_OTHER_MACHINES:
        imported.note("left out", f"{written}: its value is known only on the machines that run it")
    else:
        imported.problems += [make_no_value(reference, name, _unread(start)) for reference in missing]


def _take_secret(name: str, values: Sequence[str], imported: Imported) -> None:
    if name == API_KEY_OPTION:
        variable, notes = choose_api_key_env(values)
        imported.set("serve.api_key_env", variable, name)
        imported.note_all(notes)
        return
    holder = "HF_TOKEN" if name == "--hf-token" else None
    how = f"export {holder}=... before the start; vLLM inherits it" if holder else "no setting holds secrets"
    imported.note("secret", f"the value of {name} was not written down: {how}")


def _take_parts(option: Option, start: Start, imported: Imported, reverse: Reverse) -> bool:
    """Whether all keys of the option's JSON are settings of ours; then they are taken."""
    given, parts = option.given, reverse.parts_of(option.flag.name)
    said = _read_mapping(given) if parts else None
    if said is None:
        return False
    read = {name: reverse.read(parts[name], value) for name, value in said.items() if name in parts and name}
    own = {name: known for name, known in read.items() if known is not None and known[0].within == name}
    further = {name: _translated(value, start, imported) for name, value in said.items() if name not in own}
    if further and not reverse.takes_further(option.flag.name, parts):
        return False
    for name, known in own.items():
        if known[1] is not None:
            imported.set(parts[name], _translated(known[1], start, imported), given.written)
    if further:
        imported.settings[parts[""]] = {**(imported.settings.get(parts[""]) or {}), **further}
        imported.said.setdefault(parts[""], given.written)
    return True


def _read_mapping(given: Argument) -> dict[str, Any] | None:
    """The keys of JSON that an option says, whole or one by one; None where its value is no such thing."""
    text = given.values[0] if given.values else ""
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError):
        value = text
    for key in reversed(given.keys.split(".") if given.keys else ()):
        value = {key: value}
    return value if isinstance(value, dict) else None


def _translated(value: Any, start: Start, imported: Imported) -> Any:
    """A value whose paths inside a container stand for those outside."""
    if isinstance(value, str):
        return translate((value,), start, imported)[0]
    return translate(value, start, imported) if isinstance(value, list) else value


def _take_setting(key: str, option: Option, start: Start, imported: Imported, reverse: Reverse) -> bool:
    """Whether this release takes the option for a setting of ours, or refuses it; then it is dealt with."""
    flag, given = option.flag, option.given
    try:
        said = list(given.values) if reverse.takes_words(key, flag.name) else read_option(option)
        if said in _OPEN:
            imported.opened[key] = given.written
            return True
        found = reverse.read(key, said)
    except ValueError as error:
        message = f"{given.written}: {flag.name} {error}"
        remedy = _missing_blank(given, reverse.engine)
        imported.problems.append(Problem(message, remedy=remedy, cause="unrecognized_argument"))
        return True
    if found is None or (found[0].refused is None and not {*names_of(flag.name)} & {*found[0].options}):
        return False
    way, value = found
    if len(given.values) > 1 and not isinstance(value, list):
        imported.note("left out", f"{', '.join(given.values[1:])}: {key} is one name, the first of {flag.name}")
    is_needless = not isinstance(value, bool) and not value and value in way.silent
    if way.refused is not None and value not in way.silent:
        imported.note("no effect", f"{given.written}: {_explain(way)}")
    elif way.refused is None and not is_needless:
        imported.set(key, _translated(value, start, imported) if key in _PATHS else value, given.written)
    return True


def _missing_blank(given: Argument, engine: EngineFacts) -> str | None:
    """What a value that ends with an option's name lacks."""
    for value in given.values:
        _, dashes, name = value.partition("--")
        if dashes and Spellings(engine).find(spell(f"--{name}")).flag is not None:
            return f"write a blank in front of --{name}"
    return None


def _explain(way: Way) -> str:
    return f"{way.refused}; {way.instead or 'leave it out'}"


def take_unknown(unknown: Argument, imported: Imported, reverse: Reverse, *, skips: bool) -> None:
    """An option that this release lacks: without effect, explained by the table, or a mistake."""
    name = unknown.spelling
    written = name if is_secret_option(name) else " ".join((name, *unknown.values))
    reason = find_retired(reverse.engine, name, unknown.values)
    key = reverse.key_of(name)
    if reason is None and key is not None:
        found = reverse.read(key, " ".join(unknown.values))
        reason = _explain(found[0]) if found is not None and found[0].refused is not None else None
    if reason is not None:
        imported.note("no effect", f"{written}: {reason}")
    elif skips:
        imported.note("left out", f"{written}: vLLM {reverse.engine.version} has no such option")
    else:
        imported.problems.append(make_unknown(unknown, reverse.engine))
