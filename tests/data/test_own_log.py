"""A log of one's own: files and forms agree, and every mistake is named."""

import csv
import gzip
import json
import tomllib
from collections import Counter
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import assert_same_bits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxmtl.data import store
from jaxmtl.data.sources import own_log
from jaxmtl.data.store.checks import check_rows
from jaxmtl.types import PADDING, UNKNOWN, Rows

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "own_log"
SCHEMA = """
name = "shop"
user = "user_id"
item = "item_id"
ctr = "click"
cvr = "order"
min_count = 1

[fields]
user_id = {}
item_id = { vocabulary = "item" }
last_item = { vocabulary = "item" }
tags = { separator = "|", slots = 2 }

[numeric]
price = { log = true }
hour = {}

[tasks]
click = {}
order = { space = "click" }
spend = { kind = "continuous", high = 500, space = "order" }

[split]
by = "column"
column = "part"
"""
BY_TIME = 'by = "time"\ncolumn = "ts"'
BY_HASH = 'by = "hash"\ncolumn = "user_id"'
PINNED = {
    "train": ["0", "1", "10", "100"],
    "validation": ["125", "140", "147", "16"],
    "test": ["103", "108", "111", "12"],
}
BY_COLUMN = 'by = "column"\ncolumn = "part"'
SPLITS = ("train", "validation", "test")


def make_table(n: int, seed: int = 0) -> dict[str, list[str]]:
    """Columns of text: gaps in most, tags without a value, one and many."""
    rng = np.random.default_rng(seed)
    text = lambda column: [str(value) for value in column]
    gaps = lambda column: [v if rng.random() < 0.8 else "" for v in text(column)]
    click = rng.integers(0, 2, n)
    tags = [rng.choice(list("abcd"), rng.integers(0, 4), False) for _ in range(n)]
    return {
        "user_id": [f"u{u}" for u in rng.integers(0, 9, n)],
        "item_id": text(rng.integers(100, 120, n)),
        "last_item": gaps(rng.integers(100, 120, n)),
        "tags": ["|".join(its) for its in tags],
        "price": gaps(rng.integers(1, 99, n) / 4),
        "hour": text(rng.integers(0, 24, n)),
        "click": text(click),
        "order": gaps(click * rng.integers(0, 2, n)),
        "spend": gaps(rng.integers(0, 500, n)),
        "part": [SPLITS[i % 3] for i in range(n)],
        "ts": text(rng.permutation(n)),
    }


def write_csv(path: Path, table: dict[str, list[str]], delimiter: str = ",") -> Path:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(table)
        writer.writerows(zip(*table.values(), strict=True))
    return path


def write_schema(folder: Path, *changes: tuple[str, str]) -> Path:
    text = SCHEMA
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = folder / "schema.toml"
    path.write_text(text)
    return path


def read(folder: Path, table: dict[str, list[str]], *changes: tuple[str, str]):
    path = write_csv(folder / "log.csv", table)
    return own_log.read(path, write_schema(folder, *changes))


def joined(log, split: str) -> Rows:
    return jax.tree.map(lambda *c: np.concatenate(c), *log.splits[split])


def whole(log) -> dict[str, Rows]:
    return {split: joined(log, split) for split in SPLITS}


def as_set(rows: Rows) -> Counter:
    """Rows without their order; NaN labels compare as text."""
    flat = jax.tree.leaves(rows)
    columns = [c.reshape(rows.num_rows, -1) for c in flat]
    return Counter(map(str, np.concatenate(columns, axis=1).round(5).tolist()))


TINY = {
    "user_id": ["b", "a", "b", "a", "z", "b"],
    "item_id": ["9", "10", "9", "9", "11", "10"],
    "last_item": ["", "9", "10", "", "9", "11"],
    "tags": ["x|y|x", "", "y", "x||y", "q|x", ""],
    "price": ["0", "", "1", "3", "7", ""],
    "hour": ["1", "3", "1", "3", "5", "2"],
    "click": ["1", "0", "1", "1", "1", ""],
    "order": ["1", "", "0", "0", "1", ""],
    "spend": ["250.5", "", "", "", "1", ""],
    "part": ["train", "train", "train", "train", "validation", "test"],
    "ts": ["1", "2", "3", "4", "5", "6"],
}


def test_a_log_checked_by_hand(tmp_path):
    log = read(tmp_path, TINY)
    train, validation, test = (joined(log, split) for split in SPLITS)
    # users: a 1, b 2; items: none 1, 10 2, 9 3 (as text); tags: x 1, y 2
    none = PADDING
    np.testing.assert_array_equal(
        train.ids,
        [[2, 3, 1, 1, 2], [1, 2, 3, none, none], [2, 3, 2, 2, none], [1, 3, 1, 1, 2]],
    )
    np.testing.assert_array_equal(validation.ids, [[0, 0, 3, UNKNOWN, 1]])
    np.testing.assert_array_equal(test.ids, [[2, 2, UNKNOWN, none, none]])
    known = np.log1p([0, 1, 3])
    scaled = (known - known.mean()) / known.std()
    np.testing.assert_allclose(
        train.numeric[:, 0], [scaled[0], 0, scaled[1], scaled[2]], rtol=1e-6
    )
    np.testing.assert_allclose(train.numeric[:, 1], [-1, 1, -1, 1])
    np.testing.assert_allclose(validation.numeric[0, 1], 3)
    np.testing.assert_array_equal(train.labels["click"], [1, 0, 1, 1])
    np.testing.assert_array_equal(train.labels["order"], [1, np.nan, 0, 0])
    np.testing.assert_array_equal(train.labels["spend"], [250.5] + [np.nan] * 3)
    assert np.isnan(test.labels["click"]).all()
    np.testing.assert_array_equal(train.groups["user"], [1, 0, 1, 0])
    assert (validation.groups["user"], test.groups["user"]) == (2, 1)
    np.testing.assert_array_equal(train.groups["item"], [2, 0, 2, 2])
    assert (validation.groups["item"], test.groups["item"]) == (1, 0)
    assert log.counts == {"read": 6, "kept": 6}
    assert log.schema.task("spend").high == 500
    assert log.schema.task("spend").metric == "mse"
    assert "'price': 2 rows without a value" in " ".join(log.notes)
    assert "'tags': 1 rows hold more values" in " ".join(log.notes)
    for split, rows in whole(log).items():
        check_rows(log.schema, rows, split)


def slow_read(table: dict[str, list[str]], min_count: int) -> dict[str, list[tuple]]:
    """The ids, numbers and labels of every split, by dictionaries and loops."""
    values = zip(*table.values(), strict=True)
    rows = [dict(zip(table, row, strict=True)) for row in values]
    several = lambda row: [tag for tag in row["tags"].split("|") if tag][:2]
    seen = {"user": Counter(), "item": Counter(), "tags": Counter()}
    prices = []
    for row in rows:
        if row["part"] == "train":
            seen["user"][row["user_id"]] += 1
            seen["item"].update([row["item_id"], row["last_item"]])
            seen["tags"].update(several(row))
            prices += [np.log1p(float(row["price"]))] if row["price"] else []
    known = {
        name: sorted(value for value, n in counter.items() if n >= min_count)
        for name, counter in seen.items()
    }
    number = lambda name, v: known[name].index(v) + 1 if v in known[name] else 0
    mean, std = np.mean(prices), np.std(prices) or 1
    found = {split: [] for split in SPLITS}
    for row in rows:
        tags = [number("tags", tag) for tag in several(row)]
        price = (np.log1p(float(row["price"])) - mean) / std if row["price"] else 0
        ids = [number("user", row["user_id"])]
        ids += [number("item", row[name]) for name in ("item_id", "last_item")]
        ids += tags + [PADDING] * (2 - len(tags))
        labels = [float(row[t] or "nan") for t in ("click", "order", "spend")]
        found[row["part"]].append((ids, price, labels))
    return found


@pytest.mark.parametrize("min_count", [1, 3])
@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_loops_over_the_rows(tmp_path, seed, min_count):
    table = make_table(60, seed)
    log = read(tmp_path, table, ("min_count = 1", f"min_count = {min_count}"))
    for split, expected in slow_read(table, min_count).items():
        rows = joined(log, split)
        ids, price, labels = (np.array(c) for c in zip(*expected, strict=True))
        np.testing.assert_array_equal(rows.ids, ids)
        np.testing.assert_allclose(rows.numeric[:, 0], price, rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(np.stack([*rows.labels.values()], 1), labels)


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.integers(0, 99), st.sampled_from([BY_COLUMN, BY_TIME, BY_HASH]))
def test_the_order_of_a_files_rows_changes_no_row(tmp_path, seed, how):
    table = make_table(80, seed)
    order = np.random.default_rng(seed).permutation(80)
    shuffled = {name: [column[i] for i in order] for name, column in table.items()}
    one, two = (read(tmp_path, t, (BY_COLUMN, how)) for t in (table, shuffled))
    assert one.schema == two.schema
    for split in SPLITS:
        assert as_set(joined(one, split)) == as_set(joined(two, split))
    if how is BY_TIME:
        for split in SPLITS:
            ids = [joined(log, split).ids for log in (one, two)]
            np.testing.assert_array_equal(*ids)


def as_parquet(table: dict[str, list[str]]) -> pa.Table:
    """The same table in the types that Parquet files have."""
    none = lambda column, kind: [kind(v) if v else None for v in column]
    tags = [text.split("|") if text else None for text in table["tags"]]
    return pa.table(
        {
            "tags": pa.array(tags, pa.large_list(pa.string())),
            "unused": pa.array([{"a": 1}] * len(tags)),
            "user_id": pa.array(table["user_id"], pa.large_string()),
            "item_id": pa.array(none(table["item_id"], int), pa.uint16()),
            "last_item": pa.array(none(table["last_item"], float), pa.float64()),
            "price": pa.array(none(table["price"], float), pa.float32()),
            "hour": pa.array(none(table["hour"], int), pa.int8()),
            "click": pa.array([v == "1" if v else None for v in table["click"]]),
            "order": pa.array(none(table["order"], int), pa.int64()),
            "spend": pa.array(none(table["spend"], Decimal), pa.decimal128(9, 2)),
            "part": pa.array(table["part"]).dictionary_encode(),
        }
    )


def test_every_form_of_file_holds_the_same_rows(tmp_path):
    table, schema = make_table(50), write_schema(tmp_path)
    expected = read(tmp_path, table)
    paths = [
        write_csv(tmp_path / "log.csv.gz", table),
        write_csv(tmp_path / "log.tsv", table, "\t"),
        write_csv(tmp_path / "LOG.TSV.GZ", table, "\t"),
        tmp_path / "log.parquet",
        tmp_path / "parts",
    ]
    pq.write_table(as_parquet(table), paths[3], row_group_size=7)
    paths[4].mkdir()
    cut = lambda a, b: {name: column[a:b] for name, column in table.items()}
    write_csv(paths[4] / "part-0.csv", cut(0, 20))
    pq.write_table(as_parquet(cut(20, 30)), paths[4] / "part-1.parquet")
    write_csv(paths[4] / "part-2.csv.gz", cut(30, 50))
    for marker in ("_metadata.csv", "._part-0.csv", "_SUCCESS", "readme.txt"):
        (paths[4] / marker).write_text("not a part")
    for path in paths:
        log = own_log.read(path, schema)
        assert log.schema == expected.schema, path
        assert_same_bits(whole(log), whole(expected))


def test_lists_of_fixed_length_and_of_nothing_are_read(tmp_path):
    table = as_parquet(TINY)
    tags = [["x", "y"], [None, "y"], None, [None, None], ["x", None], ["y", "x"]]
    for kind in (pa.list_(pa.string(), 2), pa.list_(pa.string())):
        changed = table.set_column(0, "tags", pa.array(tags, kind))
        pq.write_table(changed, tmp_path / "log.parquet")
        log = own_log.read(tmp_path / "log.parquet", write_schema(tmp_path))
        none = [PADDING, PADDING]
        expected = [[1, 2], [2, PADDING], none, none]
        np.testing.assert_array_equal(joined(log, "train").ids[:, 3:], expected)
    empty = table.set_column(0, "tags", pa.nulls(6))
    pq.write_table(empty, tmp_path / "log.parquet")
    log = own_log.read(tmp_path / "log.parquet", write_schema(tmp_path))
    assert (joined(log, "train").ids[:, 3:] == PADDING).all()


def test_large_whole_numbers_stay_apart(tmp_path):
    ids = [2**60, 2**60 + 1, 2**60, 2**60 + 1, 2**60, 2**60 + 1]
    log = read(tmp_path, TINY | {"user_id": list(map(str, ids))})
    assert joined(log, "train").ids[:, 0].tolist() == [1, 2, 1, 2]
    table = as_parquet(TINY).set_column(2, "user_id", pa.array(ids))
    pq.write_table(table, tmp_path / "log.parquet")
    again = own_log.read(tmp_path / "log.parquet", tmp_path / "schema.toml")
    assert joined(again, "train").ids[:, 0].tolist() == [1, 2, 1, 2]


def test_whole_numbers_written_with_a_fraction_are_the_same_ids(tmp_path):
    floats = [f"{v}.0" if v else "" for v in TINY["last_item"]]
    expected, log = read(tmp_path, TINY), read(tmp_path, TINY | {"last_item": floats})
    assert_same_bits(whole(log), whole(expected))


def test_ids_that_are_no_whole_numbers_stay_text(tmp_path):
    version = ["1.0", "1.0", "1.10", "1.1", "1.0", "1.0"]
    log = read(tmp_path, TINY | {"user_id": version})
    assert joined(log, "train").ids[:, 0].tolist() == [1, 1, 3, 2]
    version[2:4] = ["1", "x"]
    log = read(tmp_path, TINY | {"user_id": version})
    assert joined(log, "train").ids[:, 0].tolist() == [2, 2, 1, 3]


def test_rows_without_what_every_row_needs_are_dropped_and_counted(tmp_path):
    table = make_table(40)
    for name, row in [("user_id", 3), ("user_id", 4), ("item_id", 4), ("part", 5)]:
        table[name][row] = ""
    table["length"] = ["30"] * 39 + [""]
    log = read(tmp_path, table, ("[split]", '[extras]\nduration = "length"\n[split]'))
    assert log.counts == {
        "read": 40,
        "kept": 36,
        "dropped: no user_id": 2,
        "dropped: no part": 1,
        "dropped: no length": 1,
    }
    assert sum(rows.num_rows for rows in whole(log).values()) == 36
    np.testing.assert_array_equal(joined(log, "test").extras["duration"], 30)


def test_other_texts_can_mean_no_value(tmp_path):
    expected = read(tmp_path, TINY)
    table = {name: [v or r"\N" for v in column] for name, column in TINY.items()}
    change = ("min_count = 1", "min_count = 1\nmissing = ['\\N']")
    assert_same_bits(whole(read(tmp_path, table, change)), whole(expected))


def test_truth_in_words_is_read(tmp_path):
    click = ["True", "false", "TRUE", "true", "1", ""]
    expected = read(tmp_path, TINY)
    assert_same_bits(whole(read(tmp_path, TINY | {"click": click})), whole(expected))


def test_quoted_cells_may_hold_separators_and_line_breaks(tmp_path, monkeypatch):
    monkeypatch.setattr("jaxmtl.data.reading.files.BLOCK_BYTES", 200)
    table = make_table(100)
    expected = read(tmp_path, table)
    quoted = [user.replace("u", '\n\n,"\n\n') for user in table["user_id"]]
    log = read(tmp_path, table | {"user_id": quoted})
    assert_same_bits(whole(log), whole(expected))


def test_later_rows_do_not_move_the_scale_of_numbers(tmp_path):
    later = TINY | {"hour": ["1", "3", "1", "3", "999", "-5"]}
    one, two = read(tmp_path, TINY), read(tmp_path, later)
    np.testing.assert_array_equal(
        joined(one, "train").numeric, joined(two, "train").numeric
    )


START = datetime(2026, 3, 1, 12, 0, 0)
TIMES = {
    "seconds": lambda n: [str(1_700_000_000 + i) for i in range(n)],
    "fractions": lambda n: [f"{i / 4}" for i in range(n)],
    "text": lambda n: [str(START + timedelta(minutes=i)) for i in range(n)],
    "days": lambda n: [str((START + timedelta(days=i)).date()) for i in range(n)],
    "zoned": lambda n: [
        (START + timedelta(hours=i)).isoformat() + "+02:00" for i in range(n)
    ],
}


@pytest.mark.parametrize("form", TIMES)
def test_split_by_time_takes_the_latest_rows_for_the_test(tmp_path, form):
    n = 40
    table = make_table(n) | {"hour": [str(i) for i in range(n)]}
    order = np.random.default_rng(0).permutation(n)
    table = {name: [column[i] for i in order] for name, column in table.items()}
    table["ts"] = [TIMES[form](n)[i] for i in order]
    log = read(tmp_path, table, (BY_COLUMN, BY_TIME + "\nvalidation = 0.2"))
    hours = np.concatenate([joined(log, split).numeric[:, 1] for split in SPLITS])
    assert (np.diff(hours) > 0).all()
    assert [joined(log, split).num_rows for split in SPLITS] == [26, 8, 6]


@pytest.mark.parametrize("kind", [pa.timestamp("ns", "Asia/Tokyo"), pa.date32()])
def test_split_by_time_reads_the_types_of_parquet(tmp_path, kind):
    days = [START + timedelta(days=i) for i in range(6)]
    column = pa.array(days, pa.timestamp("us")).cast(pa.timestamp("ns"))
    column = column.cast(kind, safe=False)
    table = as_parquet(TINY).append_column("ts", column)
    pq.write_table(table, tmp_path / "log.parquet")
    schema = write_schema(
        tmp_path, (BY_COLUMN, BY_TIME + "\nvalidation = 0.2\ntest = 0.2")
    )
    log = own_log.read(tmp_path / "log.parquet", schema)
    assert [joined(log, split).num_rows for split in SPLITS] == [3, 1, 2]


def test_split_by_time_tears_no_moment_apart(tmp_path):
    table = make_table(200)
    table["ts"] = [str(int(ts) // 20) for ts in table["ts"]]
    table["hour"] = table["ts"]
    log = read(tmp_path, table, (BY_COLUMN, BY_TIME))
    moments = [set(joined(log, split).numeric[:, 1]) for split in SPLITS]
    assert sum(map(len, moments)) == len(set.union(*moments)) == 10


def test_split_by_hash_keeps_a_user_whole_on_every_machine(tmp_path):
    table = make_table(600)
    users = np.random.default_rng(0).integers(0, 200, 600)
    table["user_id"] = [str(user) for user in users]
    log = read(tmp_path, table, (BY_COLUMN, BY_HASH))
    groups = [set(joined(log, split).groups["user"]) for split in SPLITS]
    assert sum(map(len, groups)) == len(set.union(*groups))
    shares = np.array([joined(log, split).num_rows for split in SPLITS]) / 600
    np.testing.assert_allclose(shares, [0.7, 0.15, 0.15], atol=0.06)
    # Pinned: another hash would give other tables to whoever has results already.
    by_name = zip(SPLITS, groups, strict=True)
    held = np.unique(table["user_id"])
    of = {name: sorted(held[list(g)].tolist())[:4] for name, g in by_name}
    assert of == PINNED


def test_split_by_hash_may_read_a_column_that_is_no_feature(tmp_path):
    table = make_table(300)
    log = read(tmp_path, table, (BY_COLUMN, BY_HASH.replace("user_id", "ts")))
    sizes = [joined(log, split).num_rows for split in SPLITS]
    assert sum(sizes) == 300 and min(sizes) > 20
    more = BY_HASH.replace("user_id", "ts") + "\nvalidation = 0.4"
    other = read(tmp_path, table, (BY_COLUMN, more))
    assert joined(other, "test").num_rows == sizes[2]
    assert joined(other, "validation").num_rows > sizes[1]


def test_blocks_are_bounded(tmp_path, monkeypatch):
    expected = read(tmp_path, make_table(90))
    monkeypatch.setattr(own_log, "BLOCK_ROWS", 7)
    log = read(tmp_path, make_table(90))
    assert {rows.num_rows for rows in log.splits["train"]} == {7, 2}
    assert_same_bits(whole(log), whole(expected))


def test_a_log_read_in_many_blocks_is_the_log_read_in_one(tmp_path, monkeypatch):
    table = make_table(400)
    expected = read(tmp_path, table)
    monkeypatch.setattr("jaxmtl.data.reading.files.BLOCK_BYTES", 1000)
    assert_same_bits(whole(read(tmp_path, table)), whole(expected))


def test_a_description_in_json_says_the_same(tmp_path):
    expected = read(tmp_path, TINY)
    (tmp_path / "schema.json").write_text(json.dumps(tomllib.loads(SCHEMA)))
    log = own_log.read(tmp_path / "log.csv", tmp_path / "schema.json")
    assert log.schema == expected.schema
    assert_same_bits(whole(log), whole(expected))


def test_a_prepared_log_holds_the_rows_that_were_read(tmp_path):
    log = read(tmp_path, make_table(60))
    dataset = store.prepare(
        "own_log", {}, lambda: log, tmp_path / "cache", lambda text: None
    )
    assert dataset.schema == log.schema
    assert dataset.notes == log.notes
    for split in SPLITS:
        assert_same_bits(dataset.splits[split], joined(log, split))


def test_the_example_is_read():
    log = own_log.read(EXAMPLE / "log.csv", EXAMPLE / "schema.toml")
    assert [joined(log, split).num_rows for split in SPLITS] == [210, 45, 45]
    for split, rows in whole(log).items():
        check_rows(log.schema, rows, split)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("ctr =", "ctrr =", "the file: unknown key 'ctrr'; did you mean 'ctr'?"),
        ('name = "shop"', "", "the file lacks the key 'name'"),
        ('"shop"', '"my shop/a"', "name is 'my shop/a'; it names files"),
        ('"shop"', "3", "the file: name is 3; expected a text"),
        ("count = 1", "count = 0", "min_count is 0; it must be 1 or more"),
        ("count = 1", "count = true", "min_count is True; expected a whole number"),
        ("count = 1", "count = 1\nmissing = [0]", "missing is [0]; expected a list"),
        ("user_id = {}", "user_id = 1", "fields.user_id is 1; expected a table"),
        ("slots = 2", "slot = 2", "fields.tags: unknown key 'slot'; did you mean"),
        ("slots = 2", "slots = 0", "fields.tags: slots is 0; it must be 1 or more"),
        (", slots = 2", "", "fields.tags has a separator but one slot"),
        ('"|"', '""', "fields.tags: separator is empty"),
        ("log = true", "log = 1", "numeric.price: log is 1; expected true or false"),
        ('"continuous"', '"contnuous"', "kind is 'contnuous'; did you mean"),
        ("high = 500", "high = 0", "tasks.spend: high is 0; for a continuous task"),
        ("click = {}", "click = { high = 2 }", "high is 2; for a binary task give 1"),
        ("click = {}", "click = { metric = 'mae' }", "tasks.click: metric is 'mae'"),
        ("high = 500", "high = 5, metric = 'auc'", "but AUC needs labels 0 and 1"),
        ('space = "click"', 'space = "clik"', "task 'order' lives in space 'clik'"),
        ('user = "user_id"', 'user = "tags"', "'tags' groups rows but is no single"),
        (
            'ctr = "click"',
            'ctr = "clicks"',
            "ctr: 'clicks' plays a role but is no task; did you mean 'click'?",
        ),
        ('item = "item_id"', 'item = "itm_id"', "did you mean 'item_id'?"),
        ("high = 500", "high = inf", "tasks.spend: high is inf; for a continuous task"),
        ("click = {}", "click = {}\nclick = {}", "cannot be read as TOML: Cannot over"),
        ("hour = {}", "click = {}", "column 'click' is a task and a feature"),
        ('"column"\n', '"columns"\n', "split: by is 'columns'; did you mean 'column'?"),
        (BY_COLUMN, BY_COLUMN + "\ntest = 0.1", 'shares mean nothing by = "column"'),
        (BY_COLUMN, BY_TIME + "\ntest = 0.9", "(0.15, 0.9); give shares above 0"),
        (BY_COLUMN, BY_TIME + "\ntest = '1'", "split: test is '1'; expected a number"),
        ('"part"', '"tags"', "split: column 'tags' holds several values a row"),
        ("[split]", "[extras]\nlength='x'\n[split]", "extras: unknown key 'length'"),
        ("[tasks]", "[tasks", "(at line 19, column 7)"),
    ],
)
def test_a_mistake_in_the_description_is_named(tmp_path, old, new, message):
    with pytest.raises(ValueError) as error:
        read(tmp_path, TINY, (old, new))
    assert str(error.value).startswith(f"{tmp_path / 'schema.toml'}: ")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("click", "2", "row 3, column 'click': holds 2.0; a binary label is 0 or 1"),
        ("click", "yes", "row 3, column 'click': 'yes' is not a number; correct it"),
        ("spend", "501", "row 3, column 'spend': holds 501.0; expected a label from 0"),
        ("spend", "-1", "row 3, column 'spend': holds -1.0; expected a label from 0"),
        ("price", "-1", "row 3, column 'price': holds -1.0; log needs numbers of 0"),
        ("hour", "inf", "row 3, column 'hour': holds inf; numbers must be finite"),
        ("hour", "NA", "'NA' is not a number; correct it, or list it under missing"),
        ("part", "tst", "split column 'part' holds 'tst'; expected train"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(tmp_path, name, value, message):
    column = [*TINY[name][:2], value, *TINY[name][3:]]
    with pytest.raises(ValueError) as error:
        read(tmp_path, TINY | {name: column})
    assert message in str(error.value)
    assert "row" not in message or str(tmp_path / "log.csv") in str(error.value)


def test_a_bad_value_is_named_by_its_row_in_its_own_file(tmp_path, monkeypatch):
    monkeypatch.setattr("jaxmtl.data.reading.files.BLOCK_BYTES", 500)
    parts = tmp_path / "parts"
    parts.mkdir()
    table = make_table(90)
    write_csv(parts / "a.csv", table)
    for dropped in (2, 69):  # rows that are dropped are counted all the same
        table["user_id"][dropped] = ""
    table["hour"][70] = "noon"
    write_csv(parts / "b.csv", table)
    with pytest.raises(ValueError, match=r"b\.csv, row 71, column 'hour': 'noon' is"):
        own_log.read(parts, write_schema(tmp_path))


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array([1.0, 2.5, 3, 4, 5, 6]), "row 2, column 'user_id': holds 2.5; an id"),
        (pa.array([1.0] * 5 + [2.0**53]), "row 6, column 'user_id': holds 9007"),
        (
            pa.array([1] * 5 + [2**24]).cast(pa.float32()),
            "whole number below 16777",
        ),
        (pa.array([{"a": 1}] * 6), "holds values of type struct<a: int64>; expected"),
        (pa.array([["a"]] * 6), "holds several values a row; say in slots"),
    ],
)
def test_a_column_that_holds_no_ids_is_refused(tmp_path, column, message):
    table = as_parquet(TINY).set_column(2, "user_id", column)
    pq.write_table(table, tmp_path / "log.parquet")
    with pytest.raises(ValueError) as error:
        own_log.read(tmp_path / "log.parquet", write_schema(tmp_path))
    assert message in str(error.value)


def test_columns_of_other_types_than_described_are_refused(tmp_path):
    def refused(index: int, name: str, column: pa.Array, *changes) -> str:
        table = as_parquet(TINY).set_column(index, name, column)
        pq.write_table(table, tmp_path / "log.parquet")
        with pytest.raises(ValueError) as error:
            own_log.read(tmp_path / "log.parquet", write_schema(tmp_path, *changes))
        return str(error.value)

    dates = pa.array([START] * 6)
    assert "type timestamp[us]; expected numbers" in refused(6, "hour", dates)
    halves = pa.array([[1.0], None, [], [2.0, 2.5], [1.0], [1.0]])
    assert "row 4, column 'tags': holds 2.5" in refused(0, "tags", halves)
    plain = refused(0, "tags", pa.array(["x"] * 6), ('separator = "|", ', ""))
    assert "column 'tags': holds one value a row; give its separator" in plain
    flags = refused(10, "ts", pa.array([True] * 6), (BY_COLUMN, BY_TIME))
    assert "type bool; expected times or numbers" in flags


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (
            ["1", "2", "3", "4", "5", "soon"],
            "row 6, column 'ts': 'soon' is not a number",
        ),
        (["1", "2", "3", "4", "5", "2026-01-31"], "mixes several ways of writing"),
        (["1", "2", "3", "4", "5", "inf"], "holds inf; a time must be finite"),
        (["1", "1", "1", "1", "2", "2"], "6 rows of 2 different times"),
    ],
)
def test_a_time_that_cannot_be_split_by_is_named(tmp_path, times, message):
    with pytest.raises(ValueError) as error:
        read(tmp_path, TINY | {"ts": times}, (BY_COLUMN, BY_TIME))
    assert message in str(error.value)


def test_files_that_write_time_in_several_ways_are_refused(tmp_path):
    parts = tmp_path / "parts"
    parts.mkdir()
    write_csv(parts / "a.csv", TINY)
    write_csv(parts / "b.csv", TINY | {"ts": ["2026-01-31"] * 6})
    schema = write_schema(tmp_path, (BY_COLUMN, BY_TIME))
    with pytest.raises(ValueError, match=r"mixes times of the types int64, timestamp"):
        own_log.read(parts, schema)
    halves = [f"{i}.5" for i in range(6)]
    write_csv(parts / "b.csv", TINY | {"ts": halves})
    assert own_log.read(parts, schema).counts["kept"] == 12


def test_a_missing_column_is_named_with_the_nearest(tmp_path):
    table = {name.replace("price", "prize"): TINY[name] for name in TINY}
    with pytest.raises(ValueError) as error:
        read(tmp_path, table)
    message = str(error.value)
    assert "no column 'price', which numeric.price of the schema file asks" in message
    assert "did you mean 'prize'?" in message and "hour, click" in message


def test_a_column_that_stands_twice_is_refused(tmp_path):
    path = tmp_path / "log.csv"
    header = ",".join([*TINY, "hour"])
    path.write_text(header + "\n" + ",".join("1" * 12) + "\n")
    with pytest.raises(ValueError, match="two columns are called 'hour'"):
        own_log.read(path, write_schema(tmp_path))


def test_a_split_without_rows_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"'part' gives \{'train': 6, 'validation': 0"):
        read(tmp_path, TINY | {"part": ["train"] * 6})


def test_numbers_that_no_training_row_has_are_refused(tmp_path):
    price = ["", "", "", "", "7", "8"]
    with pytest.raises(ValueError, match="'price' holds no value in any training row"):
        read(tmp_path, TINY | {"price": price})


def test_a_log_without_a_row_that_can_be_used_is_refused(tmp_path):
    for table in (dict.fromkeys(TINY, []), TINY | {"user_id": [""] * 6}):
        with pytest.raises(ValueError, match="holds no row that can be used"):
            read(tmp_path, table)


def test_missing_and_damaged_files_are_named(tmp_path):
    schema = write_schema(tmp_path)
    with pytest.raises(ValueError, match=r"none\.csv: no such file or folder"):
        own_log.read(tmp_path / "none.csv", schema)
    with pytest.raises(ValueError, match=r"none\.toml: no such file; a log of your"):
        own_log.read(tmp_path, tmp_path / "none.toml")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty: no file here ends with one of"):
        own_log.read(tmp_path / "empty", schema)

    def refused(name: str, content: bytes) -> str:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError) as error:
            own_log.read(tmp_path / name, schema)
        assert str(tmp_path / name) in str(error.value)
        return str(error.value)

    lines = write_csv(tmp_path / "log.csv", make_table(50)).read_bytes()
    assert "is the file whole" in refused("a.csv.gz", gzip.compress(lines)[:-20])
    assert "is the file whole" in refused("a.parquet", lines)
    assert "Empty CSV file" in refused("a.csv", b"")
    assert "Expected 11 columns, got 1: u1" in refused("a.csv", lines + b"u1\n")
    assert "invalid UTF8" in refused("a.csv", lines.replace(b"u1", b"\xff"))


def test_a_key_that_stands_twice_in_json_is_refused(tmp_path):
    raw = json.dumps(tomllib.loads(SCHEMA))
    path = tmp_path / "schema.json"
    path.write_text(raw.replace('"hour": {}', '"hour": {}, "hour": {"log": true}'))
    log = write_csv(tmp_path / "log.csv", TINY)
    with pytest.raises(ValueError, match=r"schema\.json: .*'hour' stands twice"):
        own_log.read(log, path)
