"""What an imported command becomes means the same: every option of a release comes out of the adapter again, is said by
another setting, or is named in the report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from nexus_orch.adapt.arguments import Argument, read_arguments
from nexus_orch.choose import choose_adapter
from nexus_orch.exchange.profiles.reading import try_start
from nexus_orch.exchange.start import Start
from nexus_orch.facts.engine.installed import make_assumed_engine
from nexus_orch.types import EngineFacts, Flag
from tests.exchange.reading import reader_of
from tests.plugins.plans import plan_of, shipped_plugins

pytestmark = pytest.mark.slow

SAID_ELSEWHERE = {"--model", "--api-key", "--config", "--hf-token", "--host", "--help"}
"""The model, secrets and what stands around a server have tests of their own."""
TOGETHER = {"--spec-method", "--spec-model", "--spec-tokens"}
"""Options that say nothing one by one."""
VALUES = {"--limit-mm-per-prompt": "image=2"}
"""Values of a shape of their own."""
OFF_BY_ITSELF = {"--enable-lora"}
"""Switches whose default the catalogue does not name, and which are off unless they are given."""


def commands_with(flag: Flag) -> Iterator[list[str]]:
    """The option with a value of its kind, and its other way where it has two."""
    if flag.kind in ("store_true", "bool_optional"):
        yield [flag.name]
    if flag.kind == "bool_optional":
        yield [f"--no-{flag.name.removeprefix('--')}"]
    if flag.kind not in ("store_true", "bool_optional", "other"):
        yield [flag.name, value_of(flag)]


def value_of(flag: Flag) -> str:
    listed = flag.choices or flag.known_values
    if flag.name in VALUES:
        return VALUES[flag.name]
    if listed:
        return str(listed[-1])
    if flag.kind in ("bool_value", "json"):
        return "false" if flag.kind == "bool_value" else '{"method": "ngram", "num_speculative_tokens": 3}'
    kind = str(flag.type)
    return "0.5" if kind == "float" else "64" if "int" in kind else "some-value"


def _plain(values: tuple[str, ...]) -> list[Any]:
    """Values that mean the same are equal: 0.50 and 0.5, JSON with its keys in another order."""
    read: list[Any] = []
    for value in values:
        try:
            read.append(json.loads(value))
        except ValueError:
            read.append(value)
    return read


def _is_said(wanted: Argument, argv: tuple[str, ...], engine: EngineFacts) -> bool:
    assert wanted.flag is not None
    found = [given for given in read_arguments(argv, engine).options if given.flag is wanted.flag]
    if not found and (wanted.flag.default is False or wanted.flag.name in OFF_BY_ITSELF):
        return wanted.is_negated or list(wanted.values) == ["false"]
    return any(
        given.is_negated is wanted.is_negated and _plain(given.values) == _plain(wanted.values) for given in found
    )


@pytest.mark.parametrize("release", ["0.33.0", "0.19.1", "0.11.2", "0.8.5.post1", "0.6.6.post1"])
def test_every_option_keeps_its_meaning(release: str) -> None:
    engine, reader = make_assumed_engine(release), reader_of(release)
    adapter = choose_adapter(shipped_plugins().adapters(), release)
    lost = []
    for flag in engine.flags.values():
        for words in commands_with(flag) if flag.name not in SAID_ELSEWHERE | TOGETHER else ():
            imported = try_start(Start(("org/m", *words), folder="/srv"), reader)
            assert not imported.problems, (words, imported.problems)
            settings = {
                key: tuple(value) if isinstance(value, list) else value for key, value in imported.settings.items()
            }
            plan = plan_of(settings, extra_args=imported.extra_args, env=imported.env)
            said = tuple(adapter.render(plan, engine).argv)
            [wanted] = read_arguments(words, engine).options
            reported = any(flag.name in note.text for note in imported.notes if note.kind != "passed on")
            if not (_is_said(wanted, said, engine) or reported or imported.opened):
                lost.append((words, said))
    assert lost == []
