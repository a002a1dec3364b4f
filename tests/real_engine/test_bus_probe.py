"""The probe of the bus, run by the Python of a real engine that has no CUDA."""

from __future__ import annotations

import pytest

from nexus_orch.bus.measure import measure_bus
from nexus_orch.errors import LaunchError
from tests.plan.cases import make_gpu
from tests.real_engine.conftest import Home

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]


def test_an_engine_without_cuda_says_so(real_home: Home) -> None:
    python = next(engine.python for engine in real_home.engines if engine.device == "cpu" and engine.python)
    with pytest.raises(LaunchError, match=rf"could not be measured: PyTorch [\w.+]+ of {python} sees no card"):
        measure_bus(str(python), [make_gpu()], lambda _: None)
