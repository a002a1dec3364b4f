"""Plugins are found, loaded, blocked and traced; a broken one is told in one message with file, line and remedy."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import pytest

from nexus_orch.errors import PluginError
from nexus_orch.plugin_manager import find_entry_points, find_files, load_plugins

LOADER = """
    from nexus_orch import hookimpl
    from nexus_orch.contracts import Loader


    class Mine(Loader):
        name = "mine"

        def supports(self, spec, facts):
            return None

        def offer(self, needs, spec, facts):
            raise AssertionError('nobody offers anything here')


    @hookimpl
    def nexus_loaders():
        return [Mine()]
"""


def write_plugin(project: Path, name: str, text: str) -> Path:
    path = project / "plugins" / f"{name}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))
    return path


@pytest.fixture(autouse=True)
def no_switches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEXUS_BLOCK_PLUGINS", raising=False)
    monkeypatch.delenv("NEXUS_TRACE", raising=False)


def test_the_shipped_plugins() -> None:
    plugins = load_plugins()
    assert {"hybrid", "vram_only"} <= plugins.loaders().keys()
    assert list(plugins.adapters()) == ["v0", "v1", "v2"]
    assert list(plugins.engines()) == ["local"]
    assert all(Path(place).is_file() for place in plugins.places.values())


def test_a_plugin_of_the_named_project(tmp_path: Path) -> None:
    write_plugin(tmp_path, "loader_mine", LOADER)
    assert "mine" in load_plugins(tmp_path).loaders()
    assert "mine" not in load_plugins().loaders()


def test_a_project_in_the_working_directory_is_not_loaded_unnamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_plugin(tmp_path, "loader_mine", LOADER)
    monkeypatch.chdir(tmp_path)
    assert "mine" not in load_plugins().loaders()


def test_a_project_without_plugins(tmp_path: Path) -> None:
    assert load_plugins(tmp_path).places.keys() == load_plugins().places.keys()


def test_files_with_an_underscore_are_no_plugins(tmp_path: Path) -> None:
    write_plugin(tmp_path, "_shared", "raise RuntimeError('not a plugin')")
    assert "_shared" not in load_plugins(tmp_path).places


def test_a_plugin_can_take_the_place_of_a_blocked_built_in_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_plugin(tmp_path, "loader_hybrid", LOADER.replace('"mine"', '"hybrid"'))
    monkeypatch.setenv("NEXUS_BLOCK_PLUGINS", "loader_hybrid")
    assert "hybrid" not in load_plugins().loaders()
    write_plugin(tmp_path, "loader_mine", LOADER.replace('"mine"', '"hybrid"'))
    assert type(load_plugins(tmp_path).loaders()["hybrid"]).__name__ == "Mine"


def test_blocking_an_unknown_plugin_names_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEXUS_BLOCK_PLUGINS", "loader_hybrd")
    with pytest.raises(PluginError, match=r"(?s)no such plugin.*did you mean loader_hybrid\?"):
        load_plugins()


BROKEN = [
    ("raise_error", "x = 1\nraise RuntimeError('out of luck')\n", "RuntimeError: out of luck", "line 2"),
    ("syntax", "def broken(:\n    pass\n", "SyntaxError", "line 1"),
    ("missing", "\nimport no_such_module_here\n", "No module named 'no_such_module_here'", "line 2"),
    ("deep", "def fail():\n    return 1 / 0\n\n\nfail()\n", "ZeroDivisionError: division by zero", "line 2"),
    (
        "misspelt",
        "from nexus_orch import hookimpl\n\n\n@hookimpl\ndef nexus_loader():\n    return []\n",
        "unknown hook 'nexus_loader'",
        "line 4",
    ),
    ("unmarked", "def nexus_loaders():\n    return []\n", "not marked as a hook", "line 1"),
    (
        "arguments",
        "from nexus_orch import hookimpl\n\n\n@hookimpl\ndef nexus_loaders(spec):\n    return []\n",
        "spec",
        "arguments.py",
    ),
    ("leaves", "import sys\nsys.exit(3)\n", "SystemExit: 3", "line 2"),
]


@pytest.mark.parametrize(("name", "text", "message", "place"), BROKEN)
def test_a_broken_plugin_is_told_with_place_and_remedy(
    tmp_path: Path, name: str, text: str, message: str, place: str
) -> None:
    path = write_plugin(tmp_path, name, text)
    with pytest.raises(PluginError) as caught:
        load_plugins(tmp_path)
    (problem,) = caught.value.problems
    assert f"plugin '{name}'" in problem.message and message in problem.message
    assert str(path) in str(caught.value) and place in str(caught.value)
    assert problem.remedy
    assert f"nexus_plugins.{name}" not in sys.modules or name in ("misspelt", "unmarked", "arguments")


def test_all_broken_plugins_are_told_at_once(tmp_path: Path) -> None:
    for name, text, *_ in BROKEN:
        write_plugin(tmp_path, name, text)
    with pytest.raises(PluginError) as caught:
        load_plugins(tmp_path)
    assert len(caught.value.problems) == len(BROKEN)


def test_the_remedy_for_a_misspelt_hook_is_the_nearest_one(tmp_path: Path) -> None:
    write_plugin(tmp_path, *BROKEN[4][:2])
    with pytest.raises(PluginError, match=r"did you mean nexus_loaders\?"):
        load_plugins(tmp_path)


def test_a_name_used_twice_is_told_with_both_places(tmp_path: Path) -> None:
    path = write_plugin(tmp_path, "loader_hybrid", LOADER)
    with pytest.raises(PluginError, match="two plugins are called 'loader_hybrid'") as caught:
        load_plugins(tmp_path)
    assert str(path) in str(caught.value)


def test_two_plugins_that_offer_one_name(tmp_path: Path) -> None:
    write_plugin(tmp_path, "loader_mine", LOADER)
    write_plugin(tmp_path, "loader_yours", LOADER)
    with pytest.raises(PluginError, match="plugins 'loader_mine' and 'loader_yours' both offer 'mine'"):
        load_plugins(tmp_path).loaders()


@pytest.mark.parametrize("returned", ["[object()]", "None", "7", "['mine']", "(Mine,)[0].name"])
def test_an_offer_of_another_kind(tmp_path: Path, returned: str) -> None:
    write_plugin(tmp_path, "odd", LOADER.replace("[Mine()]", returned))
    with pytest.raises(PluginError, match=r"plugin 'odd' returned .* has no"):
        load_plugins(tmp_path).loaders()


def test_a_hook_that_fails(tmp_path: Path) -> None:
    path = write_plugin(tmp_path, "failing", LOADER.replace("return [Mine()]", "raise KeyError('lost')"))
    with pytest.raises(PluginError, match=r"plugin 'failing' fails in nexus_loaders: KeyError: 'lost'") as caught:
        load_plugins(tmp_path).loaders()
    assert f"{path}, line" in str(caught.value)


def test_an_entry_point_of_an_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "their_package.py").write_text(textwrap.dedent(LOADER))
    info = tmp_path / "their_package-1.0.dist-info"
    info.mkdir()
    text = "[console_scripts]\nx = y:z\n\n[nexus_orch]\n# a comment\ntheirs = their_package\n"
    (info / "entry_points.txt").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        plugins = load_plugins()
        assert plugins.places["theirs"] == "their_package"
        assert "mine" in plugins.loaders()
    finally:
        sys.modules.pop("their_package", None)


def test_entry_points_of_other_groups_and_folders_that_are_none(tmp_path: Path) -> None:
    info = tmp_path / "other-1.0.dist-info"
    info.mkdir()
    (info / "entry_points.txt").write_text("[other]\nx = y\n[nexus_orch.more]\na = b\n")
    assert find_entry_points([str(tmp_path), str(tmp_path / "missing"), str(info / "entry_points.txt")]) == []
    assert find_files(tmp_path / "missing") == []


def test_the_trace_shows_each_call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    load_plugins().adapters()
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("NEXUS_TRACE", "1")
    load_plugins().loaders()
    assert capsys.readouterr().err.splitlines() == [
        "trace: nexus_loaders() of loader_hybrid offers hybrid",
        "trace: nexus_loaders() of loader_vram_only offers vram_only",
    ]
