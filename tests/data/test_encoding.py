"""Raw rows become the ids and numbers that training saw."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest
from conftest import make_rows, make_schema

from jaxmtl.data.encoding import Encoding, prepared
from jaxmtl.data.reading.files import read_part
from jaxmtl.data.reading.values import BadValue
from jaxmtl.data.sources import own_log
from jaxmtl.data.sources.own_log.encoding import read_encoding
from jaxmtl.types import PADDING, UNKNOWN

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_log"


@pytest.fixture(scope="module")
def example():
    """The example's log, its encoding, and its raw rows."""
    log = own_log.read(EXAMPLE / "log.csv", EXAMPLE / "schema.toml")
    paths = EXAMPLE / "log.csv", EXAMPLE / "schema.toml"
    encoding = read_encoding(*paths, log.schema)
    wanted = encoding.columns | {"time": "split.column"}
    blocks = read_part(EXAMPLE / "log.csv", wanted)
    return log, encoding, pa.Table.from_batches(blocks).sort_by("time")


def test_every_row_of_a_log_is_encoded_as_it_was_trained_on(example):
    log, encoding, table = example
    ids, numeric = encoding.encode(table.combine_chunks().to_batches()[0])
    blocks = [block for blocks in log.splits.values() for block in blocks]
    want_ids = np.concatenate([block.ids for block in blocks])
    want_numeric = np.concatenate([block.numeric for block in blocks])
    # Rows of one time may stand in another order; nothing else may differ.
    order = lambda a, b: np.lexsort(np.hstack([a, b]).T)
    got, want = order(ids, numeric), order(want_ids, want_numeric)
    np.testing.assert_array_equal(ids[got], want_ids[want])
    np.testing.assert_array_equal(numeric[got], want_numeric[want])


def test_an_encoding_comes_back_from_its_text(example):
    _, encoding, table = example
    again = Encoding.from_json(encoding.to_json())
    assert again.to_json() == encoding.to_json()
    rows = table.combine_chunks().to_batches()[0]
    for got, want in zip(again.encode(rows), encoding.encode(rows), strict=True):
        np.testing.assert_array_equal(got, want)


def test_an_id_that_some_parts_write_as_a_float_is_counted_in_all_of_them(tmp_path):
    """Each part alone holds an item too seldom for it to be known, or not at all."""
    schema = (
        'name = "shop"\nuser = "u"\nitem = "i"\nctr = "a"\ncvr = "b"\n'
        "[fields]\nu = {}\ni = {}\n[tasks]\na = {}\nb = {}\n"
        '[split]\nby = "column"\ncolumn = "s"\n'
    )
    (tmp_path / "schema.toml").write_text(schema)
    (tmp_path / "log").mkdir()
    head = "s,u,i,a,b\n"
    whole = "train,x,7,0,0\ntrain,x,8,1,1\ntest,x,9,0,0\n"
    gaps = "train,x,8.0,0,0\nvalidation,x,7.0,1,1\ntest,x,9.0,0,0\n"
    (tmp_path / "log" / "a.csv").write_text(head + whole)
    (tmp_path / "log" / "b.csv").write_text(head + gaps)
    paths = tmp_path / "log", tmp_path / "schema.toml"
    log = own_log.read(*paths)
    assert read_encoding(*paths, log.schema).texts["i"].to_pylist() == ["8"]


def one(encoding: Encoding, **changes) -> dict[str, pa.Array]:
    row = {field.name: None for field in encoding.schema.fields}
    row |= dict.fromkeys(encoding.schema.numeric, "1")
    return {
        name: pa.array([value], pa.string()) for name, value in (row | changes).items()
    }


def test_an_id_that_training_lacks_is_unknown_and_an_empty_cell_no_value(example):
    _, encoding, _ = example
    known = encoding.texts["user_id"][0].as_py()
    cells = {"user_id": known, "item_id": "nobody has seen this", "tags": None}
    ids, _ = encoding.encode(one(encoding, **cells))
    at = encoding.schema.column
    assert ids[0, at("user_id")] == 1
    assert ids[0, at("item_id")] == UNKNOWN
    assert (ids[0, at("tags") : at("tags") + 3] == PADDING).all()


def test_a_missing_number_is_the_mean_and_a_text_is_refused_by_its_column(example):
    _, encoding, _ = example
    _, numeric = encoding.encode(one(encoding, price=None, hour=None))
    np.testing.assert_array_equal(numeric, [[0, 0]])
    with pytest.raises(BadValue, match="column 'price': 'cheap' is not a number"):
        encoding.encode(one(encoding, price="cheap"))


def test_whole_numbers_that_a_tool_wrote_as_floats_are_the_same_ids(example):
    _, encoding, _ = example
    plain = encoding.encode(one(encoding, item_id="7", user_id="x.0"))[0]
    point = encoding.encode(one(encoding, item_id="7.0", user_id="x"))[0]
    if encoding.texts["item"].to_pylist().count("7"):
        assert plain[0, encoding.schema.column("item_id")] != UNKNOWN
    np.testing.assert_array_equal(plain, point)


def test_another_file_than_the_trained_one_is_refused(example, tmp_path):
    log, _, _ = example
    lines = (EXAMPLE / "log.csv").read_text().splitlines()
    (tmp_path / "log.csv").write_text("\n".join(lines[: len(lines) // 2]))
    with pytest.raises(ValueError, match="no longer holds the log.*vocabulary"):
        read_encoding(tmp_path / "log.csv", EXAMPLE / "schema.toml", log.schema)


# Values that are ids already


def as_table(schema, rows) -> pa.Table:
    columns, at = {}, 0
    for field in schema.fields:
        part = rows.ids[:, at : at + field.slots]
        at += field.slots
        lists = [[i for i in row if i != PADDING] for row in part.tolist()]
        columns[field.name] = lists if field.slots > 1 else part[:, 0]
    columns |= dict(zip(schema.numeric, rows.numeric.T, strict=True))
    return pa.table(columns)


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_prepared_ids_and_numbers_pass_unchanged(tmp_path, kind):
    schema, rows = make_schema(), make_rows(200, seed=5)
    table = as_table(schema, rows)
    if kind == "csv":
        tags = [["|".join(map(str, row)) for row in table["tags"].to_pylist()]]
        table = table.set_column(2, "tags", tags)
        csv.write_csv(table, tmp_path / "rows.csv")
        texts = dict.fromkeys(table.column_names, pa.string())
        convert = csv.ConvertOptions(column_types=texts, strings_can_be_null=True)
        table = csv.read_csv(tmp_path / "rows.csv", convert_options=convert)
    else:
        pq.write_table(table, tmp_path / "rows.parquet")
        table = pq.read_table(tmp_path / "rows.parquet")
    ids, numeric = prepared(schema).encode(table.combine_chunks().to_batches()[0])
    np.testing.assert_array_equal(ids, rows.ids)
    np.testing.assert_array_equal(numeric, rows.numeric)


@pytest.mark.parametrize(
    ("value", "expected"), [("21", UNKNOWN), ("20", 20), ("-1", UNKNOWN), (None, -1)]
)
def test_prepared_ids_outside_the_vocabulary_are_unknown(value, expected):
    encoding = prepared(make_schema())
    ids, _ = encoding.encode(one(encoding, user=value))
    assert ids[0, 0] == expected
