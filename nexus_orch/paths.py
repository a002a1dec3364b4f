"""Where nexus_orch keeps what it writes: one data directory for each user, moved by NEXUS_HOME."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def home_dir() -> Path:
    """The data directory: `NEXUS_HOME`, else the platform's user data folder. It may not exist yet."""
    override = os.environ.get("NEXUS_HOME")
    if override:
        return Path(override).expanduser().absolute()
    return Path(platformdirs.user_data_dir("nexus_orch", appauthor=False))


def runs_dir() -> Path:
    """One folder for each run: `<home>/runs/<run id>/`."""
    return home_dir() / "runs"


def engines_dir() -> Path:
    """One folder for each engine environment: `<home>/engines/<name>/`."""
    return home_dir() / "engines"


def models_dir() -> Path:
    """One folder for each model that nexus_orch fetched itself: `<home>/models/<name>/`."""
    return home_dir() / "models"


def cache_dir() -> Path:
    """What can be computed again, such as the flags read from an engine's sources."""
    return home_dir() / "cache"
