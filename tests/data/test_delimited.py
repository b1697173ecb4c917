"""Delimited text: columns by name and type, and every refusal with its line."""

import gzip

import numpy as np
import pytest

from jaxmtl.data.reading import delimited
from jaxmtl.data.reading.delimited import Format, read_blocks, read_columns, read_header

KINDS = {"id": int, "price": float, "name": str}
LABEL = {"click": bool}


def write(path, text: str, encoding: str = "utf8"):
    path.write_bytes(text.encode(encoding))
    return path


def test_columns_are_read_by_name_in_the_order_asked_for(tmp_path):
    text = 'name,skipped,price,id\r\n"a, b",x,1.5,3\r\nNA,y,-2,9007199254740993\r\n'
    columns = read_columns(write(tmp_path / "a.csv", text), KINDS)
    assert list(columns) == list(KINDS)
    assert columns["id"].tolist() == [3, 9007199254740993]  # no float64 holds this
    assert columns["price"].tolist() == [1.5, -2]
    assert columns["name"].tolist() == ["a, b", "NA"]


def test_a_gzipped_file_is_unpacked_whatever_its_name(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(gzip.compress(b"id\n7\n"))
    assert read_header(path) == ["id"]
    assert read_columns(path, {"id": int})["id"].tolist() == [7]
    plain = write(tmp_path / "b.csv.gz", "id\n8\n")  # as TFDS names what it unpacked
    assert read_columns(plain, {"id": int})["id"].tolist() == [8]


def test_a_file_without_a_header_in_another_encoding_is_read(tmp_path):
    path = write(tmp_path / "u.item", '1|"Café|5\n2|x|6\n', "latin1")
    form = Format("|", quoted=False, header=("id", "name", "n"), encoding="latin1")
    columns = read_columns(path, {"id": int, "name": str}, form)
    assert columns["id"].tolist() == [1, 2]
    assert columns["name"].tolist() == ['"Café', "x"]


def test_blocks_join_to_the_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(delimited, "BLOCK_BYTES", 64)
    rows = [f"{i},{i / 4},{'long' * (i % 3)}" for i in range(50)]
    path = write(tmp_path / "a.csv", "\n".join(["id,price,name", *rows]))
    blocks = list(read_blocks(path, KINDS))
    assert len(blocks) > 5
    columns = read_columns(path, KINDS)
    assert columns["id"].tolist() == list(range(50))
    np.testing.assert_array_equal(columns["price"], np.arange(50) / 4)
    assert columns["name"].tolist() == ["long" * (i % 3) for i in range(50)]


def test_empty_cells_become_what_was_asked_for(tmp_path):
    path = write(tmp_path / "a.csv", "id,price,name\n1,,\n2,3,b\n")
    columns = read_columns(path, KINDS, missing=np.nan)
    np.testing.assert_array_equal(columns["price"], [np.nan, 3])
    assert columns["name"].tolist() == ["", "b"]


def test_labels_are_0_or_1(tmp_path):
    path = write(tmp_path / "a.csv", "click\n0\n1\n1\n")
    assert read_columns(path, LABEL)["click"].tolist() == [False, True, True]
    for bad, message in (("2", "invalid value '2'"), ("", "empty; expected")):
        write(path, f"click,id\n0,1\n{bad},1\n")
        with pytest.raises(ValueError, match=rf"line 3, column 'click': .*{message}"):
            read_columns(path, LABEL)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2,a\nx,3,b\n", r"line 3, column 'id': CSV conversion.*invalid value 'x'"),
        ("1,2,a\n1.5,3,b\n", r"line 3, column 'id': .*invalid value '1\.5'"),
        ("1,2,a\n1,2,3,4\n", r"line 3: Expected 3 columns, got 4"),
        ("1,2,a\n,2,b\n", r"line 3, column 'id': empty; expected a number"),
        ("1,2,a\n2,,b\n", r"line 3, column 'price': empty; expected a number"),
        ("1,2,a\n" * 40 + "2,,b\n", r"line 42, column 'price': empty"),
        ("1,2,a\n" * 40 + "x,2,b\n", r"line 42, column 'id': "),
        ("", "holds no row"),
    ],
)
def test_a_bad_file_is_named_with_its_line(tmp_path, monkeypatch, text, message):
    monkeypatch.setattr(delimited, "BLOCK_BYTES", 64)
    path = write(tmp_path / "a.csv", "id,price,name\n" + text)
    with pytest.raises(ValueError, match=rf"a\.csv.*{message}"):
        read_columns(path, KINDS)


def test_a_line_without_header_above_it_is_the_first(tmp_path):
    path = write(tmp_path / "u.data", "x\t2\n")
    form = Format("\t", quoted=False, header=("a", "b"))
    with pytest.raises(ValueError, match=r"u\.data, line 1, column 'a'"):
        read_columns(path, {"a": int}, form)


def test_missing_files_and_columns_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"cannot read .*none\.csv: "):
        read_columns(tmp_path / "none.csv", KINDS)
    path = write(tmp_path / "a.csv", "id,cost\n1,2\n")
    with pytest.raises(ValueError, match=r"lacks the columns \['price', 'name'\]"):
        read_columns(path, KINDS)


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path):
    path = write(tmp_path / "a.csv", "\ufeffid,name\n1,a\n")
    assert read_columns(path, {"id": int})["id"].tolist() == [1]


def test_bytes_that_are_no_text_are_named(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"id,\xff\n1,2\n")
    with pytest.raises(ValueError, match=r"a\.csv, line 1: .*can't decode"):
        read_columns(path, {"id": int})


def test_a_torn_archive_is_named(tmp_path):
    path = tmp_path / "a.csv.gz"
    rows = "\n".join(map(str, range(50_000)))
    path.write_bytes(gzip.compress(f"id\n{rows}\n".encode())[:-2_000])
    with pytest.raises(ValueError, match=r"a\.csv\.gz: Compressed file ended"):
        read_columns(path, {"id": int})
