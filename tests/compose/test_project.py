"""The user's project: which one is meant, and what is said about one that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from nexus_orch.compose.project import check_conf_dirs, find_project, split_project
from nexus_orch.errors import ConfigError, Problem
from tests.compose.conftest import Project


@pytest.mark.parametrize(
    ("argv", "project", "rest"),
    [
        (["a=1", "b=2"], None, ["a=1", "b=2"]),
        (["--project", "lab", "a=1"], Path("lab"), ["a=1"]),
        (["a=1", "--project=lab", "-m"], Path("lab"), ["a=1", "-m"]),
        (["--project=lab", "a=1", "--project", "other"], Path("other"), ["a=1"]),
    ],
)
def test_the_option_is_taken_out_wherever_it_stands(argv: list[str], project: Path | None, rest: list[str]) -> None:
    assert split_project(argv) == (project, rest)


@pytest.mark.parametrize("argv", [["--project"], ["--project="]])
def test_the_option_needs_a_folder(argv: list[str]) -> None:
    with pytest.raises(ConfigError, match="--project needs a folder"):
        split_project(argv)


def _refused(project: Path) -> Problem:
    with pytest.raises(ConfigError) as caught:
        find_project(project)
    return caught.value.problems[0]


def test_a_folder_that_is_not_there(project: Project) -> None:
    problem = _refused(Path("nosuch"))
    assert problem.message == "cannot read the project folder: No such file or directory"
    assert (problem.key, problem.value, problem.origin) == ("--project", Path("nosuch"), "command line")
    assert problem.remedy == "name a folder that holds conf/, or leave --project away"


def test_a_file_in_place_of_a_folder(project: Project) -> None:
    file = project.write("config.txt", "x")
    assert _refused(file).message == "cannot read the project folder: Not a directory"


def test_a_folder_that_cannot_be_entered(project: Project) -> None:
    Path("loop").symlink_to("loop")
    assert _refused(Path("loop")).message == "cannot read the project folder: Too many levels of symbolic links"


def test_a_folder_without_conf(project: Project) -> None:
    problem = _refused(project.root.parent)
    assert problem.message == "the project has no conf folder"
    assert problem.remedy is not None
    assert "conf/hardware/mine.yaml" in problem.remedy


def test_a_file_in_place_of_conf(project: Project) -> None:
    Path("conf").write_text("x")
    assert _refused(Path()).message == "the project's conf folder cannot be read: Not a directory"


def test_the_environment_names_the_project(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_project() is None
    monkeypatch.setenv("NEXUS_PROJECT", "lab")
    assert find_project() == project.root.resolve()
    with pytest.raises(ConfigError):
        find_project(Path("nosuch"))
    monkeypatch.setenv("NEXUS_PROJECT", "nosuch")
    with pytest.raises(ConfigError) as caught:
        find_project()
    assert (caught.value.problems[0].key, caught.value.problems[0].origin) == ("NEXUS_PROJECT", "environment")


def test_folders_of_plugins_must_exist(project: Project) -> None:
    assert check_conf_dirs([project.root]) == (project.root.resolve(),)
    with pytest.raises(ConfigError) as caught:
        check_conf_dirs([Path("one"), project.root, Path("two")])
    assert [problem.value for problem in caught.value.problems] == [Path("one"), Path("two")]
