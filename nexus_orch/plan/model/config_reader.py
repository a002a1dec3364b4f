"""Reads a config.json field by field and collects everything that is missing or wrong, instead of the first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nexus_orch.errors import Problem

LARGEST = 1_000_000_000
"""No count or size in a model's configuration is larger; a larger one is a mistake."""


class ConfigReader:
    """A view of one mapping. Every getter returns a usable value; what was wrong is added to `problems`."""

    def __init__(self, config: Mapping[str, Any], prefix: str = "", problems: list[Problem] | None = None) -> None:
        self.config = config
        self.prefix = prefix
        self.problems: list[Problem] = [] if problems is None else problems

    def integer(
        self, key: str, *others: str, default: int | None = None, minimum: int = 1, maximum: int = LARGEST
    ) -> int:
        """A whole number under `key` or one of its other names. A missing one without default is a problem."""
        for name in (key, *others):
            value = self.config.get(name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int):
                return self._wrong(name, value, "must be a whole number", default)
            if not minimum <= value <= maximum:
                return self._wrong(name, value, f"must lie between {minimum} and {maximum}", default)
            return value
        if default is None:
            self._missing(key, others)
            return 1
        return default

    def optional_integer(self, key: str, *others: str, minimum: int = 1) -> int | None:
        """A whole number, or None where the key is missing or null."""
        if all(self.config.get(name) is None for name in (key, *others)):
            return None
        return self.integer(key, *others, minimum=minimum)

    def flag(self, key: str, default: bool) -> bool:
        value = self.config.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            self._wrong(key, value, "must be true or false", None)
            return default
        return value

    def text(self, key: str, *others: str) -> str | None:
        for name in (key, *others):
            value = self.config.get(name)
            if value is None:
                continue
            if not isinstance(value, str):
                self._wrong(name, value, "must be text", None)
                return None
            return value
        return None

    def sequence(self, key: str, length: int | None = None) -> tuple[Any, ...] | None:
        """A list, checked for its length where that is known; None where it is missing or wrong."""
        value = self.config.get(key)
        if value is None:
            return None
        if not isinstance(value, list | tuple):
            self._wrong(key, value, "must be a list", None)
            return None
        if length is not None and len(value) != length:
            self._wrong(key, f"{len(value)} entries", f"must have {length} entries, one for each layer", None)
            return None
        return tuple(value)

    def section(self, key: str) -> ConfigReader | None:
        """A nested mapping such as text_config, sharing this reader's problems."""
        value = self.config.get(key)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            self._wrong(key, value, "must be a mapping", None)
            return None
        return ConfigReader(value, f"{self.prefix}{key}.", self.problems)

    def wrong(self, key: str, value: object, what: str) -> None:
        """Note a problem that only the caller can see."""
        self._wrong(key, value, what, None)

    def _wrong(self, key: str, value: object, what: str, default: int | None) -> int:
        shown = repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:57]}..."
        self.problems.append(
            Problem(
                f"the model's config has {self.prefix}{key} = {shown}, which {what}",
                key=f"model.config.{self.prefix}{key}",
                value=shown,
                remedy="correct config.json, or give the architecture under model.config",
            )
        )
        return 1 if default is None else default

    def _missing(self, key: str, others: tuple[str, ...]) -> None:
        also = f" (or {', '.join(others)})" if others else ""
        self.problems.append(
            Problem(
                f"the model's config lacks {self.prefix}{key}{also}",
                key=f"model.config.{self.prefix}{key}",
                remedy="add it to config.json, or give the architecture under model.config",
            )
        )
