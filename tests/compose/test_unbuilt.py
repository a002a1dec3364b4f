"""What nothing acts on yet is refused when it is asked for, with its origin, and only then."""

from __future__ import annotations

import pytest

from nexus_orch.compose.run import compose_run
from nexus_orch.compose.unbuilt import UNBUILT
from nexus_orch.errors import ConfigError

ASKED = {"hardware.nodes": "2"}


def test_every_unbuilt_key_is_tried_here() -> None:
    assert {unbuilt.key for unbuilt in UNBUILT} == ASKED.keys()


def test_all_of_them_are_told_at_once_with_their_origin() -> None:
    with pytest.raises(ConfigError) as caught:
        compose_run([f"{key}={value}" for key, value in ASKED.items()])
    assert {(problem.key, problem.origin) for problem in caught.value.problems} == {
        (key, "command line") for key in ASKED
    }


def test_values_that_ask_for_nothing_are_good() -> None:
    assert compose_run(["hardware.nodes=1"]).hardware.nodes == 1
