"""One fact about the releases of vLLM: which of them do a thing, and where that was read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from nexus_orch.releases.known import parse_release


@dataclass(frozen=True)
class Fact:
    """Some releases of vLLM do what the sentence `what` says: those from `since` on and before `before`.

    A bound is the first release on the package index whose sources show the change; `source` names the file, inside
    the package `vllm`, and what to look for in it. A fact is asked like a function: `prefetches("0.28.0")`.
    """

    what: str
    since: str | None = None
    before: str | None = None
    source: str = ""

    def __call__(self, version: str) -> bool:
        """Whether the release that this version belongs to does it."""
        return _is_between(version, self.since, self.before)

    @property
    def earlier(self) -> Fact:
        """The releases that do not do it yet."""
        return Fact(f"not yet: {self.what}", before=self.since, source=self.source)

    @property
    def specifier(self) -> SpecifierSet:
        """The releases as a specifier."""
        bounds = [f">={self.since}" if self.since else "", f"<{self.before}" if self.before else ""]
        return SpecifierSet(",".join(filter(None, bounds)))

    @property
    def span(self) -> str:
        """The releases in words: "0.17.0 and later", "before 0.8.0", "0.17.0 to before 0.28.0"."""
        if self.before is None:
            return f"{self.since} and later" if self.since else "every release"
        return f"{self.since} to before {self.before}" if self.since else f"before {self.before}"


@cache
def _is_between(version: str, since: str | None, before: str | None) -> bool:
    release = parse_release(version)
    return (since is None or release >= Version(since)) and (before is None or release < Version(before))
