"""safetensors headers: real files are read, and whatever is wrong with a file is told with its name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nexus_orch.errors import ConfigError
from nexus_orch.facts.model.safetensors_header import read_safetensors_header
from nexus_orch.types import TensorHeader
from tests.facts.model.model_files import TENSORS, make_file, make_safetensors


def test_reads_names_types_shapes_and_sizes(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    tensors = {"a.weight": ("BF16", (4, 3)), "a.scale": ("F32", ()), "a.empty": ("I32", (0, 5))}
    file.write_bytes(make_safetensors(tensors, metadata={"format": "pt"}))
    assert read_safetensors_header(file) == (
        TensorHeader("a.weight", "BF16", (4, 3), 24),
        TensorHeader("a.scale", "F32", (), 4),
        TensorHeader("a.empty", "I32", (0, 5), 0),
    )


def test_the_header_may_be_padded_with_blanks(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(make_file(b'{"x":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}   ', 2))
    assert [tensor.bytes for tensor in read_safetensors_header(file)] == [2]


def test_only_the_header_is_read(tmp_path: Path) -> None:
    """A sparse file of 5 GB is read like any other."""
    file = tmp_path / "model.safetensors"
    size = 5_000_000_000
    header = json.dumps({"x": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    with file.open("wb") as stream:
        stream.write(make_file(header))
        stream.truncate(8 + len(header) + size)
    assert read_safetensors_header(file)[0].bytes == size


def entry(**changes: object) -> bytes:
    good: dict[str, object] = {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}
    return json.dumps({"x": good | changes}).encode()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it has only 0 bytes"),
        (b"1234567", "it has only 7 bytes"),
        (b"\xff" * 8, "its header claims 18446744073709551615 bytes, the file has 8"),
        (make_safetensors(TENSORS)[:40], "its header claims"),
        (make_safetensors(TENSORS)[:-1], "it is cut off, only 511 of 512 bytes of tensors are there"),
        (make_safetensors(TENSORS) + b"x", "its header tells of 512 bytes of tensors, the file holds 513"),
        (make_file(b"{"), "its header is not JSON"),
        (make_file(b"\xff\xfe"), "its header is not JSON"),
        (make_file(b"[" * 100_000), "its header is not JSON"),
        (make_file(b"[1]"), "its header is not a JSON object"),
        (make_file(b'{"x": 5}'), "the entry of tensor 'x' is wrong"),
        (make_file(entry(data_offsets=[0, 5]), 4), "it is cut off, only 4 of 5 bytes of tensors are there"),
        (make_file(entry(data_offsets=[1, 5]), 4), "its header tells of 4 bytes of tensors, the file holds 4"),
        (make_file(entry(data_offsets=[4, 0]), 4), "the entry of tensor 'x' is wrong"),
        (make_file(entry(data_offsets=[-1, 3]), 4), "the entry of tensor 'x' is wrong"),
        (make_file(entry(data_offsets=[0]), 4), "the entry of tensor 'x' is wrong"),
        (make_file(entry(data_offsets=[0.0, 4.0]), 4), "the entry of tensor 'x' is wrong"),
        (make_file(entry(shape="4"), 4), "the entry of tensor 'x' is wrong"),
        (make_file(entry(shape=[True]), 4), "the entry of tensor 'x' is wrong"),
        (make_file(entry(dtype=None), 4), "the entry of tensor 'x' is wrong"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "it is a Git LFS pointer, not the weights"),
    ],
)
def test_a_damaged_file_is_told_with_its_name_and_a_remedy(tmp_path: Path, content: bytes, reason: str) -> None:
    file = tmp_path / "model-00001-of-00002.safetensors"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_safetensors_header(file)
    (problem,) = caught.value.problems
    assert problem.message.startswith(f"{file} is not a whole safetensors file: {reason}")
    assert problem.remedy is not None
    assert "download this file again" in problem.remedy


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_safetensors_header(tmp_path)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_safetensors_header(tmp_path / "gone.safetensors")


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=5), values, max_size=3),
    max_leaves=8,
)
ENTRIES = st.fixed_dictionaries(
    {"dtype": st.just("U8") | JSON_VALUES, "shape": JSON_VALUES, "data_offsets": JSON_VALUES}
)


@given(st.binary(max_size=64) | st.dictionaries(st.text(max_size=5), ENTRIES | JSON_VALUES, max_size=3))
@example(b"\x02\x00\x00\x00\x00\x00\x00\x00{}")
def test_no_content_raises_anything_but_a_config_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes | dict[str, object]
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.safetensors"
    for whole in (content, make_file(content)) if isinstance(content, bytes) else (make_file(_dump(content), 4),):
        file.write_bytes(whole)
        try:
            tensors = read_safetensors_header(file)
        except ConfigError as error:
            assert str(file) in error.problems[0].message
        else:
            assert sum(tensor.bytes for tensor in tensors) <= len(whole)


def _dump(header: dict[str, object]) -> bytes:
    return json.dumps(header).encode()
