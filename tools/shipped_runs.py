"""Every shipped profile as a run that can be planned for any engine, composed once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache

from nexus_orch import shipped
from nexus_orch.choose import choose_engine
from nexus_orch.compose.run import compose_run
from nexus_orch.facts.machine.machine import read_machine
from nexus_orch.facts.model.model import read_model
from nexus_orch.install.models.bundled import with_awaited_folder
from nexus_orch.plugin_manager import Plugins, load_plugins
from nexus_orch.session.prepare import Preparation, make_preparation
from nexus_orch.types import EngineFacts, Facts, MachineFacts, ModelFacts, RunSpec

NEEDS_A_FOLDER = frozenset({"local"})
"""Model profiles that describe no model by themselves."""


@dataclass(frozen=True)
class ShippedRun:
    """One shipped model on a hardware profile with a memory profile."""

    model: str
    hardware: str
    memory: str
    spec: RunSpec
    model_facts: ModelFacts
    machine: MachineFacts

    @property
    def name(self) -> str:
        """As on the command line."""
        return f"model={self.model} hardware={self.hardware} memory={self.memory}"

    def prepare(self, engine: EngineFacts) -> Preparation:
        """Plan and render it for an engine; what this machine has learned does not count."""
        plugins = shipped_plugins()
        provider = choose_engine(plugins.engines(), None)
        facts = Facts(model=self.model_facts, machine=self.machine, engine=engine)
        return make_preparation(self.spec, facts, provider, plugins, uses_learned=False)


@cache
def shipped_plugins() -> Plugins:
    return load_plugins()


def profile_names(group: str) -> list[str]:
    """The shipped profiles of a group."""
    return sorted(file.stem for file in (shipped.conf_dir() / group).glob("*.yaml"))


def model_names() -> list[str]:
    """The shipped models that can be planned as they are."""
    return [name for name in profile_names("model") if name not in NEEDS_A_FOLDER]


@cache
def compose_shipped(*overrides: str) -> RunSpec:
    """Composed as a user would, but only once."""
    return compose_run(list(overrides))


@cache
def _read_model(name: str) -> ModelFacts:
    spec = compose_shipped(f"model={name}")
    return with_awaited_folder(read_model(spec.model, spec.origins))


@cache
def _read_machine(name: str) -> MachineFacts:
    spec = compose_shipped(f"hardware={name}")
    return read_machine(spec.hardware, spec.origins)


def make_run(model: str, hardware: str, memory: str = "auto") -> ShippedRun:
    """The run that `model=... hardware=... memory=...` composes: each profile is read once, the parts are joined."""
    spec = compose_shipped(f"model={model}")
    parts = compose_shipped(f"hardware={hardware}"), compose_shipped(f"memory={memory}")
    origins: Mapping[str, str] = {
        **_without(spec.origins, ("hardware.", "memory.")),
        **_only(parts[0].origins, "hardware."),
        **_only(parts[1].origins, "memory."),
    }
    joined = replace(spec, hardware=parts[0].hardware, memory=parts[1].memory, origins=origins)
    return ShippedRun(model, hardware, memory, joined, _read_model(model), _read_machine(hardware))


def _only(origins: Mapping[str, str], prefix: str) -> dict[str, str]:
    return {key: origin for key, origin in origins.items() if key.startswith(prefix)}


def _without(origins: Mapping[str, str], prefixes: Iterable[str]) -> dict[str, str]:
    return {key: origin for key, origin in origins.items() if not key.startswith(tuple(prefixes))}
