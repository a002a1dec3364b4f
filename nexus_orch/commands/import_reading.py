"""Which start of a source is meant, for which release it was written, and what it says in our settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nexus_orch.adapt.render import TableAdapter
from nexus_orch.adapt.ways import Table
from nexus_orch.choose import choose_adapter
from nexus_orch.commands.import_source import Overrides, Source
from nexus_orch.commands.options import conf_dirs
from nexus_orch.compose.schema import is_known
from nexus_orch.compose.unbuilt import UNBUILT
from nexus_orch.contracts import Adapter
from nexus_orch.errors import ConfigError, Problem
from nexus_orch.exchange.foreign.ancestor import read_ancestor
from nexus_orch.exchange.foreign.sources import WHAT_IS_READ
from nexus_orch.exchange.imported import Imported
from nexus_orch.exchange.profiles.reading import Reader, try_start
from nexus_orch.exchange.profiles.surroundings import is_for_cpu
from nexus_orch.exchange.start import Start
from nexus_orch.exchange.text.server import parse_image_release
from nexus_orch.facts.engine.installed import make_assumed_engine
from nexus_orch.facts.profiles import read_profiles
from nexus_orch.plugin_manager import load_plugins
from nexus_orch.releases.known import known_releases


@dataclass(frozen=True)
class Question:
    """What the user asks for. `project` need not be there yet."""

    overrides: Overrides
    release: str | None = None
    project: Path | None = None
    pick: int | None = None
    skips_unknown: bool = False

    @property
    def told_release(self) -> str | None:
        return self.release or self.overrides.settings.get("engine.version")


def read_settings(source: Source, question: Question) -> Imported:
    """The settings of the start that is meant, with the overrides over them. Raises ConfigError."""
    project = question.project if question.project is not None and (question.project / "conf").is_dir() else None
    profiles = _model_profiles(project)
    if isinstance(source.content, Mapping):
        imported = read_ancestor(source.content, [unbuilt.key for unbuilt in UNBUILT], profiles)
        if question.told_release is not None:
            imported.settings["engine.version"] = question.told_release
    else:
        start = choose_start(source.content, source.name, question.pick)
        imported = _read_start(start, _Readers(question, start, profiles, load_plugins(project).adapters()))
    imported.groups |= question.overrides.groups
    for key, value in question.overrides.settings.items():
        imported.settings[key], imported.said[key] = value, "command line"
    return imported


def choose_start(starts: Sequence[Start], name: str, pick: int | None) -> Start:
    """The only start, or the one that is picked by its number. Raises ConfigError."""
    if not starts:
        raise ConfigError(Problem(f"{name} starts no vLLM server", remedy=f"what is read: {WHAT_IS_READ}"))
    listed = ", ".join(f"{number}: {_label(start)}" for number, start in enumerate(starts, 1))
    default = next((number for number, start in enumerate(starts, 1) if start.is_default), None)
    if pick is None and default is None and len(starts) > 1:
        raise ConfigError(Problem(f"{name} starts {_count(starts)} ({listed})", remedy="choose: --pick N"))
    number = pick if pick is not None else default or 1
    if not 1 <= number <= len(starts):
        raise ConfigError(Problem("there is no start of this number", "--pick", number, None, f"there is {listed}"))
    return starts[number - 1]


def _label(start: Start) -> str:
    return f"{start.place}, if {start.way}" if start.way else start.place


def _count(starts: Sequence[Start]) -> str:
    ways = {start.way for start in starts}
    if len(ways) == len(starts):
        return f"one vLLM server in {len(ways)} ways, and nothing in the file tells which"
    if len(ways) > 1:
        return f"vLLM servers in {len(ways)} ways, and nothing in the file tells which"
    return f"{len(starts)} vLLM servers"


@dataclass(frozen=True)
class _Readers:
    """What makes a reader for any release."""

    question: Question
    start: Start
    profiles: Mapping[str, str]
    adapters: Mapping[str, Adapter]

    def make(self, release: str) -> Reader:
        """Raises ConfigError when this is no release."""
        hardware = self.question.overrides.groups.get("hardware")
        is_cpu = hardware == "cpu" if hardware is not None else is_for_cpu(self.start)
        engine = make_assumed_engine(release, cpu=is_cpu)
        return Reader(
            engine, self._tables(engine.version), is_known, self.profiles, skips_unknown=self.question.skips_unknown
        )

    def _tables(self, version: str) -> list[Table]:
        """The settings tables of all adapters, that of the release's own first."""
        named = self.question.overrides.settings.get("engine.adapter")
        own = choose_adapter(self.adapters, version, named)
        ordered = [own, *(adapter for adapter in self.adapters.values() if adapter is not own)]
        return [adapter.table for adapter in ordered if isinstance(adapter, TableAdapter)]


def _read_start(start: Start, readers: _Readers) -> Imported:
    """The start in the words of its release: told, or of the image, or the newest that understands all of it."""
    image = start.container.image if start.container is not None else ""
    told = readers.question.told_release
    release = told or parse_image_release(image) or start.release
    if release is None:
        return _read_for_newest(start, readers, image)
    reader = readers.make(release)
    imported = try_start(start, reader)
    if imported.problems:
        raise ConfigError(*imported.problems)
    imported.settings["engine.version"] = release
    imported.said["engine.version"] = "told" if told else image if parse_image_release(image) else "what the file says"
    for note in reader.engine.notes:
        imported.note("release", note)
    return imported


def _read_for_newest(start: Start, readers: _Readers, image: str) -> Imported:
    """The newest release that has all options and still reads all variables; a doubt about variables yields to
    options."""
    releases = known_releases()
    tag = f" (the image {image} names none)" if image else ""
    newest = try_start(start, readers.make(releases[-1]))
    if not newest.problems and not newest.doubts:
        newest.note("release", f"not told{tag}, so read as vLLM {releases[-1]} and not pinned (--release V names it)")
        return newest
    understood: dict[str, Imported] = {} if newest.problems else {releases[-1]: newest}
    for release in reversed(releases[:-1]):
        imported = try_start(start, readers.make(release))
        if not imported.problems:
            understood[release] = imported
            if not imported.doubts:
                break
    if not understood:
        raise ConfigError(*newest.problems)
    release = next((release for release, one in understood.items() if not one.doubts), next(iter(understood)))
    imported = understood[release]
    if release == releases[-1]:
        imported.note("release", f"not told{tag}, so read as vLLM {release} and not pinned (--release V names it)")
        return imported
    imported.settings["engine.version"] = release
    imported.said["engine.version"] = "the newest that understands all of it"
    reasons = "; ".join((*(problem.message for problem in newest.problems), *newest.doubts))
    imported.note("release", f"read as vLLM {release}{tag}, and pinned: {reasons}")
    return imported


def _model_profiles(project: Path | None) -> dict[str, str]:
    """The model profiles by the path that they name; of several the first."""
    profiles = read_profiles(conf_dirs(project), "model")
    return {str(profiles[name]["path"]): name for name in reversed(profiles) if profiles[name].get("path")}
