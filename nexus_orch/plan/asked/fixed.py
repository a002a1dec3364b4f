"""What is fixed before the planner begins: values that the user pinned and settings that earlier launches taught."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nexus_orch.types import Choice, Lesson, RunSpec

SETTING_SECTIONS = ("model", "memory", "serve")
"""A lesson whose key begins with one of these teaches a setting; all others teach a quantity or a fact."""

COMMAND_LINE = "command line"
"""The origin of an override (nexus_orch.compose.origins)."""
AUTOMATIC_KEYS = (
    "model.dtype",
    "memory.strategy",
    "memory.offload_backend",
    "memory.kv_cache.dtype",
)
"""Settings whose value "auto" means the same as null: the planner decides."""


class FixedSettings:
    """The spec with the learned settings in the places that the user left open. A pinned value is never replaced."""

    def __init__(self, spec: RunSpec, lessons: Sequence[Lesson] = ()) -> None:
        self.lessons = {lesson.key: lesson for lesson in lessons}
        self._learned: set[str] = set()
        self.original = spec
        effective = spec
        for key in AUTOMATIC_KEYS:
            if effective.get(key) == "auto":
                effective = effective.with_value(key, None)
        for key, lesson in self.lessons.items():
            if key.split(".")[0] in SETTING_SECTIONS and _is_open(effective, key):
                effective = effective.with_value(key, lesson.value)
                self._learned.add(key)
        self.spec = effective

    def by_estimates(self) -> FixedSettings:
        """The same settings without measured sizes: those hold for one parallelism and one batch."""
        kept = tuple(lesson for key, lesson in self.lessons.items() if not key.startswith("measured."))
        return self if len(kept) == len(self.lessons) else FixedSettings(self.original, kept)

    def quantity(self, key: str) -> int | None:
        """A measured number of bytes, or None when nothing was measured."""
        lesson = self.lessons.get(key)
        return int(lesson.value) if lesson is not None and isinstance(lesson.value, int | float) else None

    def has(self, key: str) -> bool:
        return self.spec.get(key) is not None

    def choice(self, key: str, derived: Any, reason: str) -> Choice:
        """The pinned or learned value where there is one, else the derived one with its reason."""
        value = self.spec.get(key)
        if value is None:
            return Choice(key, derived, "derived", reason)
        if key in self._learned:
            return Choice(key, value, "learned", self.lessons[key].source)
        return pinned_choice(self.spec, key)

    def attributed(self, choice: Choice) -> Choice:
        """A loader's choice with its true origin: a loader cannot tell a learned setting from a pinned one."""
        if choice.key not in self._learned or choice.origin != "pinned":
            return choice
        return Choice(choice.key, choice.value, "learned", self.lessons[choice.key].source)

    def problem_origin(self, key: str) -> str | None:
        return self.spec.origin(key)


def pinned_choice(spec: RunSpec, key: str) -> Choice:
    """The choice of a value that the user has set, with the place where he did."""
    origin = spec.origin(key)
    where = "by the user" if origin is None else "on the command line" if origin == COMMAND_LINE else f"in {origin}"
    return Choice(key, spec.get(key), "pinned", f"set {where}")


def _is_open(spec: RunSpec, key: str) -> bool:
    try:
        return spec.get(key) is None
    except AttributeError:
        return False
