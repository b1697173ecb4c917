"""Two forms of one log: whatever stores a value, it is one id and one number.

Each form is written here, read, and encoded as it is scored; nothing is trained.
"""

import csv
import datetime
import decimal
import gzip
import itertools
import json
import uuid
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from conftest import assert_same_bits

from jaxmtl.data.encoding import Encoding
from jaxmtl.data.reading.files import find_parts, read_blocks
from jaxmtl.data.reading.texts import (
    BadValue,
    canonical,
    from_values,
    kind_of,
    plain,
    texts_of,
)
from jaxmtl.data.reading.values import read_ids, read_numbers, read_times
from jaxmtl.data.sources import own_log
from jaxmtl.data.sources.own_log.encoding import read_encoding
from jaxmtl.types import Field

SCHEMA = """
name = "t"
user = "u"
item = "i"
ctr = "click"
cvr = "order"
min_count = 1
missing = ["NULL", "-9"]
[fields]
u = {}
i = {}
v = {}
tags = { separator = "|", slots = 3 }
[numeric]
price = {}
[tasks]
click = {}
order = { space = "click" }
[split]
by = "time"
column = "ts"
[extras]
duration = "length"
"""
N = 30
DAY = datetime.datetime(2026, 1, 4)
HOUR = datetime.timedelta(hours=1)
EAST = datetime.timezone(2 * HOUR)
UUIDS = [uuid.UUID(int=2**120 + i % 3) for i in range(N)]
TRUTHS = [i % 3 == 0 for i in range(N)]
WHOLE = [7 + i % 3 for i in range(N)]
DAYS = [DAY + datetime.timedelta(days=i % 3) for i in range(N)]
MOMENTS = [
    DAY + datetime.timedelta(seconds=i % 3, microseconds=500_000) for i in range(N)
]
decimals = [decimal.Decimal(v).quantize(decimal.Decimal("1.00")) for v in WHOLE]
text = lambda values: [str(value) for value in values]
utc = lambda values: [value.replace(tzinfo=datetime.UTC) for value in values]
with_gaps = lambda values: [v if i % 4 else None for i, v in enumerate(values)]

SAME = {
    "truth": [
        pa.array(TRUTHS),
        text(TRUTHS),
        ["true" if v else "false" for v in TRUTHS],
        ["TRUE" if v else "0" for v in TRUTHS],
        [int(v) for v in TRUTHS],
        [float(v) for v in TRUTHS],
        pa.array(text(TRUTHS)).dictionary_encode(),
    ],
    "whole": [
        WHOLE,
        text(WHOLE),
        [f"{v}.0" for v in WHOLE],
        [f"{v}." for v in WHOLE],
        [f"{v}.00e+00" for v in WHOLE],
        pa.array(WHOLE, pa.float32()),
        pa.array(WHOLE, pa.uint64()),
        pa.array(decimals),
        pa.array(decimals).cast(pa.decimal128(20, 9)),
        pa.array(text(WHOLE)).cast(pa.binary()),
        pa.array(text(WHOLE)).cast(pa.large_string()),
        pa.array(WHOLE).dictionary_encode(),
    ],
    "gaps": [
        with_gaps(WHOLE),
        pa.array(with_gaps(WHOLE), pa.float64()),
        [v or "" for v in with_gaps(text(WHOLE))],
        [v or "NULL" for v in with_gaps(text(WHOLE))],
        [v or -9 for v in with_gaps(WHOLE)],
        [v or -9.0 for v in with_gaps(WHOLE)],
        [f"{v or -9}.0" for v in with_gaps(WHOLE)],
        pa.array([v or b"" for v in with_gaps([str(v).encode() for v in WHOLE])]),
        pa.array([v or "NULL" for v in with_gaps(text(WHOLE))]).dictionary_encode(),
    ],
    "large": [
        [2**60 + v for v in WHOLE],
        text(2**60 + v for v in WHOLE),
        pa.array([decimal.Decimal(2**60 + v) for v in WHOLE], pa.decimal128(38, 2)),
    ],
    "uuid": [
        pa.array([v.bytes for v in UUIDS], pa.uuid()),
        text(UUIDS),
        [str(v).upper() for v in UUIDS],
    ],
    "days": [
        pa.array([v.date() for v in DAYS]),
        *(pa.array(DAYS, pa.timestamp(unit)) for unit in ("s", "ms", "us", "ns")),
        [str(v.date()) for v in DAYS],
        text(DAYS),
        [v.isoformat() for v in DAYS],
        [f"{v}.000000000" for v in DAYS],
        pa.array(DAYS, pa.date64()),
    ],
    "moments": [
        *(pa.array(MOMENTS, pa.timestamp(unit)) for unit in ("ms", "us", "ns")),
        text(MOMENTS),
        [v.isoformat(timespec="milliseconds") for v in MOMENTS],
    ],
    "zoned": [
        pa.array(utc(MOMENTS), pa.timestamp("us", "UTC")),
        pa.array(utc(MOMENTS), pa.timestamp("ns", "Asia/Tokyo")),
        text(utc(MOMENTS)),
        [v.isoformat() + "Z" for v in MOMENTS],
        [v.astimezone(EAST).isoformat() for v in utc(MOMENTS)],
        [v.astimezone(EAST).strftime("%F %T.%f%z") for v in utc(MOMENTS)],
    ],
    "hours": [
        pa.array([v.time() for v in MOMENTS], pa.time64("us")),
        pa.array([v.time() for v in MOMENTS], pa.time32("ms")),
        [f"{v.time()}"[:10] for v in MOMENTS],
    ],
}
"""A column in all the ways that some writer has of storing it."""


def write_schema(folder: Path, *changes: tuple[str, str]) -> Path:
    content = SCHEMA
    for old, new in changes:
        assert old in content
        content = content.replace(old, new)
    path = folder / "schema.toml"
    path.write_text(content)
    return path


def make_table(v, **others) -> pa.Table:
    rng = np.random.default_rng(0)
    columns = {
        "u": [f"u{i % 5}" for i in range(N)],
        "i": [100 + i % 4 for i in range(N)],
        "v": v,
        "tags": [["a", "b"], [], None, ["c", "a"], ["b", None], ["a"]] * (N // 6),
        "price": rng.random(N).round(2),
        "click": (rng.random(N) < 0.5).astype(int),
        "order": [None if i % 7 == 0 else i % 2 for i in range(N)],
        "ts": list(range(N)),
        "length": [30] * N,
    }
    return pa.table(columns | others)


def cell(value) -> str:
    if isinstance(value, list):
        return "|".join("" if item is None else str(item) for item in value)
    value = value.decode() if isinstance(value, bytes) else value
    return "" if value is None else str(value)


def write_csv(path: Path, table: pa.Table) -> Path:
    """As Python writes cells; a TSV without any quote."""
    opener = gzip.open if path.name.endswith(".gz") else open
    rows = zip(*(column.to_pylist() for column in table), strict=True)
    with opener(path, "wt", newline="") as file:
        if ".tsv" in path.name:
            lines = [table.column_names, *(map(cell, row) for row in rows)]
            file.writelines("\t".join(line) + "\n" for line in lines)
        else:
            writer = csv.writer(file)
            writer.writerow(table.column_names)
            writer.writerows(map(cell, row) for row in rows)
    return path


def write_json(path: Path, table: pa.Table) -> Path:
    opener = gzip.open if path.name.endswith(".gz") else open
    with opener(path, "wt") as file:
        for row in table.to_pylist():
            held = {name: v for name, v in row.items() if v is not None}
            file.write(json.dumps(held, default=cell) + "\n")
    return path


def write_parquet(path: Path, table: pa.Table) -> Path:
    pq.write_table(table, path, row_group_size=7)
    return path


WRITERS = {
    "log.csv": write_csv,
    "log.parquet": write_parquet,
    "log.csv.gz": write_csv,
    "log.tsv": write_csv,
    "log.jsonl": write_json,
    "log.ndjson.gz": write_json,
}


def blocks(log) -> list:
    return [list(log.splits[split]) for split in ("train", "validation", "test")]


def encoded(encoding: Encoding, path: Path) -> tuple[np.ndarray, ...]:
    parts = [encoding.encode(b.batch) for b in read_blocks(path, encoding.columns)]
    return tuple(np.concatenate(its) for its in zip(*parts, strict=True))


@pytest.mark.parametrize("kind", SAME)
def test_a_value_is_one_id_however_it_is_stored(tmp_path, kind):
    schema = write_schema(tmp_path)
    paths, others = [], itertools.cycle(list(WRITERS)[2:])
    for number, values in enumerate(SAME[kind]):
        (tmp_path / f"{number}").mkdir()
        for name in ("log.csv", "log.parquet", next(others)):
            path = tmp_path / f"{number}" / name
            paths.append(WRITERS[name](path, make_table(values)))
    first, *rest = (own_log.read(path, schema) for path in paths)
    assert np.unique(blocks(first)[0][0].ids[:, 2]).size == (
        2 if kind == "truth" else 3 + (kind == "gaps")
    )
    for path, log in zip(paths[1:], rest, strict=True):
        assert log.schema == first.schema, path
        assert_same_bits(blocks(log), blocks(first))
    # Prepared from one form, rows of every other are encoded alike.
    for trained in (paths[0], paths[4], paths[-1]):
        encoding = read_encoding(trained, schema, first.schema)
        encoding = Encoding.from_json(encoding.to_json())
        expected = encoded(encoding, paths[0])
        assert (expected[0][:, 2] > 0).all()
        for path in paths:
            assert_same_bits(encoded(encoding, path), expected)


@pytest.mark.parametrize(
    "price",
    [
        pa.array(np.round(np.arange(N) / 10, 1), pa.float32()),
        pa.array(np.round(np.arange(N) / 10, 1), pa.float64()),
        pa.array(np.float16(np.round(np.arange(N) / 10, 1))),
        [f"{i / 10:.3f}" for i in range(N)],
        [f"{i}e-1" for i in range(N)],
        pa.array(
            [decimal.Decimal(i).scaleb(-1) for i in range(N)], pa.decimal128(9, 4)
        ),
        pa.array([f"{i / 10}" for i in range(N)]).dictionary_encode(),
    ],
)
def test_a_number_is_what_its_text_says(tmp_path, price):
    schema = write_schema(tmp_path)
    plain_price = [i / 10 for i in range(N)]
    want = own_log.read(
        write_csv(tmp_path / "a.csv", make_table(WHOLE, price=plain_price)), schema
    )
    got = own_log.read(
        write_parquet(tmp_path / "a.parquet", make_table(WHOLE, price=price)), schema
    )
    assert_same_bits(blocks(got), blocks(want))


def test_every_form_says_no_value_alike(tmp_path):
    """`missing`, whatever column and type holds what it names."""
    schema = write_schema(tmp_path)
    put = lambda values, none: [none if i % 5 == 0 else v for i, v in enumerate(values)]
    prices, users = [i / 4 for i in range(N)], [f"u{i % 5}" for i in range(N)]
    tags = [["a", "b"], ["c"], ["a"]] * (N // 3)
    labels, lengths = [i % 2 for i in range(N)], list(range(10, 10 + N))
    logs = []
    for number, (word, code, kind) in enumerate(
        [(None, None, None), ("NULL", -9, None), ("", -9.0, None), ("NULL", "-9", str)]
    ):
        cast = kind or (lambda value: value)
        table = make_table(
            WHOLE,
            u=put(users, word),
            price=put(list(map(cast, prices)), code),
            length=put(list(map(cast, lengths)), code),
            tags=[[*its, word] for its in tags],
            order=put(list(map(cast, labels)), code),
        )
        for name, write in WRITERS.items():
            path = write(tmp_path / f"{number}-{name}", table)
            logs.append((path, own_log.read(path, schema)))
    assert logs[0][1].counts == {"read": N, "kept": N - 6, "dropped: no u": 6}
    for path, log in logs[1:]:
        assert log.counts == logs[0][1].counts, path
        assert_same_bits(blocks(log), blocks(logs[0][1]))


def test_what_is_given_in_python_is_scored_as_from_a_file(tmp_path):
    schema = write_schema(tmp_path)
    path = write_csv(tmp_path / "log.csv", make_table(TRUTHS))
    log = own_log.read(path, schema)
    encoding = read_encoding(path, schema, log.schema)
    want = encoded(encoding, path)
    table = make_table(TRUTHS)
    lists = {name: table[name].to_pylist() for name in table.column_names}
    lists["tags"] = [cell(value) for value in lists["tags"]]
    for rows in (
        table,
        lists,
        lists | {"v": np.array(TRUTHS), "i": np.float32(lists["i"])},
    ):
        assert_same_bits(encoding.encode(rows), want)
    null = encoding.encode(lists | {"tags": ["NULL|a"] * N, "u": ["NULL"] * N})
    bare = encoding.encode(lists | {"tags": ["a"] * N, "u": [None] * N})
    assert_same_bits(null, bare)


STORED = {
    "lists": [
        pa.array([["a", "NULL"], [], None, ["b", "a", "c"]], kind)
        for kind in (
            pa.list_(pa.string()),
            pa.large_list(pa.large_string()),
            pa.list_view(pa.string()),
            pa.list_(pa.binary()),
        )
    ]
    + [
        pa.array([["a", "NULL"], [], None, ["b", "a", "c"]]).cast(
            pa.list_(pa.dictionary(pa.int32(), pa.string()))
        ),
        pa.DictionaryArray.from_arrays(
            pa.array([0, 1, None, 2]), pa.array([["a", "NULL"], [], ["b", "a", "c"]])
        ),
        pa.array(["a|NULL", "", None, "b|a|c"], pa.string_view()),
    ],
    "single": [
        pa.RunEndEncodedArray.from_arrays([2, 4], ["7", "8"]),
        pa.chunked_array([[7], [], [7, 8, 8]]),
        pa.array([7, 7, 8, 8], pa.decimal32(5, 2)),
        pa.array([b"7", b"7", b"8", b"8"], pa.binary(1)),
        pa.ExtensionArray.from_storage(pa.json_(), pa.array(["7", "7", "8", "8"])),
        np.array([7, 7, 8, 8]),
        [7, "7", 8.0, b"8".decode()],
    ],
}


@pytest.mark.parametrize("kind", STORED)
def test_nesting_and_packing_mean_nothing(kind):
    slots = {"lists": 3, "single": 1}[kind]
    found = [
        read_ids(
            plain(column, ("NULL",)),
            Field("a", "a", slots),
            "|" if slots > 1 else None,
            ("NULL",),
        )
        for column in STORED[kind]
    ]
    none = [None] * 3
    want = (
        ["7", "7", "8", "8"] if slots == 1 else ["a", *none[1:], *none, *none, *"bac"]
    )
    for ids, cut in found:
        assert (ids.to_pylist(), cut) == (want, 0)


# Texts


@pytest.mark.parametrize(
    ("texts", "kind", "expected"),
    [
        (["True", "false", "", "1.0"], "truth", ["1", "0", "", "1"]),
        (
            ["7", "7.0", "007", "-0", "1e+06"],
            "whole",
            ["7", "7", "007", "0", "1000000"],
        ),
        (["1.5e+00", "1.0E7", "1e+16"], "whole", ["1.5e+00", "10000000", "1e+16"]),
        (["7", "7.0", "x"], "text", ["7", "7.0", "x"]),
        (["1.0", "1.10"], "text", ["1.0", "1.10"]),
        (["1e5", "100000"], "text", ["1e5", "100000"]),
        ([" 7", "7"], "text", [" 7", "7"]),
        (["true", "maybe"], "text", ["true", "maybe"]),
        (["nan", "NA"], "text", ["nan", "NA"]),
        (["Caf\u00e9", "Cafe\u0301"], "text", ["Caf\u00e9", "Cafe\u0301"]),
        (["2026-02-30", "2026-01-04T00:00"], "time", ["2026-02-30", "2026-01-04"]),
        (["2026-13-01"], "text", ["2026-13-01"]),
        (["12:30", "12:30:00.50"], "hours", ["12:30:00", "12:30:00.5"]),
        (["0001-01-01T00:00+01"], "time", ["0001-01-01T00:00+01"]),
        (
            ["2026-01-04T00:30:00.10-0100", "2026-01-04 00:00:00Z"],
            "time",
            ["2026-01-04 01:30:00.1Z", "2026-01-04 00:00:00Z"],
        ),
        ([""], "text", [""]),
    ],
)
def test_the_one_text(texts, kind, expected):
    column = pa.array(texts, pa.string())
    assert kind_of(column) == kind
    once = canonical(column, kind)
    assert once.to_pylist() == expected
    assert canonical(once, kind).to_pylist() == expected


def test_a_time_with_a_zone_is_none_without(tmp_path):
    zoned, naive = (pa.array(DAYS[:1], pa.timestamp("us", tz)) for tz in ("UTC", None))
    assert texts_of(zoned).to_pylist() == ["2026-01-04 00:00:00Z"]
    assert texts_of(naive).to_pylist() == ["2026-01-04"]


@pytest.mark.parametrize(
    ("column", "message", "at"),
    [
        (pa.array([decimal.Decimal("7.00"), decimal.Decimal("7.50")]), "holds 7.50", 1),
        (pa.array([b"a", b"\xff"]), "are no UTF-8 text", 1),
        (pa.array([b"a" * 4, b"\xfe" * 4], pa.binary(4)), "no UTF-8 text", 1),
        (pa.array([1.0, 1.5]), "an id in a column of type double must be a whole", 1),
        (pa.array([{"a": 1}]), "type struct<a: int64>; expected texts", None),
        (pa.array([1], pa.duration("s")), "type duration\\[s\\]; expected texts", None),
    ],
)
def test_what_has_no_text_is_refused_by_its_row(column, message, at):
    with pytest.raises(BadValue, match=message) as error:
        texts_of(plain(column))
    assert error.value.at == at


def test_values_of_several_types_are_their_texts():
    assert from_values([7, "7", None, True, 7.0, 2**70]).to_pylist() == [
        *("7", "7", None, "true", "7", str(2**70))
    ]
    assert from_values([[1, "x"], None, [float("nan")]]).to_pylist() == [
        *(["1", "x"], None, [None])
    ]
    with pytest.raises(BadValue, match="several types"):
        from_values([7, {"a": 1}])


# Times


def test_times_keep_their_order_in_every_form():
    above = [2**63 + i for i in range(3)]
    for column in (
        pa.array(above, pa.uint64()),
        text(above),
        pa.array([decimal.Decimal(v) for v in above]),
    ):
        assert read_times(plain(column)).to_pylist() == above
    assert read_times(pa.array([1, 2], pa.uint64())).type == pa.int64()
    stamps = ["2026-01-01T00:00:00.123456789Z", "2026-01-01T00:00:00.123456788Z"]
    assert read_times(pa.array(stamps)).type == pa.timestamp("ns", "UTC")
    assert read_times(pa.array(stamps)).cast(pa.int64()).to_pylist()[0] % 10 == 9
    assert read_numbers(pa.array(["-0", " 1"][:1])).tolist() == [0]


@pytest.mark.parametrize(
    ("one", "two", "expected"),
    [
        (pa.array([5, 6]), pa.array([2**63], pa.uint64()), [5, 6, 2**63]),
        (pa.array([5, 6]), pa.array([6.5]), [5, 6, 6.5]),
        (
            pa.array([1000], pa.timestamp("ns")),
            pa.array([2], pa.timestamp("us")),
            [1000, 2000],
        ),
        (
            pa.array([1001], pa.timestamp("ns")),
            pa.array([2**62], pa.timestamp("us")),
            [1, 2**62],
        ),
    ],
)
def test_parts_may_store_time_in_several_types(one, two, expected):
    from jaxmtl.data.sources.own_log.columns import _join_times

    assert _join_times(Path("log"), "ts", [one, two]).tolist() == expected
    with pytest.raises(ValueError, match="column 'ts': mixes times of the types"):
        _join_times(Path("log"), "ts", [pa.array([2**60 + 1]), pa.array([0.5])])


# Files


def test_a_tsv_has_no_quotes(tmp_path):
    users = ['"shoes' if i in (3, 10) else f"u{i % 3}" for i in range(N)]
    users[20] = '"u1"'
    path = write_csv(tmp_path / "log.tsv", make_table(WHOLE, u=users))
    log = own_log.read(path, write_schema(tmp_path))
    assert log.counts == {"read": N, "kept": N}
    texts = read_encoding(path, tmp_path / "schema.toml", log.schema).texts["u"]
    assert texts.to_pylist() == ['"shoes', '"u1"', "u0", "u1", "u2"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (['"a",1', '"b"x,1'], "line 3: the quote closes in the middle of a cell"),
        (['"a,1', "b,1", 'c,"d"'], None),
        (
            ['"shoes,1', "b,1", '"boots,1'],
            "line 4: the quote of line 2 closes in the middle of a cell",
        ),
        (["a,1", 'b,"1', "c,1"], "line 3: a quote opens and never closes"),
        (
            ["a,1", '"b,1', "c,1"],
            "line 3: a quote opens|Row #3: Expected 2|line 3: Exp",
        ),
        (['a"b,1', '5" pipe,1', '"say ""so""",1', '"two\nlines",1', '"",1'], None),
        (['"a"\r', '"b",1\r'], None),
    ],
)
def test_quotes_of_a_csv(tmp_path, lines, message):
    from jaxmtl.data.reading.delimited import read_columns

    path = tmp_path / "log.csv"
    path.write_bytes(("\ufeffu,n\n" + "\n".join(lines) + "\n").encode())
    read = lambda: list(read_blocks(path, {"u": "fields.u"}))
    if message is None:
        try:
            read()
        except ValueError as error:  # what Arrow refuses by itself
            assert "Expected 2 columns" in str(error)
        return
    for reader in (read, lambda: read_columns(path, {"u": str})):
        with pytest.raises(ValueError, match=message) as error:
            reader()
        assert str(path) in str(error.value)


def test_quotes_are_found_wherever_a_block_ends(tmp_path):
    from jaxmtl.data.reading.quotes import BadQuote, CheckedQuotes

    good = b'\xef\xbb\xbf"a\n",b\n"x ""y"" \n z",1\nc"d,"e"\n"f",'
    for size, (bad, line) in itertools.product(
        range(1, 40), [(b"2", 0), (b'"g"h\n', 6), (b'"g', 6)]
    ):
        (tmp_path / "a").write_bytes(good + bad)
        with (tmp_path / "a").open("rb") as file:
            checked, read = CheckedQuotes(file), b""
            try:
                while piece := checked.read(size):
                    read += piece
            except BadQuote as error:
                assert str(error).startswith(f"line {line}: ") and line, (size, bad)
            else:
                assert not line and read == good + bad


def test_folders_of_folders_are_read_and_named_ones_are_columns(tmp_path):
    schema = write_schema(tmp_path, ("v = {}", "v = {}\ndt = {}\ncity = {}"))
    table = make_table(WHOLE)
    log = tmp_path / "log"
    places = {
        "dt=2026-01-01/city=K%C3%B6ln/part-0.csv": (0, 10),
        "dt=2026-01-01/city=a%2Fb/part-0.csv.gz": (10, 15),
        "dt=2026-01-02/city=__HIVE_DEFAULT_PARTITION__/part-0.jsonl": (15, 20),
        "dt=2026-01-02/city=K%C3%B6ln/deep/part-0.parquet": (20, N),
    }
    for name, (start, end) in places.items():
        path = log / name
        path.parent.mkdir(parents=True, exist_ok=True)
        WRITERS[path.name.replace("part-0", "log")](
            path, table.slice(start, end - start)
        )
    # Markers and texts beside the parts are none.
    (log / "dt=2026-01-01" / "_temporary").mkdir()
    (log / "dt=2026-01-01" / "_temporary" / "part-1.csv").write_text("half")
    (log / "_SUCCESS").write_text("")
    (log / "README.md").write_text("of the log")
    cities = ["Köln"] * 10 + ["a/b"] * 5 + [None] * 5 + ["Köln"] * 10
    days = [datetime.date(2026, 1, 1)] * 15 + [datetime.date(2026, 1, 2)] * 15
    flat = table.append_column("dt", [days]).append_column("city", [cities])
    want = own_log.read(write_parquet(tmp_path / "flat.parquet", flat), schema)
    got = own_log.read(log, schema)
    assert got.counts == want.counts == {"read": N, "kept": N}
    assert got.schema == want.schema
    assert_same_bits(blocks(got), blocks(want))
    encoding = read_encoding(log, schema, got.schema)
    expected = encoded(encoding, tmp_path / "flat.parquet")
    order = [first for first, _ in sorted(places.items())]
    assert [str(part.relative_to(log)) for part in find_parts(log)] == order
    rows = np.concatenate([np.arange(*places[name]) for name in order])
    assert_same_bits(encoded(encoding, log), tuple(column[rows] for column in expected))


def test_a_folder_called_as_a_file_is_a_folder(tmp_path):
    (tmp_path / "log" / "day.csv").mkdir(parents=True)
    write_csv(tmp_path / "log" / "day.csv" / "part-0.csv", make_table(WHOLE))
    log = own_log.read(tmp_path / "log", write_schema(tmp_path))
    assert log.counts["read"] == N


def test_parts_without_a_row_that_can_be_used_change_nothing(tmp_path):
    (tmp_path / "log").mkdir()
    days = [str(DAY + i * HOUR) for i in range(N)]
    table = make_table(WHOLE, ts=days)
    write_csv(tmp_path / "log" / "a.csv", table.slice(0, 0))
    write_parquet(tmp_path / "log" / "b.parquet", table.slice(0, 0))
    (tmp_path / "log" / "c.jsonl").write_text("")
    write_csv(tmp_path / "log" / "d.csv", table)
    (tmp_path / "log" / "e.jsonl").write_text(
        json.dumps(dict.fromkeys(table.column_names))
    )
    log = own_log.read(tmp_path / "log", write_schema(tmp_path))
    assert log.counts["read"] == N + 1 and log.counts["kept"] == N
    want = own_log.read(tmp_path / "log" / "d.csv", tmp_path / "schema.toml")
    assert_same_bits(blocks(log), blocks(want))


def test_what_would_be_missed_among_the_parts_is_refused_by_name(tmp_path):
    log = tmp_path / "log"
    (log / "deep").mkdir(parents=True)
    write_csv(log / "part-0.csv", make_table(WHOLE))
    for name in ("part-1.csv.bz2", "part-1", "deep/x.orc", "part-1.json"):
        (log / name).write_text("rows")
        with pytest.raises(ValueError, match="stands among the parts") as error:
            find_parts(log)
        assert str(log / name) in str(error.value)
        (log / name).unlink()
    (log / "deep" / "loop").symlink_to(log)
    with pytest.raises(ValueError, match=r"loop: is a link to a folder that holds it"):
        find_parts(log)
    (log / "deep" / "loop").unlink()
    (log / "_delta_log").mkdir()
    with pytest.raises(ValueError, match="log: is a table whose _delta_log says"):
        find_parts(log)


def test_parts_may_order_and_type_their_columns_in_their_own_way(tmp_path):
    log = tmp_path / "log"
    log.mkdir()
    table = make_table(WHOLE)
    want = own_log.read(write_csv(tmp_path / "a.csv", table), write_schema(tmp_path))
    names = table.column_names[::-1]
    write_csv(log / "a.csv", table.slice(0, 10))
    floats = table.set_column(2, "v", pa.array(WHOLE, pa.float64()))
    write_parquet(log / "b.parquet", floats.select(names).slice(10, 10))
    write_json(log / "c.jsonl", table.select(names).slice(20))
    got = own_log.read(log, tmp_path / "schema.toml")
    assert_same_bits(blocks(got), blocks(want))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (['{"u": "a", "u": "b"}'], "line 1: a key stands twice among \\['u', 'u'\\]"),
        (['{"u": "a"}', "", '{"u": '], "line 3: Expecting value"),
        (["[1]"], "line 1: expected an object"),
        (['{"x": 1}'], "no column 'u', which fields.u of the schema file asks for"),
        (["[" * 100_000], "line 1: "),
        (['{"u": 1}', '{"u": {"a": 1}}'], "column 'u': holds values of several types"),
    ],
)
def test_a_bad_line_of_json_is_named(tmp_path, lines, message):
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(ValueError, match=message) as error:
        list(read_blocks(path, {"u": "fields.u"}))
    assert str(path) in str(error.value)


def test_what_arrow_refuses_is_named_by_file_column_and_row(tmp_path):
    """A year that microseconds do not reach: Arrow alone knows, and says no row."""
    times = pa.array([*range(N - 1), 2**62], pa.timestamp("ms"))
    path = write_parquet(tmp_path / "log.parquet", make_table(WHOLE, ts=times))
    with pytest.raises(ValueError, match=rf"log\.parquet, row {N}, column 'ts': "):
        own_log.read(path, write_schema(tmp_path))
