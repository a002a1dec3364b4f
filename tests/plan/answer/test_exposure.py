"""Whether a plan says who can reach the server."""

from __future__ import annotations

import pytest

from nexus_orch.plan.answer.exposure import exposure_notes
from nexus_orch.types import ServeSpec


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost", "::1", "[::1]"])
def test_this_machine_alone_needs_no_word(host: str) -> None:
    assert list(exposure_notes(ServeSpec(host=host))) == []


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "gpu-box"])
def test_an_open_server_is_told(host: str) -> None:
    (open_to_all,) = exposure_notes(ServeSpec(host=host))
    assert host in open_to_all and "no API key stops anybody" in open_to_all
    (with_key,) = exposure_notes(ServeSpec(host=host, api_key_env="KEY"))
    assert "the key of KEY" in with_key
