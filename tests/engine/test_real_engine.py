"""The options read from the sources of the real engine against its own parser."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from nexus_orch.facts.engine.installed import read_engine
from nexus_orch.paths import engines_dir
from nexus_orch.types import Flag

pytestmark = pytest.mark.engine

ENGINES = engines_dir()
"""Of the user, read before a test gets a home of its own."""

DUMP = """
import json, sys
sys.argv = ["vllm", "serve"]
from vllm.entrypoints.cli.serve import ServeSubcommand
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = ServeSubcommand().subparser_init(FlexibleArgumentParser().add_subparsers())
def plain(value):
    try:
        return json.loads(json.dumps(value))
    except TypeError:
        return sorted(value) if isinstance(value, set) else getattr(value, "value", {"computed": True})
actions = [action for action in parser._actions if action.option_strings and action.dest != "help"]
print("RESULT" + json.dumps([
    {"names": a.option_strings, "action": type(a).__name__, "choices": a.choices and [plain(c) for c in a.choices],
     "default": plain(a.default), "nargs": a.nargs} for a in actions]))
"""

KINDS = {"_StoreTrueAction": "store_true", "BooleanOptionalAction": "bool_optional", "_AppendAction": "append"}


@pytest.fixture(scope="module")
def python() -> Path:
    record = sorted(ENGINES.glob("cpu-*/engine.json"))[-1]
    return Path(json.loads(record.read_bytes())["python"])


@pytest.fixture(scope="module")
def actions(python: Path) -> list[dict[str, Any]]:
    environment = {**os.environ, "VLLM_TARGET_DEVICE": "cpu", "VLLM_LOGGING_LEVEL": "ERROR"}
    answer = subprocess.run(
        [str(python), "-c", DUMP], capture_output=True, text=True, env=environment, timeout=200, check=True
    )
    (line,) = (line for line in answer.stdout.splitlines() if line.startswith("RESULT"))
    found: list[dict[str, Any]] = json.loads(line.removeprefix("RESULT"))
    return found


@pytest.fixture
def flags(python: Path) -> Mapping[str, Flag]:
    engine = read_engine(python)
    assert engine.device == "cpu" and engine.notes == ()
    return engine.flags


def spellings_of(flag: Flag) -> set[str]:
    names = {flag.name, *flag.aliases}
    no_forms = {f"--no-{name[2:]}" for name in names if name.startswith("--")}
    return names | (no_forms if flag.kind == "bool_optional" else set())


def test_the_spellings_are_the_very_same(flags: Mapping[str, Flag], actions: list[dict[str, Any]]) -> None:
    assert {name for flag in flags.values() for name in spellings_of(flag)} == {
        name for action in actions for name in action["names"]
    }


def test_choices_defaults_and_kinds_are_the_same(flags: Mapping[str, Flag], actions: list[dict[str, Any]]) -> None:
    for action in actions:
        flag = next(flags[name] for name in action["names"] if name in flags)
        choices = [choice for choice in action["choices"] or [] if choice is not None]
        if flag.name != "--mm-processor-device":  # depends on the platform, which is not asked
            assert list(flag.choices) == choices, flag.name
        if flag.default_text is None:
            assert flag.default == action["default"], flag.name
        assert KINDS.get(action["action"], flag.kind) == flag.kind, flag.name
        if flag.kind not in ("store_true", "bool_optional"):
            assert flag.nargs == (None if action["nargs"] is None else str(action["nargs"])), flag.name
