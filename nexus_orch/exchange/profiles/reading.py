"""A start of vLLM read in the words of one release: options and variables to settings of ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from nexus_orch.adapt.arguments import Arguments, read_arguments
from nexus_orch.adapt.config_file import insert_config
from nexus_orch.adapt.ways import Table
from nexus_orch.errors import ConfigError, Problem
from nexus_orch.exchange.imported import Imported
from nexus_orch.exchange.profiles.options import Option, sort_arguments
from nexus_orch.exchange.profiles.reverse import Reverse
from nexus_orch.exchange.profiles.stray import judge_word, without_mistaken_model
from nexus_orch.exchange.profiles.surroundings import take_address, take_environment, take_model
from nexus_orch.exchange.profiles.taking import take_option, take_unknown
from nexus_orch.exchange.profiles.typography import mend_typography
from nexus_orch.exchange.start import Start
from nexus_orch.exchange.text.secrets import is_secret_option
from nexus_orch.types import EngineFacts

_NO_OTHER = "name a command that starts `vllm serve` itself"
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
        take_option(option, start, imported, reverse)
    for unknown in found.unknown:
        take_unknown(unknown, imported, reverse, skips=reader.skips_unknown)
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
