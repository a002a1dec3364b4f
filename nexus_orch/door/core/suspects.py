"""Which requests were present when the engine died, and which one it was that killed it.

What kills the engine alone was there at each death. A request that was present at a death is marked, and at most one
marked request at a time is sent while nothing is known of it. So the next death has at most one that was present at
both and brought nothing forth at the second: one bad request costs two restarts.
"""

from __future__ import annotations

from collections import OrderedDict


class Suspects:
    """Deaths by the fingerprints of the requests that were present, and what is never sent again."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._ages: OrderedDict[str, float] = OrderedDict()
        """Of each marked request, how long it had been worked on when the engine died."""
        self._quarantined: OrderedDict[str, str] = OrderedDict()

    @property
    def has_marks(self) -> bool:
        return bool(self._ages)

    def is_marked(self, fingerprint: str) -> bool:
        return fingerprint in self._ages

    def age(self, fingerprint: str) -> float:
        """How long the marked request had been worked on at the death, in seconds."""
        return self._ages[fingerprint]

    def why_quarantined(self, fingerprint: str) -> str | None:
        return self._quarantined.get(fingerprint)

    @property
    def quarantined(self) -> int:
        return len(self._quarantined)

    def mark(self, fingerprint: str, age: float) -> None:
        """It was present at a death."""
        self._ages[fingerprint] = age
        self._ages.move_to_end(fingerprint)
        _shorten(self._ages, self._most)

    def clear(self, fingerprint: str) -> None:
        """It was answered, or worked on for long enough: it kills nothing."""
        self._ages.pop(fingerprint, None)

    def convict(self, fingerprint: str, reason: str) -> None:
        """Never send it again."""
        self.clear(fingerprint)
        self._quarantined[fingerprint] = reason
        _shorten(self._quarantined, self._most)


def _shorten(entries: OrderedDict[str, float] | OrderedDict[str, str], most: int) -> None:
    while len(entries) > most:
        entries.popitem(last=False)
