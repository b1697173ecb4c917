"""What identifies a prepared log: its settings, its files and the code that reads."""

import os

import pytest

from experiments import sources


@pytest.fixture
def long_file(tmp_path, monkeypatch):
    """A file that is not read whole, of a hundred bytes."""
    monkeypatch.setattr(sources, "WHOLE", 64)
    path = tmp_path / "log.csv"
    path.write_bytes(b"a" * 100)
    return path


def test_a_long_file_edited_in_its_middle_is_another(long_file):
    before = sources._checksum(long_file)
    when = long_file.stat().st_mtime_ns
    long_file.write_bytes(b"a" * 50 + b"b" + b"a" * 49)
    os.utime(long_file, ns=(when, when + 1))
    assert sources._checksum(long_file) != before


def test_a_long_file_left_alone_stays_the_same(long_file):
    assert sources._checksum(long_file) == sources._checksum(long_file)


def test_a_short_file_is_its_content(tmp_path):
    path = tmp_path / "log.csv"
    path.write_bytes(b"a")
    before = sources._checksum(path)
    os.utime(path, ns=(1, 1))
    assert sources._checksum(path) == before
    path.write_bytes(b"b")
    assert sources._checksum(path) != before


def test_code_in_a_subpackage_is_part_of_the_identity(tmp_path):
    for name in ("read.py", "own/read.py", "own/deep/read.py", "own/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    found = sources._code(tmp_path)
    assert list(found) == ["own/deep/read.py", "own/read.py", "read.py"]
    assert len(set(found.values())) == 3
