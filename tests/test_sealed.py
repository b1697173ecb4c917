"""What was sealed comes back as it was, or is refused by name."""

import errno
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxmtl import sealed

ARRAYS = {
    "state.net['shared']": np.arange(6, dtype=np.float32).reshape(2, 3),
    "losses/click": np.zeros(0, np.float32),
    "step": np.asarray(7, np.int32),
    "mask": np.array([True, False]),
}


def test_arrays_come_back_with_their_names_types_and_shapes(tmp_path):
    sealed.write(tmp_path / "1", ARRAYS)
    found = sealed.read(tmp_path / "1")
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes()


@given(
    name=st.sampled_from([sealed.ARRAYS, sealed.SEAL]),
    damage=st.sampled_from(["flip", "truncate", "empty", "lengthen"]),
    at=st.floats(0, 0.999),
)
@settings(max_examples=60, deadline=None)
def test_no_damage_to_a_file_passes(tmp_path_factory, name, damage, at):
    folder = tmp_path_factory.mktemp("sealed") / "1"
    sealed.write(folder, ARRAYS)
    content = bytearray((folder / name).read_bytes())
    place = int(at * len(content))
    if damage == "flip":
        content[place] ^= 1
    content = {
        "truncate": content[:place],
        "empty": b"",
        "lengthen": content + b"x",
    }.get(damage, content)
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=str(folder)):
        sealed.read(folder)


@pytest.mark.parametrize("name", [sealed.ARRAYS, sealed.SEAL])
def test_a_file_that_is_missing_is_named(tmp_path, name):
    sealed.write(tmp_path / "1", ARRAYS)
    (tmp_path / "1" / name).unlink()
    with pytest.raises(ValueError, match=name):
        sealed.read(tmp_path / "1")


@pytest.mark.parametrize("writes", [1, 2])
def test_a_disk_that_fills_up_leaves_nothing(tmp_path, monkeypatch, writes):
    """At the first file or at the second."""
    left = iter([None] * (writes - 1))

    def full(descriptor):
        if next(left, "full") == "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        sealed.write(tmp_path / "1", ARRAYS)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_attempt_left_is_replaced(tmp_path):
    (tmp_path / ".1").mkdir()
    (tmp_path / ".1" / sealed.ARRAYS).write_bytes(b"half of it")
    sealed.write(tmp_path / "1", ARRAYS)
    assert [path.name for path in tmp_path.iterdir()] == ["1"]
    sealed.read(tmp_path / "1")
