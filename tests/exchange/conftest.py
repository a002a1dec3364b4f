from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from nexus_orch.cli import main


@dataclass(frozen=True)
class Told:
    """What a command wrote, and its exit code."""

    rc: int
    out: str
    err: str


@pytest.fixture
def nexus(capsys: pytest.CaptureFixture[str]) -> Callable[..., Told]:
    """Run `nexus` with these words in this process."""

    def run(*words: str) -> Told:
        rc = main(words)
        said = capsys.readouterr()
        return Told(rc, said.out, said.err)

    return run
