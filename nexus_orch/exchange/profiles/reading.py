"""A start of vLLM read in the words of one release: options and variables to settings of ours."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nexus_orch.adapt.arguments import Argument, Arguments, Spellings, read_arguments, spell
from nexus_orch.adapt.config_file import insert_config
from nexus_orch.adapt.ways import Table, Way
from nexus_orch.errors import ConfigError, Problem
from nexus_orch.exchange.imported import Imported
from nexus_orch.exchange.profiles.options import Option, make_unknown, read_option, sort_arguments
from nexus_orch.exchange.profiles.retired import find_retired
from nexus_orch.exchange.profiles.reverse import Reverse
from nexus_orch.exchange.profiles.stray import judge_word, without_mistaken_model
from nexus_orch.exchange.profiles.surroundings import take_address, take_environment, take_model, translate
from nexus_orch.exchange.profiles.typography import mend_typography
from nexus_orch.exchange.start import Start, make_no_value, references, shown
from nexus_orch.exchange.text.placeholders import is_placeholder, without_mark
from nexus_orch.exchange.text.secrets import API_KEY_OPTION, choose_api_key_env, is_secret_option
from nexus_orch.releases.options import names_of
from nexus_orch.types import EngineFacts

_NO_OTHER = "name a command that starts `vllm serve` itself"
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
_OFFLOADS = ("memory.cpu_offload_gib", "memory.kv_offload_gib", "memory.prefetch.group_size")


@dataclass(frozen=True)
class Reader:
    """With what a start is read: `engine` is the release, `tables` those of all adapters, its own one first.

    `is_setting` tells the keys that a profile may hold; `model_profiles` maps paths of models to the profiles that
    describe them.
    """

    engine: EngineFacts
    tables: Sequence[Table]
    is_setting: Callable[[str], bool]
    model_profiles: Mapping[str, str] = field(default_factory=dict)
    skips_unknown: bool = False

    def reverse_for(self, start: Start) -> Reverse:
        """The tables read backwards, under the variables of this start."""
        return Reverse(self.tables, self.engine, start.env)


def find_other_program(start: Start) -> str | None:
    """The program that a start belongs to, when it is one that only begins like vLLM."""
    image = start.container.image if start.container is not None else ""
    return "vLLM-Omni" if "--omni" in start.argv or "vllm-omni" in image else None


def read_start(start: Start, reader: Reader) -> Imported:
    """The settings of a start. Raises one ConfigError with all that cannot be read."""
    imported = try_start(start, reader)
    if imported.problems:
        raise ConfigError(*imported.problems)
    return imported


def try_start(start: Start, reader: Reader) -> Imported:
    """The same with its problems in it, for telling which release understands a command."""
    imported = Imported()
    other = find_other_program(start)
    if other is not None:
        imported.problems.append(Problem(f"this starts {other}, which is another program than vLLM", remedy=_NO_OTHER))
        return imported
    plain = mend_typography(start.argv, reader.engine, imported)
    if imported.problems:
        return imported
    argv = plain if start.config is None else insert_config(plain, start.config, reader.engine)
    arguments = read_arguments(argv, reader.engine)
    found = sort_arguments(arguments, reader.engine)
    imported.problems += found.problems
    reverse = reader.reverse_for(start)
    for option in _last_of_each(found.options, imported):
        _take_option(option, start, imported, reverse)
    for unknown in found.unknown:
        _take_unknown(unknown, imported, reverse, skips=reader.skips_unknown)
    take_model(_model(arguments, imported, reader.engine), start, imported, reader.model_profiles)
    take_environment(start, imported, reverse)
    take_address(start.container, imported)
    _tell_worker(found.options, imported)
    for note in start.notes:
        imported.note("left out", note)
    for note in start.assumptions:
        imported.note("assumed", note)
    _choose_groups(imported, reverse)
    _pin_ranks(imported, reverse)
    imported.drop_what_only_the_planner_sets(reader.is_setting)
    return imported


def _tell_worker(options: Sequence[Option], imported: Imported) -> None:
    """A machine behind the first one of a run answers no requests."""
    for option in options:
        name, values = option.flag.name, option.given.values
        is_later = name in ("--node-rank", "--data-parallel-start-rank") and values[:1] not in ((), ("0",), ["0"])
        if name == "--headless" or is_later:
            text = (
                f"{option.given.written}: this is a further machine of a server and answers no requests; the command "
                "of the first machine is the one to import"
            )
            imported.note("assumed", text)
            return


def _last_of_each(options: Sequence[Option], imported: Imported) -> list[Option]:
    """Of an option that is given again only the last counts; those that add up (keys of JSON, lists) are kept."""
    last = {option.flag.name: option for option in options}
    kept = []
    for option in options:
        adds_up = option.flag.kind == "append" or option.given.keys
        if adds_up or last[option.flag.name] is option:
            kept.append(option)
        elif not is_secret_option(option.flag.name):
            imported.note(
                "changed", f"{option.given.written} is left out: the option is given again, and the last one counts"
            )
    return kept


def _model(arguments: Arguments, imported: Imported, engine: EngineFacts) -> str | None:
    """The model as the command names it: by an option or as the first word."""
    words = list(arguments.positionals)
    named = [given.values[0] for given in arguments.options if given.full_name == "--model" and given.values]
    model = named[-1] if named else words.pop(0) if words else None
    for word in words if named or model is None else without_mistaken_model(model, words, engine, imported):
        judge_word(word, imported)
    if model is None:
        default = engine.flags["--model"].default if "--model" in engine.flags else None
        would = f"; vLLM would serve {default}" if default else ""
        imported.problems.append(Problem(f"the command names no model{would}", remedy="write it after `vllm serve`"))
    return model


def _unread(start: Start) -> list[str]:
    """Places that the start takes variables from and that were not read."""
    return [note for note in start.notes if note.startswith("the variables of")]


def _take_option(option: Option, start: Start, imported: Imported, reverse: Reverse) -> None:
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


def _take_unknown(unknown: Argument, imported: Imported, reverse: Reverse, *, skips: bool) -> None:
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


def _pin_ranks(imported: Imported, reverse: Reverse) -> None:
    """A command that divides nothing runs on one card, whatever the machine has: parallel sizes are vLLM's 1."""
    if reverse.engine.device == "cpu":
        return
    for key in ("serve.tensor_parallel", "serve.pipeline_parallel"):
        if key not in imported.settings:
            imported.settings[key] = 1
            imported.said[key] = "left out: vLLM's own default"


def _choose_groups(imported: Imported, reverse: Reverse) -> None:
    """Where the weights lie: a command that offloads nothing keeps everything in GPU memory."""
    settings = imported.settings
    if reverse.engine.device == "cpu":
        imported.groups["hardware"] = "cpu"
        return
    if "memory.prefetch.params" in settings and "memory.offload_params" not in settings:
        imported.set(
            "memory.offload_params", settings["memory.prefetch.params"], imported.said["memory.prefetch.params"]
        )
    backend = settings.get("memory.offload_backend")
    offloads = any(settings.get(key) for key in _OFFLOADS) or backend is not None
    imported.groups["memory"] = "hybrid" if offloads else "vram_only"
    if not offloads:
        imported.note("open", "memory=vram_only, because the command offloads nothing; memory=auto may use host RAM")
    if settings.get("memory.cpu_offload_gib") and backend is None:
        found = reverse.read("memory.offload_backend", "uva")
        if found is not None and found[0].flag is not None:
            imported.set("memory.offload_backend", "uva", "what --cpu-offload-gb alone means")
