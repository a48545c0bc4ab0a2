"""Files are whole or absent, and a block says what made it."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodline.errors import FloodlineError
from floodline.manifest import (
    DamagedBlock,
    hash_of,
    read_block,
    read_json,
    write_atomically,
    write_block,
    write_json,
    write_once,
)

CUBE = np.arange(24, dtype=np.int32).reshape(2, 3, 4)
ARRAYS = {
    "a": CUBE,
    "b": np.array([], dtype=np.float32),
    "a window, turned": CUBE[:, 1:, ::2].T,
    "a number": np.array(7),
    "words": np.array(["one", "three"]),
    "no slices": np.zeros((0, 3, 2)),
}


def test_a_block_comes_back_as_it_was_written(tmp_path):
    path = tmp_path / "deep" / "x.block"
    write_block(path, "p", ARRAYS)
    block = read_block(path, "p")
    assert block is not None
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(block[name], array)
        assert block[name].dtype == array.dtype


def test_the_same_arrays_are_the_same_bytes(tmp_path):
    for name in "xy":
        write_block(tmp_path / name, "p", ARRAYS)
    assert (tmp_path / "x").read_bytes() == (tmp_path / "y").read_bytes()


def test_absent_blocks_and_those_of_other_parameters_are_not_taken(tmp_path):
    assert read_block(tmp_path / "none", "p") is None
    write_block(tmp_path / "x", "p", ARRAYS)
    assert read_block(tmp_path / "x", "q") is None
    assert read_block(tmp_path / "x") is not None


@given(st.data())
def test_any_flipped_byte_or_cut_is_recognised(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("block") / "x"
    write_block(path, "p", ARRAYS)
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[place] ^= data.draw(st.integers(1, 255))
    else:
        del content[place:]
    path.write_bytes(content)
    # A flipped byte in the name of the parameters makes it a block of other parameters, which is not taken either.
    try:
        assert read_block(path, "p") is None
    except DamagedBlock as error:
        assert str(path) in str(error)


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, 1)

    def fail(file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(FloodlineError, match="No space left on device"):
        write_atomically(path, fail)
    assert [file.name for file in tmp_path.iterdir()] == ["x.json"]
    assert read_json(path) == 1


def test_a_missing_or_broken_manifest_is_one_sentence(tmp_path):
    with pytest.raises(FloodlineError, match="is missing"):
        read_json(tmp_path / "none.json")
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(FloodlineError, match="not valid JSON"):
        read_json(tmp_path / "x.json")


def test_hashes_do_not_depend_on_the_order_of_keys():
    assert hash_of({"a": 1, "b": 2}) == hash_of({"b": 2, "a": 1}) != hash_of({"a": 2, "b": 1})


@pytest.mark.parametrize("links", [True, False])
def test_of_several_that_write_once_the_first_stays(tmp_path, monkeypatch, links):
    """Also on a file system without hard links."""

    def refuse(*_: object) -> None:
        raise PermissionError("no links here")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    for value in ("first", "second"):
        write_once(tmp_path / "x.json", value)
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]
    assert read_json(tmp_path / "x.json") == "first"
