"""The command line's overrides, checked before Hydra composes, so that several mistakes are told at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode

from nexus_orch.compose.loader import NexusLoader
from nexus_orch.compose.origins import COMMAND_LINE
from nexus_orch.compose.schema import find_nearest_key, is_known
from nexus_orch.compose.values import make_unknown_key
from nexus_orch.errors import Problem
from nexus_orch.suggest import suggest, suggest_or_list

SHOWN_OPTIONS = 12
"""More options of a group are not listed beside the nearest ones."""


def check_overrides(
    texts: Sequence[str], loader: NexusLoader, config_name: str, mode: RunMode
) -> tuple[list[Override], list[Problem]]:
    """The overrides that stand, and the problems of the others. Values such as 1,2 are welcome in MULTIRUN only."""
    overrides, problems = parse_overrides(texts, loader)
    groups = Groups(loader, overrides, config_name)
    good: list[Override] = []
    for override in overrides:
        found = list(_judge(override, groups))
        if override.is_sweep_override() and mode == RunMode.RUN:
            found.append(_make_lone_sweep(override))
        problems += found
        if not found:
            good.append(override)
    return good, problems


def parse_overrides(texts: Sequence[str], loader: NexusLoader) -> tuple[list[Override], list[Problem]]:
    """The overrides that can be read, and a problem for each that cannot."""
    parser = OverridesParser.create(config_loader=loader)
    overrides: list[Override] = []
    problems: list[Problem] = []
    for text in texts:
        try:
            overrides += parser.parse_overrides([text])
        except HydraException as error:
            problems.append(_make_unreadable(text, str(error)))
    return overrides, problems


def _make_unreadable(text: str, reason: str) -> Problem:
    remedy = "write KEY=VALUE or GROUP=NAME, and quote what holds spaces, commas or brackets: KEY=\"'a, b'\""
    if "=" not in text:
        return Problem(f"an override without a value: {text}", text, None, COMMAND_LINE, remedy)
    key, _, value = text.lstrip("+~").partition("=")
    told = [line for line in reason.splitlines() if not line.startswith(("Error parsing override", "See https:"))]
    return Problem(f"cannot read this override: {told[0]}", key, value, COMMAND_LINE, remedy)


class Groups:
    """The groups and options that the search path holds, Hydra's own and `hydra.searchpath` included."""

    def __init__(self, loader: NexusLoader, overrides: Sequence[Override], config_name: str) -> None:
        searched = [str(x.input_line) for x in overrides if x.key_or_group == "hydra.searchpath"]
        self._repository = loader.searched_repository(config_name, searched)
        self._found: dict[tuple[str, ObjectType], list[str]] = {}

    def inside(self, parent: str) -> list[str]:
        """The groups directly below `parent`, "" for the top; by their own names."""
        return self._names(parent, ObjectType.GROUP)

    def options(self, group: str) -> list[str]:
        """The options of a group, sorted."""
        return self._names(group, ObjectType.CONFIG)

    def has_option(self, group: str, option: str) -> bool:
        """Whether a group has an option of exactly this name. Files are not listed where one can be looked up: the
        models alone are 140."""
        is_name = "/" not in option and not option.endswith((".yaml", ".yml"))
        return is_name and bool(self._repository.config_exists(f"{group}/{option}"))

    def _names(self, group: str, kind: ObjectType) -> list[str]:
        if (group, kind) not in self._found:
            self._found[group, kind] = self._repository.get_group_options(group, kind)
        return self._found[group, kind]

    def holds(self, group: str) -> bool:
        """Whether there is such a group."""
        parent, _, name = group.rpartition("/")
        return name in self.inside(parent)


def _judge(override: Override, groups: Groups) -> Iterator[Problem]:
    name: str = override.key_or_group
    if name.startswith("hydra.") or (isinstance(override.value(), dict) and is_known(name)):
        return
    if "." not in name and groups.holds(name):
        if not override.is_delete():
            yield from _judge_options(override, groups)
    elif "/" in name:
        yield _make_unknown_group(override, groups)
    elif not is_known(name):
        yield _make_unknown_name(override, groups)


def _judge_options(override: Override, groups: Groups) -> Iterator[Problem]:
    group: str = override.key_or_group
    for option in _chosen(override):
        if option is None:
            remedy = f"leave the group out with ~{group}, or choose: {', '.join(groups.options(group))}"
            yield Problem(f"{group} cannot be null", group, "null", COMMAND_LINE, remedy)
        elif not groups.has_option(group, option):
            yield _make_unknown_option(group, option, groups.options(group))


def _chosen(override: Override) -> Iterator[str | None]:
    """The options that an override of a group names: one, a list, or those of a sweep."""
    if override.is_discrete_sweep():
        yield from override.sweep_string_iterator()
    else:
        value = override.value()
        for option in value if isinstance(value, list) else [value]:
            yield None if option is None else str(option)


def _make_unknown_option(group: str, option: str, options: Sequence[str]) -> Problem:
    question = suggest(option, options, count=3)
    remedies = [question] if question else []
    if not question or len(options) <= SHOWN_OPTIONS:
        remedies.append(f"options: {', '.join(options)}")
    else:
        remedies.append(f"`nexus-run --help` lists all {len(options)}")
    remedy = " ".join(remedies)
    if group in ("hydra/sweeper", "hydra/launcher"):
        package = f"hydra-{option.partition('_')[0]}-{group.removeprefix('hydra/')}"
        remedy += f"; others come with packages of their own, such as {package}"
    return Problem(f"unknown option of the group {group}", group, option, COMMAND_LINE, remedy)


def _make_unknown_group(override: Override, groups: Groups) -> Problem:
    parent = override.key_or_group.rpartition("/")[0]
    known = [f"{parent}/{group}".lstrip("/") for group in groups.inside(parent)]
    remedy = suggest_or_list(override.key_or_group, known, "groups")
    return _make_problem(f"unknown group {override.key_or_group}", override, remedy)


def _make_unknown_name(override: Override, groups: Groups) -> Problem:
    """The problem of what is neither key nor group; without a dot it may be either, misspelt."""
    name: str = override.key_or_group
    known = [group for group in groups.inside("") if group != "hydra"]
    question = "" if "." in name else suggest(name, known)
    if question:
        return _make_problem(f"unknown group {name}", override, question)
    if "." in name or find_nearest_key(name) is not None:
        return make_unknown_key(name, _written_value(override), COMMAND_LINE)
    return _make_problem(f"unknown group or key {name}", override, f"groups: {', '.join(known)}")


def _make_lone_sweep(override: Override) -> Problem:
    key, value = override.key_or_group, _written_value(override)
    remedy = (
        "add -m to run one job for each value (nexus-run -m ...), "
        f"write {key}=[{value}] for a list, or quote it: {key}=\"'{value}'\""
    )
    return _make_problem("several values, but this is no sweep", override, remedy)


def _make_problem(message: str, override: Override, remedy: str) -> Problem:
    return Problem(message, override.key_or_group, _written_value(override), COMMAND_LINE, remedy)


def _written_value(override: Override) -> str | None:
    return str(override.input_line).partition("=")[2] or None
