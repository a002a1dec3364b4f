"""The Python that an environment is made with, and the one inside it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from packaging.specifiers import SpecifierSet

from nexus_orch.errors import ConfigError, Problem

_PROBE = "import json, platform, sys; print(json.dumps([platform.python_version(), sys.executable]))"
_PROBE_SECONDS = 30.0
_NEWEST_MINOR = 14
_OLDEST_MINOR = 10


@dataclass(frozen=True)
class Python:
    path: Path
    version: str


def venv_python(environment: Path) -> Path:
    """Where the interpreter of a virtual environment lies."""
    return environment / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def choose_base_python(wanted: str | None, requires_python: str | None) -> Python:
    """The interpreter to make an environment with: `wanted` (a path or a command), else the one that runs nexus_orch.

    Raises ConfigError when it does not run or is not of a version that the engine accepts.
    """
    python = read_python(sys.executable if wanted is None else wanted)
    if python is None:
        remedy = "give the path of a python executable"
        raise ConfigError(Problem("this Python does not run", "--python", wanted, "command line", remedy))
    if requires_python is None or SpecifierSet(requires_python).contains(python.version, prereleases=True):
        return python
    other = _find_python(SpecifierSet(requires_python))
    remedy = f"add --python {'PATH, a Python of that version' if other is None else other.path}"
    message = f"this engine needs Python {requires_python}, and this one is {python.version}"
    raise ConfigError(Problem(message, "--python", python.path, remedy=remedy))


def read_python(command: str) -> Python | None:
    """The version of an interpreter, asked of itself; None when it does not run."""
    found = shutil.which(command)
    if found is None:
        return None
    try:
        answer = subprocess.run(
            [found, "-I", "-c", _PROBE], capture_output=True, text=True, timeout=_PROBE_SECONDS, check=True
        )
        version, executable = json.loads(answer.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return Python(Path(executable), str(version))


def _find_python(versions: SpecifierSet) -> Python | None:
    """The newest suitable interpreter on the PATH, to be named in a remedy."""
    for minor in range(_NEWEST_MINOR, _OLDEST_MINOR - 1, -1):
        python = read_python(f"python3.{minor}")
        if python is not None and versions.contains(python.version, prereleases=True):
            return python
    return None
