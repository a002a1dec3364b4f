"""What is exported comes back: every setting, option and variable, from every format and for every release."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nexus_orch.adapt.arguments import read_arguments
from nexus_orch.choose import choose_adapter
from nexus_orch.exchange.deploy.compose import render_compose
from nexus_orch.exchange.deploy.deployment import make_deployment
from nexus_orch.exchange.deploy.kubernetes import render_kubernetes
from nexus_orch.exchange.deploy.shell import render_shell
from nexus_orch.exchange.deploy.systemd import render_systemd
from nexus_orch.exchange.foreign.sources import parse_text
from nexus_orch.exchange.imported import Imported
from nexus_orch.exchange.profiles.reading import Reader, read_start
from nexus_orch.exchange.text.server import parse_image_release
from nexus_orch.facts.engine.installed import make_assumed_engine
from nexus_orch.releases.known import known_releases
from nexus_orch.types import GIB, EngineFacts, Plan
from tests.exchange.reading import BESIDE, tables_of
from tests.plugins.plans import plan_of, shipped_plugins
from tests.plugins.test_adapters_property import VALUES

pytestmark = pytest.mark.slow

FORMATS = {
    "shell": render_shell,
    "compose": render_compose,
    "systemd": render_systemd,
    "kubernetes": render_kubernetes,
}
formats = st.sampled_from(sorted(FORMATS))
releases = st.sampled_from(known_releases())
some_settings = st.fixed_dictionaries({}, optional={**VALUES, "memory.swap_gib": st.integers(0, 16)})
ADDED = {
    "model.path",
    "model.name",
    "model.served_name",
    "serve.host",
    "serve.port",
    "memory.offload_backend",
    "memory.offload_params",
    "serve.tensor_parallel",
    "serve.pipeline_parallel",
    "hardware.gpu.count",
}
"""What a command says without words: its path, and what vLLM does by itself."""
nasty = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), min_size=1, max_size=30) | st.sampled_from(
    [
        "a b",
        "it's",
        '"q"',
        "$HOME",
        "${HOME}",
        "100%",
        "%h",
        "\\",
        "a\\nb",
        "#x",
        "`id`",
        "$(id)",
        "${X:-y}",
        "a\nb",
        "!",
    ]
)


def export(
    plan: Plan, engine: EngineFacts, format_name: str, image: str | None = None
) -> tuple[str, Mapping[str, str]]:
    """The exported text, and which option or variable says which setting."""
    rendering = choose_adapter(shipped_plugins().adapters(), engine.version).render(plan, engine)
    deployment = make_deployment(replace(plan, engine_version=engine.version), rendering, engine, None)
    return FORMATS[format_name](deployment), rendering.said


def come_back(text: str, engine: EngineFacts) -> Imported:
    found = parse_text(text, "exported", BESIDE)
    assert isinstance(found, list)
    [start] = found
    image = start.container.image if start.container is not None else ""
    assert engine.version in (start.release, parse_image_release(image))
    return read_start(start, Reader(engine, tables_of(engine.version), lambda key: True))


def _as_read(key: str, value: Any) -> Any:
    if key == "memory.kv_cache.size_gib":  # written in whole bytes
        return pytest.approx(value, abs=1 / GIB)
    return list(value) if isinstance(value, tuple) else value


@settings(max_examples=250, deadline=None)
@given(some_settings, releases, formats, st.booleans())
def test_settings_come_back(wanted: dict[str, Any], version: str, format_name: str, cpu: bool) -> None:
    engine = make_assumed_engine(version, cpu=cpu)
    plan = plan_of(wanted, "derived")
    adapter = choose_adapter(shipped_plugins().adapters(), version)
    moved = {choice.key: choice.value for choice in adapter.render(plan, engine).choices}
    text, said = export(plan, engine, format_name)
    expected = {key: moved.get(key, wanted[key]) for key in said.values() if key in wanted}
    expected = {key: value for key, value in expected.items() if value != "auto"}
    if format_name == "kubernetes":
        expected |= {"serve.host": "0.0.0.0"}  # who may reach the server is the cluster's business
        expected.pop("hardware.gpu.devices", None)  # and so is which cards it gets
    found = come_back(text, engine)
    for key, value in expected.items():
        assert found.settings[key] == _as_read(key, value), key
    assert found.settings.keys() - expected.keys() <= ADDED | {"hardware.gpu.devices"}
    assert found.settings["model.path"] == "/models/m"


def _is_relative(text: str) -> bool:
    return text in (".", "..") or text.startswith(("./", "../"))


@settings(max_examples=150, deadline=None)
@given(nasty, nasty, releases, formats)
def test_any_text_comes_back(option: str, variable: str, version: str, format_name: str) -> None:
    assume(not _is_relative(option) and not _is_relative(variable))  # counted from the file when they are read
    engine = make_assumed_engine(version)
    plan = plan_of({}, extra_args=[f"--chat-template={option}"], env={"A_TEXT": variable})
    text, _ = export(plan, engine, format_name)
    found = come_back(text, engine)
    [passed] = read_arguments(found.extra_args, engine).options
    assert passed.values == (option,)
    assert found.env["A_TEXT"] == variable


@pytest.mark.parametrize("format_name", sorted(FORMATS))
def test_the_api_key_comes_back_as_a_variable(format_name: str) -> None:
    engine = make_assumed_engine("0.25.1")
    text, _ = export(plan_of({"serve.api_key_env": "MY_KEY"}), engine, format_name)
    assert come_back(text, engine).settings["serve.api_key_env"] == "MY_KEY"


@pytest.mark.parametrize("format_name", ["shell", "compose", "systemd"])
def test_the_cards_come_back(format_name: str) -> None:
    engine = make_assumed_engine("0.25.1")
    text, _ = export(plan_of({"hardware.gpu.devices": (2, 0)}), engine, format_name)
    assert come_back(text, engine).settings["hardware.gpu.devices"] == [2, 0]


@pytest.mark.parametrize("format_name", sorted(FORMATS))
def test_a_secret_variable_is_not_written(format_name: str) -> None:
    engine = make_assumed_engine("0.25.1")
    text, _ = export(plan_of({}, env={"S3_SECRET": "very secret"}), engine, format_name)
    assert "very secret" not in text
    assert "S3_SECRET" in text
    found = come_back(text, engine)
    assert "S3_SECRET" not in found.env
