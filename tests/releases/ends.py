"""The first and last known release and one that comes after it: tests that mean these need no change at a new one."""

from __future__ import annotations

from packaging.version import Version

from nexus_orch.releases.known import known_releases

OLDEST, NEWEST = known_releases()[0], known_releases()[-1]
NEXT = f"0.{Version(NEWEST).minor + 1}.0"
