"""One profile on many releases."""

from __future__ import annotations

from nexus_orch.adapt.check import check_profile
from nexus_orch.facts.engine import make_assumed_engine
from nexus_orch.facts.flags_catalogue import catalogue_releases
from tests.plugins.plans import plan_of, shipped_plugins


def test_the_releases_that_take_a_profile() -> None:
    engines = [make_assumed_engine(version) for version in catalogue_releases()]
    plan = plan_of({"memory.cpu_offload_gib": 4.0, "memory.offload_backend": "uva", "memory.enforce_eager": True})
    checks = check_profile(plan, shipped_plugins().adapters(), engines)
    assert [check.engine.version for check in checks if not check.is_accepted] == ["0.4.3"]
    assert {check.adapter for check in checks} == {"v0", "v1", "v2"}


def test_a_release_that_no_adapter_knows() -> None:
    adapters = {name: adapter for name, adapter in shipped_plugins().adapters().items() if name != "v2"}
    (check,) = check_profile(plan_of({}), adapters, [make_assumed_engine("0.33.0")])
    assert (check.adapter, check.rendering, check.is_accepted) == (None, None, False)
