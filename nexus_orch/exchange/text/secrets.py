"""What of a foreign command must not be written down, and where it goes instead."""

from __future__ import annotations

import re
from collections.abc import Sequence

from nexus_orch.exchange.start import Note, reference_of

API_KEY_OPTION = "--api-key"
API_KEY_VARIABLE = "VLLM_API_KEY"
DEFAULT_API_KEY_ENV = "NEXUS_API_KEY"
"""The variable that the shipped profile serve=network takes the key from."""

_SECRET_OPTION = re.compile(r"-(key|token|secret|password)$")


def is_secret_option(name: str) -> bool:
    """Whether an option of this name is given a secret."""
    return _SECRET_OPTION.search(name) is not None


def choose_api_key_env(values: Sequence[str]) -> tuple[str, list[Note]]:
    """The variable that holds the key from now on, and what the user must know. The key itself is in neither."""
    named = reference_of(values[0]) if values else None
    variable = named or DEFAULT_API_KEY_ENV
    text = f"the API key was not written down: export {variable}=... before the start (serve.api_key_env)"
    if named is not None:
        text = f"the API key comes from the variable {named} (serve.api_key_env)"
    notes = [Note("secret", text)]
    if len(values) > 1:
        notes.append(Note("left out", f"{len(values) - 1} more API keys: a run has one"))
    return variable, notes


def explain_secret_variable(name: str, value: str) -> Note:
    """A secret in the environment is inherited, not written down."""
    if reference_of(value) is not None:
        return Note("secret", f"{name} is taken from the environment that the run is started from, as before")
    return Note("secret", f"{name} was not written down: export {name}=... before the start; vLLM inherits it")
