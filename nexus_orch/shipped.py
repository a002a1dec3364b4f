"""Where the profiles and plugins that travel with nexus_orch lie: inside the wheel, else in the repository root."""

from __future__ import annotations

from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


@cache
def shipped_dir() -> Path:
    """The folder that holds `conf/` and `plugins/`. Raises FileNotFoundError when the installation is incomplete."""
    for candidate in (_PACKAGE / "_shipped", _PACKAGE.parent):
        if (candidate / "conf" / "config.yaml").is_file():
            return candidate
    raise FileNotFoundError(f"no conf/config.yaml beside {_PACKAGE}: the installation of nexus_orch is incomplete")


def conf_dir() -> Path:
    """The shipped `conf/` folder."""
    return shipped_dir() / "conf"


def plugins_dir() -> Path:
    """The shipped `plugins/` folder."""
    return shipped_dir() / "plugins"
