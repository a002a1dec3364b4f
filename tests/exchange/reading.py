"""What the tests read foreign commands with."""

from __future__ import annotations

from nexus_orch.adapt.render import TableAdapter
from nexus_orch.adapt.ways import Table
from nexus_orch.choose import choose_adapter
from nexus_orch.compose.schema import is_known
from nexus_orch.exchange.foreign.sources import parse_text
from nexus_orch.exchange.imported import Imported
from nexus_orch.exchange.profiles.reading import Reader, read_start
from nexus_orch.exchange.profiles.surroundings import is_for_cpu
from nexus_orch.exchange.start import Beside, Start
from nexus_orch.facts.engine.installed import make_assumed_engine
from tests.plugins.plans import shipped_plugins

BESIDE = Beside({"HOME": "~", "PWD": "/srv/here"})


def tables_of(version: str) -> list[Table]:
    """The tables of the shipped adapters, that of the release first."""
    adapters = shipped_plugins().adapters()
    own = choose_adapter(adapters, version)
    others = [adapter for adapter in adapters.values() if adapter is not own]
    return [adapter.table for adapter in (own, *others) if isinstance(adapter, TableAdapter)]


def reader_of(version: str, *, cpu: bool = False, skips_unknown: bool = False) -> Reader:
    engine = make_assumed_engine(version, cpu=cpu)
    return Reader(engine, tables_of(version), is_known, {"Qwen/Qwen2.5-7B-Instruct": "qwen7b"}, skips_unknown)


def starts_in(text: str, name: str = "file") -> list[Start]:
    found = parse_text(text, name, BESIDE)
    assert isinstance(found, list)
    return found


def start_in(text: str, name: str = "file") -> Start:
    [start] = starts_in(text, name)
    return start


def read(text: str, version: str = "0.25.1", name: str = "file") -> Imported:
    """The settings of the only start in a text."""
    start = start_in(text, name)
    return read_start(start, reader_of(version, cpu=is_for_cpu(start)))


def told(imported: Imported, kind: str) -> str:
    """All that the report tells of one kind."""
    return "\n".join(note.text for note in imported.notes if note.kind == kind)
