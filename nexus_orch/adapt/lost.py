"""Settings that a release no longer takes, although earlier ones did, and nobody has said why: told, never dropped.

A release that never had the option is no loss, nor is one for which the table has a way of its own (refused, a
variable, another option). What is left is an option that was renamed or removed since the table was written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from nexus_orch.adapt.ways import Table, Way
from nexus_orch.facts.options.catalogue import catalogue_flags, had_before
from nexus_orch.releases.known import known_releases, parse_release, release_of
from nexus_orch.suggest import find_near
from nexus_orch.types import EngineFacts

_NEAR = 0.7
"""How similar an option's new name must be to be told (`nexus_orch.suggest`): options of one subject share words."""


@dataclass(frozen=True)
class Lost:
    """A setting that this release has no `option` for; `nearest` is an option that came since and looks like it."""

    key: str
    option: str
    nearest: str | None = None

    def render(self, version: str) -> str:
        """What is lost, in a sentence."""
        hint = f"; perhaps it is {self.nearest} now" if self.nearest else ""
        return (
            f"{self.key} is lost: vLLM {version} has no {self.option}, which earlier releases have, and nothing is "
            f"known of a change{hint}"
        )


def find_lost(table: Table, engine: EngineFacts, others: Mapping[str, str] | None = None) -> Iterator[Lost]:
    """The settings of a table that the engine lost, and those of `others`, which are an option for each key."""
    options = {key: way.flag for key, ways in table.items() if (way := _usual_way(ways, engine)) is not None}
    for key, option in {**options, **(others or {})}.items():
        if option is not None and engine.option(option) is None and had_before(engine.version, option):
            yield Lost(key, option, find_nearest(option, engine))


def _usual_way(ways: tuple[Way, ...], engine: EngineFacts) -> Way | None:
    """How the release takes the setting, unless a value or a variable of the run's own asks for another way."""
    usual = (way for way in ways if not way.values and way.given is None)
    return next((way for way in usual if way.holds_for(engine.version, engine.device)), None)


def find_nearest(option: str, engine: EngineFacts) -> str | None:
    """The option that looks most like one that vanished, of those that came since."""
    earlier = [release for release in known_releases() if release_of(release) < parse_release(engine.version)]
    last = next((flags for flags in map(catalogue_flags, reversed(earlier)) if option in flags), None)
    new = [] if last is None else [name for name in engine.flags if name not in last]
    return next(iter(find_near(option, new, least=_NEAR)), None)
