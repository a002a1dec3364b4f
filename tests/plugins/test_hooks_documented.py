"""Every hook is documented with its exact signature, and a shipped plugin uses it."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from nexus_orch import hookspecs, shipped

HOOKS = [function for name, function in vars(hookspecs).items() if name.startswith("nexus_")]
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "hooks.md"


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: str(hook.__name__))
def test_the_documents_show_the_exact_signature(hook: object) -> None:
    assert inspect.isfunction(hook)
    heading = f"### `{hook.__name__}{inspect.signature(hook)}`".replace("'", "")
    assert heading in DOCUMENT.read_text()


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: str(hook.__name__))
def test_the_first_sentence_is_the_same_in_both_places(hook: object) -> None:
    sentence = " ".join((inspect.getdoc(hook) or "").split(". ")[0].split()).rstrip(".")
    assert sentence.startswith("Return ")
    assert sentence.partition(" (")[0] in " ".join(DOCUMENT.read_text().split())


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: str(hook.__name__))
def test_a_shipped_plugin_uses_it(hook: object) -> None:
    assert inspect.isfunction(hook)
    assert any(f"def {hook.__name__}(" in path.read_text() for path in shipped.plugins_dir().glob("*.py"))
