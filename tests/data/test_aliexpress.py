"""AliExpress: whole searches on one side of each cut, anonymous columns as they are."""

import csv

import numpy as np
import pytest
from test_store import joined

from jaxmtl.data import store
from jaxmtl.data.reading import delimited
from jaxmtl.data.sources import aliexpress
from jaxmtl.data.store.checks import check_rows
from jaxmtl.types import UNKNOWN

HEADER = (
    "search_id",
    *(f"categorical_{i}" for i in range(1, 17)),
    *(f"numerical_{i}" for i in range(1, 64)),
    "click",
    "conversion",
)


def write_file(path, search_ids, seed: int = 0, **changes) -> list[dict]:
    """Rows in the true format; `changes` replace cells of the second row."""
    rng = np.random.default_rng(seed)
    rows = []
    for search in search_ids:
        click = int(rng.random() < 0.4)
        conversion = int(click and rng.random() < 0.5)
        cells = [*rng.integers(0, 9, 16), *rng.random(63).round(6), click, conversion]
        rows.append(dict(zip(HEADER, [search, *cells], strict=True)))
    rows[1] |= changes
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, HEADER)
        writer.writeheader()
        writer.writerows(rows)
    return rows


@pytest.fixture
def folder(tmp_path):
    country = tmp_path / "AliExpress_NL"
    country.mkdir()
    # Searches of several rows, scattered over the file, with large numbers.
    searches = 2**40 + np.random.default_rng(1).integers(0, 60, 300)
    write_file(country / "train.csv", searches.tolist())
    write_file(country / "test.csv", (2**40 + np.arange(40) // 2).tolist(), seed=2)
    return country


def test_a_search_is_never_torn_and_the_files_share_none(folder):
    log = aliexpress.read(folder)
    users = {name: set(joined(b).groups["user"]) for name, b in log.splits.items()}
    assert not users["train"] & users["validation"]
    assert not (users["train"] | users["validation"]) & users["test"]
    assert sorted(set().union(*users.values())) == list(range(60 + 20))
    rows = {name: joined(blocks).num_rows for name, blocks in log.splits.items()}
    assert rows["test"] == 40 and rows["train"] + rows["validation"] == 300
    assert rows["validation"] > 0
    assert log.counts == {"read": 340, "kept": 340}


def test_the_splits_of_small_blocks_are_those_of_one(folder, monkeypatch):
    whole = aliexpress.read(folder)
    monkeypatch.setattr(delimited, "BLOCK_BYTES", 8_192)
    blocks = aliexpress.read(folder)
    assert len(list(blocks.splits["train"])) > 5
    assert blocks.schema == whole.schema
    for split in whole.splits:
        one, many = joined(whole.splits[split]), joined(blocks.splits[split])
        np.testing.assert_array_equal(one.ids, many.ids)
        np.testing.assert_allclose(one.numeric, many.numeric, atol=1e-6)
        np.testing.assert_array_equal(one.labels["click"], many.labels["click"])


def test_rows_hold_the_files_cells(tmp_path):
    train = write_file(tmp_path / "train.csv", range(200))
    test = write_file(tmp_path / "test.csv", range(10), seed=5, categorical_3=99)
    log = aliexpress.read(tmp_path)
    rows, numbers = joined(log.splits["test"]), log.schema.numeric
    at = log.schema.column("categorical_3")
    assert rows.ids[1, at] == UNKNOWN  # 99 is in no training row
    others = [i for i in range(10) if i != 1]
    # Training holds 0 … 8 of every field, so ids are the values plus one.
    assert rows.ids[others, at].tolist() == [
        1 + test[i]["categorical_3"] for i in others
    ]
    for name in ("click", "conversion"):
        assert rows.labels[name].tolist() == [row[name] for row in test]
    kept = [
        row
        for i, row in enumerate(train)
        if i in joined(log.splits["train"]).groups["user"]
    ]
    known = np.array([[row[name] for name in numbers] for row in kept])
    cells = np.array([[row[name] for name in numbers] for row in test])
    expected = (cells - known.mean(axis=0)) / known.std(axis=0)
    np.testing.assert_allclose(rows.numeric, expected, atol=1e-5)


def test_the_search_is_no_feature(folder):
    schema = aliexpress.read(folder).schema
    assert len(schema.fields) == 16 and len(schema.numeric) == 63
    assert "search_id" not in {field.name for field in schema.fields}
    assert schema.task("conversion").space == "click"


def test_an_end_to_end_preparation_keeps_every_row(folder, tmp_path):
    log = aliexpress.read(folder)
    data = store.prepare("aliexpress", {}, lambda: log, tmp_path / "cache", lambda _: 0)
    for name, blocks in log.splits.items():
        np.testing.assert_array_equal(data.splits[name].ids, joined(blocks).ids)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"click": "2"}, r"train\.csv, line 3, column 'click'"),
        ({"numerical_7": ""}, r"train\.csv, line 3, column 'numerical_7': empty"),
        ({"search_id": "1.5"}, r"train\.csv, line 3, column 'search_id'"),
    ],
)
def test_a_bad_cell_is_named(folder, changes, message):
    write_file(folder / "train.csv", range(50), **changes)
    with pytest.raises(ValueError, match=message):
        aliexpress.read(folder)


def test_missing_data_say_where_to_get_them(folder):
    for path, message in (
        (None, r"aliexpress needs a path; get AliExpress from https://tianchi"),
        (folder / "none", r"none.train\.csv: no such file; .*dataset/74690"),
    ):
        with pytest.raises(ValueError, match=message):
            aliexpress.read(path)
    (folder / "test.csv").unlink()
    with pytest.raises(ValueError, match=r"test\.csv: no such file; .*one country"):
        aliexpress.read(folder)
    (folder / "test.csv").write_text("search_id,click\n1,0\n")
    with pytest.raises(
        ValueError, match=r"test\.csv lacks the columns \['categorical_1'"
    ):
        aliexpress.read(folder)


def test_the_public_fragment_is_read(shared_data, tmp_path):
    log = aliexpress.read(shared_data / "aliexpress_fragment")
    assert log.counts == {"read": 200, "kept": 200}
    for name, blocks in log.splits.items():
        check_rows(log.schema, joined(blocks), name)
    test = joined(log.splits["test"])
    assert test.num_rows == 100 and len(set(test.groups["user"])) == 50
    assert test.labels["click"].sum() == 6 and test.labels["conversion"].sum() == 1
    data = store.prepare("aliexpress", {}, lambda: log, tmp_path, lambda _: 0)
    assert sum(rows.num_rows for rows in data.splits.values()) == 200
