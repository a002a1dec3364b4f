"""Find, load and block plugins, and ask them what they offer. Built-in plugins come the same way as a user's own.

Plugins are the files of the shipped `plugins/` folder, installed packages with an entry point in the group
`nexus_orch`, and the files of the named project's own `plugins/` folder, in this order. `NEXUS_BLOCK_PLUGINS=a,b`
leaves some out by name; `NEXUS_TRACE=1` prints every hook call to stderr.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pluggy

from nexus_orch import hookspecs, shipped
from nexus_orch.choose import choose_adapter, choose_engine
from nexus_orch.compose.plugin_settings import judge_settings
from nexus_orch.compose.rules import judge_rules
from nexus_orch.contracts import Adapter, EngineProvider, Loader
from nexus_orch.errors import PluginError, Problem
from nexus_orch.suggest import suggest_or_list
from nexus_orch.types import RunSpec

__all__ = ["BLOCK_VARIABLE", "GROUP", "TRACE_VARIABLE", "Plugins", "choose_adapter", "choose_engine", "load_plugins"]

GROUP = "nexus_orch"
BLOCK_VARIABLE = "NEXUS_BLOCK_PLUGINS"
TRACE_VARIABLE = "NEXUS_TRACE"
_PREFIX = "nexus_"


@dataclass(frozen=True)
class PluginSource:
    """Where a plugin comes from; `import_it` gives its module."""

    name: str
    place: str
    import_it: Callable[[], ModuleType]


class Plugins:
    """The loaded plugins, with a typed method for each hook."""

    def __init__(
        self,
        manager: pluggy.PluginManager,
        places: Mapping[str, str],
        *,
        project: Path | None = None,
        trace: bool = False,
    ) -> None:
        self._manager = manager
        self._trace = trace
        self.places = places
        """Where each plugin was loaded from, by its name."""
        self.project = project
        """The folder whose plugins are among them."""

    def loaders(self) -> dict[str, Loader]:
        """The loaders by name. Raises PluginError when two plugins offer one name."""
        return self._offers("nexus_loaders", "name", ("order", "profile", "rules", "offloads", "supports", "offer"))

    def adapters(self) -> dict[str, Adapter]:
        """The adapters by name. Raises PluginError when two plugins offer one name."""
        return self._offers("nexus_adapters", "name", ("versions", "render"))

    def engines(self) -> dict[str, EngineProvider]:
        """The engine providers by kind. Raises PluginError when two plugins offer one kind."""
        return self._offers(
            "nexus_engines", "kind", ("order", "settings", "find", "why_not_ready", "command", "start", "reopen")
        )

    def judge(self, spec: RunSpec) -> list[Problem]:
        """What the plugins that the run names have against its settings. A strategy or an engine that nobody offers is
        not ours to refuse."""
        loader = self.loaders().get(spec.memory.strategy or "")
        problems = [] if loader is None else judge_rules(loader.rules, spec)
        try:
            provider = choose_engine(self.engines(), spec.engine.kind)
        except PluginError:
            return problems
        return [*problems, *judge_settings(provider.settings, spec)]

    def _offers(self, hook: str, name_attribute: str, needed: Sequence[str]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        origins: dict[str, str] = {}
        problems: list[Problem] = []
        for plugin, offer in self._ask(hook, name_attribute):
            lacking = [attribute for attribute in (name_attribute, *needed) if not hasattr(offer, attribute)]
            if lacking:
                message = f"{hook} of plugin '{plugin}' returned {offer!r}, which has no {', '.join(lacking)}"
                problems.append(Problem(message, "plugin", self.places[plugin], remedy="return a list of such objects"))
                continue
            name = getattr(offer, name_attribute)
            if name in found:
                message = f"plugins '{origins[name]}' and '{plugin}' both offer '{name}' in {hook}"
                remedy = f"rename one, or {BLOCK_VARIABLE}={origins[name]}"
                problems.append(Problem(message, "plugin", self.places[plugin], remedy=remedy))
                continue
            found[name], origins[name] = offer, plugin
        if problems:
            raise PluginError(*problems)
        return dict(sorted(found.items()))

    def _ask(self, hook: str, name_attribute: str) -> Iterator[tuple[str, Any]]:
        """Each offer with the plugin that it comes from. The implementations are called one by one, so that a failure
        has a name."""
        for implementation in getattr(self._manager.hook, hook).get_hookimpls():
            plugin = implementation.plugin_name
            try:
                offers = implementation.function()
            except Exception as error:
                place = self.places[plugin]
                raise PluginError(
                    _problem_of(error, f"plugin '{plugin}' fails in {hook}", place, _spare(plugin))
                ) from error
            offers = list(offers) if isinstance(offers, list | tuple) else [offers]
            if self._trace:
                names = [str(getattr(offer, name_attribute, offer)) for offer in offers]
                sys.stderr.write(f"trace: {hook}() of {plugin} offers {', '.join(names)}\n")
            yield from ((plugin, offer) for offer in offers)


def load_plugins(project: Path | None = None) -> Plugins:
    """Load all plugins; `project` is the named project folder, whose `plugins/` may be missing.

    Raises PluginError with every problem found: files that cannot be imported, misspelt hooks, names used twice.
    """
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    blocked = {name.strip() for name in os.environ.get(BLOCK_VARIABLE, "").split(",") if name.strip()}
    places: dict[str, str] = {}
    problems: list[Problem] = []
    folders = [shipped.plugins_dir(), *([project / "plugins"] if project is not None else [])]
    sources = [*find_files(folders[0]), *find_entry_points(sys.path), *(s for f in folders[1:] for s in find_files(f))]
    for source in sources:
        if source.name in blocked:
            continue
        if source.name in places:
            remedy = f"rename the file, or {BLOCK_VARIABLE}={source.name} to leave both out"
            message = f"two plugins are called '{source.name}': {places[source.name]} and {source.place}"
            problems.append(Problem(message, remedy=remedy))
            continue
        places[source.name] = source.place
        problems += _register(manager, source)
    unknown = blocked - {source.name for source in sources}
    problems += [_unknown_block(name, [source.name for source in sources]) for name in sorted(unknown)]
    if problems:
        raise PluginError(*problems)
    return Plugins(manager, places, project=project, trace=os.environ.get(TRACE_VARIABLE, "") not in ("", "0"))


def _register(manager: pluggy.PluginManager, source: PluginSource) -> list[Problem]:
    try:
        module = source.import_it()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin may raise anything; it becomes a problem
        return [_problem_of(error, f"plugin '{source.name}' cannot be imported", source.place, _spare(source.name))]
    problems = list(_judge_hooks(manager, source, module))
    if not problems:
        try:
            manager.register(module, name=source.name)
        except pluggy.PluginValidationError as error:
            text = " ".join(str(error).split())
            problems.append(
                Problem(f"plugin '{source.name}': {text}", key="plugin", value=source.place, remedy=_spare(source.name))
            )
    return problems


def _judge_hooks(manager: pluggy.PluginManager, source: PluginSource, module: ModuleType) -> Iterator[Problem]:
    """Hooks that are misspelt or not marked: pluggy would pass over the first only late, over the second in silence."""
    known = [name for name in vars(hookspecs) if name.startswith(_PREFIX)]
    for name, function in vars(module).items():
        code = getattr(function, "__code__", None)
        if code is None or getattr(function, "__module__", None) != module.__name__:
            continue
        place = f"{source.place}, line {code.co_firstlineno}"
        is_marked = manager.parse_hookimpl_opts(module, name) is not None
        if is_marked and name not in known:
            remedy = suggest_or_list(name, known, "known hooks")
            yield Problem(
                f"plugin '{source.name}' has an unknown hook '{name}'", key="plugin", value=place, remedy=remedy
            )
        elif name in known and not is_marked:
            remedy = "write @nexus_orch.hookimpl above it"
            yield Problem(
                f"plugin '{source.name}': {name} is not marked as a hook", key="plugin", value=place, remedy=remedy
            )


def _problem_of(error: BaseException, message: str, place: str, remedy: str) -> Problem:
    """What a plugin's own error means, in one line with the deepest place in a file that is not ours."""
    line = error.lineno if isinstance(error, SyntaxError) else None
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == place]
    if frames:
        line = frames[-1].lineno
    where = place if line is None else f"{place}, line {line}"
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return Problem(f"{message}: {type(error).__name__}: {text}".rstrip(": "), key="plugin", value=where, remedy=remedy)


def _unknown_block(name: str, names: Sequence[str]) -> Problem:
    remedy = suggest_or_list(name, sorted(names), "plugins")
    return Problem("there is no such plugin to block", key=BLOCK_VARIABLE, value=name, remedy=remedy)


def _spare(name: str) -> str:
    return f"mend it, or leave it out with {BLOCK_VARIABLE}={name}"


# Where plugins are


def find_files(folder: Path) -> list[PluginSource]:
    """The plugin files of a folder by name; files that begin with an underscore are not plugins."""
    if not folder.is_dir():
        return []
    return [_file_source(path) for path in sorted(folder.glob("*.py")) if not path.name.startswith("_")]


def _file_source(path: Path) -> PluginSource:
    def import_it() -> ModuleType:
        name = f"nexus_plugins.{path.stem}"
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise ImportError(f"{path} is no Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        return module

    return PluginSource(path.stem, str(path), import_it)


def find_entry_points(folders: Iterable[str]) -> list[PluginSource]:
    """The entry points of our group in the distributions of some folders.

    Read directly: importing importlib.metadata takes ten times as long as everything else here.
    """
    sources: list[PluginSource] = []
    for folder in dict.fromkeys(folders):
        try:
            infos = sorted(path for path in Path(folder).iterdir() if path.suffix in (".dist-info", ".egg-info"))
        except OSError:
            continue
        for info in infos:
            try:
                text = (info / "entry_points.txt").read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError):
                continue
            sources += [_entry_source(plugin, target) for plugin, target in _parse_entry_points(text)]
    return sources


def _parse_entry_points(text: str) -> Iterator[tuple[str, str]]:
    section = ""
    for line in text.splitlines():
        line = line.split("#", 1)[0].strip()  # noqa: PLW2901 - the same line without its comment
        if line.startswith("["):
            section = line.strip("[]").strip()
        elif section == GROUP and "=" in line:
            name, _, target = line.partition("=")
            yield name.strip(), target.split(":")[0].split("[")[0].strip()


def _entry_source(name: str, target: str) -> PluginSource:
    return PluginSource(name, target, lambda: importlib.import_module(target))
