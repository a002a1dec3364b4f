"""What PyTorch's allocators are told: where it is sound, where the engine keeps it, and what the user says of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nexus_orch.adapt.allocator import IN_PARALLEL, VARIABLE, guard_allocator
from nexus_orch.facts.engine.installed import make_assumed_engine
from nexus_orch.plan.release.pinning import EXACTLY, EXPANDABLE
from tests.plugins.plans import plan_of, render

OFFLOAD = {"memory.cpu_offload_gib": 4.5}
PREFETCH = {
    "memory.offload_backend": "prefetch",
    "memory.prefetch.group_size": 8,
    "memory.prefetch.num_in_group": 2,
    "memory.prefetch.step": 1,
}


def told(settings: dict[str, Any], version: str, **given: Any) -> str | None:
    """The variable's value; it is explained where it is set."""
    rendering = render(plan_of(settings, "derived", **given), version)
    assert rendering.problems == ()
    explained = [choice for choice in rendering.choices if choice.key == f"engine.env.{VARIABLE}"]
    assert [choice.value for choice in explained] == ([rendering.env[VARIABLE]] if VARIABLE in rendering.env else [])
    return rendering.env.get(VARIABLE)


@pytest.mark.parametrize(
    ("version", "read_in_place", "copied_ahead"),
    [
        ("0.7.3", None, None),
        ("0.8.5.post1", EXPANDABLE, None),
        ("0.19.1", EXPANDABLE, f"{EXPANDABLE},{IN_PARALLEL}"),
        ("0.25.1", None, IN_PARALLEL),
        ("0.30.0", None, IN_PARALLEL),
        ("0.31.0", f"{EXPANDABLE},{EXACTLY}", f"{EXPANDABLE},{IN_PARALLEL},{EXACTLY}"),
        ("0.33.0", f"{EXPANDABLE},{EXACTLY}", f"{EXPANDABLE},{IN_PARALLEL},{EXACTLY}"),
    ],
)
def test_what_each_release_is_told(version: str, read_in_place: str | None, copied_ahead: str | None) -> None:
    assert told(OFFLOAD, version) == read_in_place
    if version not in ("0.7.3", "0.8.5.post1"):
        assert told(PREFETCH, version) == copied_ahead


def test_nothing_is_told_where_no_weights_leave_the_card() -> None:
    assert told({}, "0.33.0") is None


@pytest.mark.parametrize(
    ("settings", "extra_args"),
    [
        (OFFLOAD | {"serve.tensor_parallel": 2}, []),
        (OFFLOAD | {"memory.kv_offload_gib": 8}, []),
        (OFFLOAD, ["--enable-sleep-mode"]),
        (OFFLOAD, ["--kv-transfer-config", '{"kv_connector": "X"}']),
        (OFFLOAD, ["--data-parallel-size=2"]),
        (OFFLOAD, ["-dp", "2"]),
    ],
)
def test_no_expandable_segments_where_they_are_not_sound(settings: dict[str, Any], extra_args: list[str]) -> None:
    assert told(settings, "0.33.0", extra_args=extra_args) == EXACTLY


def test_under_wsl_no_memory_is_registered_or_grown() -> None:
    assert told(PREFETCH | {"memory.pin_host": True}, "0.33.0") == EXACTLY


def test_layers_that_extra_arguments_copy_ahead_are_pinned_in_parallel() -> None:
    assert told({}, "0.25.1", extra_args=["--offload-group-size", "8"]) == IN_PARALLEL


@pytest.mark.parametrize(
    ("torch", "exact"),
    [
        (None, False),
        ("2.12.1", False),
        ("2.13.0.dev20260601", False),
        ("2.13.0a0+git12", False),
        ("2.13.0", True),
        ("2.13.0+cu130", True),
        ("2.14.0", True),
    ],
)
def test_the_torch_that_is_installed_decides(torch: str | None, exact: bool) -> None:
    """torch refuses an option that it does not know, and an engine would not start."""
    engine = replace(make_assumed_engine("0.33.0"), source="installed", torch=torch)
    value = guard_allocator(plan_of(OFFLOAD, "derived"), engine).env[VARIABLE]
    assert (EXACTLY in value) is exact


@pytest.mark.parametrize("name", [VARIABLE, "PYTORCH_ALLOC_CONF"])
def test_the_users_allocator_settings_stand(name: str) -> None:
    assert VARIABLE not in render(plan_of(OFFLOAD, env={name: "max_split_size_mb:128"}), "0.33.0").env


@pytest.mark.parametrize(("version", "refused"), [("0.19.1", False), ("0.22.1", True), ("0.33.0", True)])
def test_expandable_segments_of_the_user_beside_kv_offload(version: str, refused: bool) -> None:
    plan = plan_of({"memory.kv_offload_gib": 8}, env={VARIABLE: "expandable_segments:True"})
    found = [problem.key for problem in render(plan, version).problems]
    assert found == ([f"engine.env.{VARIABLE}"] if refused else [])
    assert render(plan_of({}, env={VARIABLE: "expandable_segments:True"}), version).problems == ()
