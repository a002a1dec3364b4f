"""The cache of options: kept while the sources are unchanged, rewritten whenever it cannot be trusted."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_orch.facts.engine.installed import read_sources
from nexus_orch.facts.options.cache import EngineSources, read_cached_sources, write_cached_sources
from nexus_orch.facts.options.record import parse_flag, render_flag
from nexus_orch.facts.options.source import read_flags
from nexus_orch.paths import cache_dir
from nexus_orch.types import Flag
from tests.engine.sources import write_package


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_package(tmp_path / "site-packages")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def cached(root: Path, cache: Path) -> EngineSources:
    flags, files = read_flags(root)
    sources = EngineSources(flags, frozenset({"LlamaForCausalLM", "OPTForCausalLM"}))
    write_cached_sources(root, cache, sources, files)
    return sources


def cache_file(cache: Path) -> Path:
    (file,) = (cache / "flags").iterdir()
    return file


def test_what_was_written_is_read_back_the_same(root: Path, cache: Path, cached: EngineSources) -> None:
    assert read_cached_sources(root, cache) == cached


def test_nothing_is_cached_at_first(root: Path, cache: Path) -> None:
    assert read_cached_sources(root, cache) is None


def test_a_changed_source_file_ends_the_cache(root: Path, cache: Path, cached: EngineSources) -> None:
    source = root / "engine" / "arg_utils.py"
    status = source.stat()
    source.write_bytes(source.read_bytes().replace(b"--quiet", b"--still"))
    os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert read_cached_sources(root, cache) is None


def test_a_removed_source_file_ends_the_cache(root: Path, cache: Path, cached: EngineSources) -> None:
    (root / "config" / "kinds.py").unlink()
    assert read_cached_sources(root, cache) is None


def test_a_file_that_was_not_read_does_not_matter(root: Path, cache: Path, cached: EngineSources) -> None:
    (root / "__init__.py").write_text("changed = True\n")
    assert read_cached_sources(root, cache) == cached


@pytest.mark.parametrize("cut", [0, 1, 100, -2])
def test_a_damaged_cache_does_not_count_and_is_rewritten(root: Path, cut: int) -> None:
    first, _ = read_sources(root, "0.32.0")
    file = cache_file(cache_dir())
    whole = file.read_bytes()
    file.write_bytes(whole[:cut])
    again, notes = read_sources(root, "0.32.0")
    assert (again, notes) == (first, ())
    assert file.read_bytes() == whole


@pytest.mark.parametrize("content", [[], {"reader": 1}, {"reader": 0, "root": "", "files": {}, "flags": {}}, "x", 7])
def test_other_content_does_not_count(root: Path, cache: Path, cached: EngineSources, content: object) -> None:
    cache_file(cache).write_text(json.dumps(content))
    assert read_cached_sources(root, cache) is None


def test_a_flag_of_another_shape_does_not_count(root: Path, cache: Path, cached: EngineSources) -> None:
    file = cache_file(cache)
    content = json.loads(file.read_bytes())
    content["flags"]["--port"] = {"kind": "value", "from_the_future": 1}
    file.write_text(json.dumps(content))
    assert read_cached_sources(root, cache) is None


def test_an_unwritable_cache_is_no_error(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    flags, files = read_flags(root)
    write_cached_sources(root, tmp_path / "file", EngineSources(flags, None), files)
    assert read_cached_sources(root, tmp_path / "file") is None


def test_two_engines_have_two_caches(root: Path, cache: Path, cached: EngineSources, tmp_path: Path) -> None:
    other = write_package(tmp_path / "other")
    assert read_cached_sources(other, cache) is None
    assert read_cached_sources(root, cache) == cached


texts = st.text(max_size=8)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts
values = scalars | st.lists(scalars, max_size=3) | st.dictionaries(texts, scalars, max_size=3)
flags = st.builds(
    Flag,
    name=st.just("--x"),
    kind=st.sampled_from(["value", "json", "store_true", "bool_optional", "append", "other"]),
    aliases=st.lists(texts, max_size=2).map(tuple),
    type=st.none() | texts,
    choices=st.lists(scalars, max_size=4).map(tuple),
    default=values,
    nargs=st.none() | texts,
    optional=st.booleans(),
    known_values=st.lists(scalars, max_size=4).map(tuple),
    default_text=st.none() | texts,
    group=st.none() | texts,
    help=texts,
)


@given(flags)
def test_every_flag_survives_json(flag: Flag) -> None:
    assert parse_flag("--x", json.loads(json.dumps(render_flag(flag)))) == flag
