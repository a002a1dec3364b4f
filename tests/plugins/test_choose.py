"""The choice among offers: the named one, else the only supporter, else an error with the candidates."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from packaging.specifiers import SpecifierSet

from nexus_orch.choose import choose_adapter, choose_engine
from nexus_orch.contracts import EngineProvider, Rendering
from nexus_orch.errors import PluginError
from nexus_orch.types import EngineFacts, Plan
from tests.plugins.plans import shipped_plugins


@dataclass
class Parrot:
    """An adapter that says nothing."""

    name: str
    versions: SpecifierSet

    def render(self, plan: Plan, engine: EngineFacts) -> Rendering:
        return Rendering(argv=())


def adapters(**versions: str) -> dict[str, Parrot]:
    return {name: Parrot(name, SpecifierSet(text)) for name, text in versions.items()}


@pytest.mark.parametrize(
    ("version", "expected"),
    [("0.7.3", "old"), ("0.8.0", "new"), ("0.8.0.dev3+gabc", "new"), ("0.7.3.post2", "old"), ("0.9+cpu", "new")],
)
def test_the_only_adapter_that_knows_the_release(version: str, expected: str) -> None:
    assert choose_adapter(adapters(old="<0.8", new=">=0.8"), version).name == expected


def test_a_named_adapter_is_taken_whatever_it_knows() -> None:
    assert choose_adapter(adapters(old="<0.8", new=">=0.8"), "0.9.0", "old").name == "old"


def test_two_adapters_for_one_release_are_an_error_that_lists_them() -> None:
    with pytest.raises(PluginError, match=r"2 adapters know vLLM 0\.9\.0: mine, new"):
        choose_adapter(adapters(mine=">=0.9", new=">=0.8"), "0.9.0")


def test_no_adapter_is_an_error_that_lists_what_is_known() -> None:
    with pytest.raises(PluginError, match=r"(?s)no adapter knows this vLLM.*old \(<0\.8\)"):
        choose_adapter(adapters(old="<0.8"), "0.9.0")


def test_a_version_that_cannot_be_read() -> None:
    with pytest.raises(PluginError, match="cannot be read"):
        choose_adapter(adapters(old="<0.8"), "main")


def test_an_unknown_adapter_gets_the_nearest_name() -> None:
    with pytest.raises(PluginError, match=r"did you mean old\?"):
        choose_adapter(adapters(old="<0.8", new=">=0.8"), "0.9.0", "olt")


def test_the_engine_of_the_named_kind() -> None:
    assert choose_engine(shipped_plugins().engines(), "local").kind == "local"
    assert choose_engine(shipped_plugins().engines(), None).kind == "local"


def test_an_unknown_kind_names_its_origin() -> None:
    with pytest.raises(PluginError, match=r"(?s)engine\.kind = locl  \(my\.yaml\).*did you mean local\?"):
        choose_engine(shipped_plugins().engines(), "locl", {"engine.kind": "my.yaml"})


def test_several_kinds_and_none_named() -> None:
    (local,) = shipped_plugins().engines().values()
    engines: dict[str, EngineProvider] = {"local": local, "other": local}
    with pytest.raises(PluginError, match=r"(?s)2 kinds of engine are there: local, other.*engine\.kind=local"):
        choose_engine(engines, None)


def test_one_comes_first_where_none_is_named() -> None:
    (local,) = shipped_plugins().engines().values()

    class Other(type(local)):  # type: ignore[misc]
        kind, order = "other", EngineProvider.order

    engines: dict[str, EngineProvider] = {"other": Other(), "local": local}
    assert choose_engine(engines, None) is local
    assert choose_engine({"other": engines["other"]}, None) is engines["other"]


def test_no_engine_at_all() -> None:
    with pytest.raises(PluginError, match="no plugin offers an engine"):
        choose_engine({}, None)
