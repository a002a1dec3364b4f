"""Which of the offered adapters and engine providers is taken. Pure. (The planner chooses among the loaders.)

The one that is named; else the only one that supports the case; else an error that lists the candidates.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from packaging.version import InvalidVersion

from nexus_orch.contracts import Adapter, EngineProvider
from nexus_orch.errors import PluginError, Problem
from nexus_orch.releases.known import release_of
from nexus_orch.suggest import suggest_or_list

Offer = TypeVar("Offer")


def choose_adapter(
    adapters: Mapping[str, Adapter],
    version: str,
    name: str | None = None,
    origins: Mapping[str, str] | None = None,
) -> Adapter:
    """The adapter that `engine.adapter` names, else the only one whose releases hold this version (`.dev` counts as its
    release); `origins` says where the keys were written.

    One that is named is taken whatever releases it knows: a fork may call itself what it likes. Raises PluginError when
    there is none or more than one.
    """
    if name is not None:
        return _named(adapters, name, "engine.adapter", (origins or {}).get("engine.adapter"))
    try:
        release = release_of(version)
    except InvalidVersion:
        remedy = "install a released vLLM, or one built with its tags; or name an adapter: engine.adapter=v2"
        raise PluginError(
            Problem("the engine's version cannot be read", "engine.version", version, None, remedy)
        ) from None
    supporters = [known for known, adapter in adapters.items() if adapter.versions.contains(release, prereleases=True)]
    if len(supporters) == 1:
        return adapters[supporters[0]]
    if supporters:
        raise PluginError(_several(f"adapters know vLLM {version}", supporters, "engine.adapter"))
    ranges = ", ".join(f"{known} ({adapter.versions})" for known, adapter in adapters.items())
    raise PluginError(
        Problem("no adapter knows this vLLM", "engine.version", version, None, f"known: {ranges or 'none'}")
    )


def describe_stretch(adapter: Adapter, version: str) -> tuple[str, ...]:
    """A note when an adapter was named for a release that it does not know; nothing else."""
    if _knows(adapter, version):
        return ()
    return (f"the adapter {adapter.name} is for vLLM {adapter.versions}; for {version} it is used because it is named",)


def _knows(adapter: Adapter, version: str) -> bool:
    """Whether the adapter is for this release; what cannot be read, of a fork that calls itself anything, is none."""
    try:
        return adapter.versions.contains(release_of(version), prereleases=True)
    except InvalidVersion:
        return False


def choose_engine(
    engines: Mapping[str, EngineProvider], kind: str | None, origins: Mapping[str, str] | None = None
) -> EngineProvider:
    """The provider that `engine.kind` names, else the first; `origins` says where the keys were written.

    Raises PluginError when the kind is unknown, or when none is named and there is not exactly one that comes first.
    """
    if kind is not None:
        return _named(engines, kind, "engine.kind", (origins or {}).get("engine.kind"))
    first = min((provider.order for provider in engines.values()), default=0)
    found = {name: provider for name, provider in engines.items() if provider.order == first}
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        raise PluginError(_several("kinds of engine are there", found, "engine.kind"))
    raise PluginError(Problem("no plugin offers an engine", "engine.kind"))


def _named(offers: Mapping[str, Offer], name: str, key: str, origin: str | None) -> Offer:
    if name in offers:
        return offers[name]
    raise PluginError(Problem("unknown name", key, name, origin, suggest_or_list(name, list(offers))))


def _several(what: str, names: Iterable[str], key: str) -> Problem:
    listed = list(names)
    remedy = f"name one: {' or '.join(f'{key}={name}' for name in listed)}"
    return Problem(f"{len(listed)} {what}: {', '.join(listed)}", key, None, None, remedy)
