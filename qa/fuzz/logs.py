"""Small valid logs in the true formats of their publishers, and their readers."""

from __future__ import annotations

import csv
import decimal
import gzip
import hashlib
import io
import json
import struct
import tomllib
import uuid
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from jaxmtl.data.log import Log
from jaxmtl.data.sources import (
    ali_ccp,
    aliexpress,
    criteo_uplift,
    hillstrom,
    kuairand,
    lt4rec_sample,
    movielens,
    own_log,
)
from jaxmtl.data.sources.ali_ccp import preprocessed as ali_ccp_preprocessed
from jaxmtl.data.sources.ali_ccp.protocol import AliCcpOptions
from jaxmtl.data.sources.kuairand import tables as kuairand_tables
from jaxmtl.data.sources.own_log import description as own_log_description
from qa.fuzz.forms import frame
from qa.fuzz.readers import Reader, check_log, count_rows

SECOND = 1_600_000_000
KEPT = ".schema.toml"
"""A description that stays as it is: files that begin with a dot do."""
DESCRIPTION = """name = "shop"
user = "user_id"
item = "item_id"
ctr = "click"
cvr = "order"
min_count = 1
missing = ["NULL"]

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
by = "time"
column = "ts"
validation = 0.15
test = 0.2

[extras]
duration = "length"
"""


def own_table(n: int = 40) -> dict[str, list]:
    """Columns of the log that `DESCRIPTION` describes."""
    rng = np.random.default_rng(0)
    click = rng.integers(0, 2, n)
    return {
        "user_id": [f"u{u}" for u in rng.integers(0, 5, n)],
        "item_id": rng.integers(100, 110, n).tolist(),
        "last_item": [i if i % 4 else "" for i in rng.integers(100, 110, n).tolist()],
        "tags": ["a|b", "", "c", "a|b|c"] * (n // 4),
        "price": (rng.integers(1, 99, n) / 4).tolist(),
        "hour": rng.integers(0, 24, n).tolist(),
        "click": click.tolist(),
        "order": (click * rng.integers(0, 2, n)).tolist(),
        "spend": rng.integers(0, 500, n).tolist(),
        "ts": rng.permutation(n).tolist(),
        "length": rng.integers(5, 99, n).tolist(),
    }


def write_rows(path: Path, rows: Iterable[Sequence], by: str = ",") -> None:
    """Writes delimited lines, gzipped where the name says so."""
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=by, lineterminator="\n").writerows(rows)
    content = text.getvalue().encode("latin1" if by == "|" else "utf8")
    if path.suffix == ".gz":
        content = gzip.compress(content, mtime=0)
    path.write_bytes(content)


def write_table(path: Path, table: dict[str, list]) -> None:
    """Writes columns with their names in the first line."""
    write_rows(path, [list(table), *zip(*table.values(), strict=True)])


def own_stored(n: int = 40) -> pa.Table:
    """The same log in types that Parquet stores; its values mean what they meant."""
    table = own_table(n)
    started = np.datetime64("2026-01-01T00:00:00.123456789", "ns")
    users = [int(user[1:]) for user in table["user_id"]]
    ids = pa.array([uuid.UUID(int=user).bytes for user in users], pa.binary(16))
    columns = {
        "user_id": pa.ExtensionArray.from_storage(pa.uuid(), ids),
        "item_id": pa.array(table["item_id"]).dictionary_encode(),
        "last_item": pa.array(
            [item or None for item in table["last_item"]], pa.float64()
        ),
        "tags": pa.array([text.split("|") for text in table["tags"]]),
        "price": pa.array(table["price"], pa.float32()),
        "hour": pa.array(map(decimal.Decimal, table["hour"]), pa.decimal128(9, 2)),
        "click": pa.array(np.array(table["click"], bool)),
        "order": pa.array(table["order"], pa.uint8()),
        "spend": pa.array([str(spend).encode() for spend in table["spend"]]),
        "ts": pa.array(started + np.array(table["ts"])),
        "length": pa.array(table["length"], pa.int16()),
    }
    return pa.table(columns)


def write_json_lines(path: Path, table: dict[str, list]) -> None:
    """Writes an object a line, without what is empty."""
    rows = zip(*table.values(), strict=True)
    lines = (
        json.dumps({n: v for n, v in zip(table, row, strict=True) if v != ""})
        for row in rows
    )
    path.write_text("\n".join(lines) + "\n")


def _write_own_log(name: str, folder: Path) -> None:
    (folder / KEPT).write_text(DESCRIPTION)
    write_table(folder / name, own_table())


def _write_own_tsv(folder: Path) -> None:
    (folder / KEPT).write_text(DESCRIPTION)
    table = own_table()
    table["user_id"] = [f'"{user}' for user in table["user_id"]]  # a TSV has no quotes
    rows = [list(table), *zip(*table.values(), strict=True)]
    lines = ("\t".join(map(str, row)) for row in rows)
    (folder / "log.tsv").write_text("\n".join(lines) + "\n")


def _write_own_json_lines(folder: Path) -> None:
    (folder / KEPT).write_text(DESCRIPTION)
    write_json_lines(folder / "log.jsonl", own_table())


def _write_own_stored(folder: Path) -> None:
    (folder / KEPT).write_text(DESCRIPTION)
    # Without compression a changed byte is a changed value.
    pq.write_table(own_stored(), folder / "log.parquet", compression="none")


def _write_own_nanoseconds(folder: Path) -> None:
    (folder / KEPT).write_text(DESCRIPTION)
    table = own_table()
    table["ts"] = [f"2026-01-01T00:00:{at:02}.123456789Z" for at in table["ts"]]
    table["user_id"] = [str(uuid.UUID(int=int(u[1:]))) for u in table["user_id"]]
    write_table(folder / "log.csv", table)


def _write_own_folders(folder: Path) -> None:
    """Parts in several forms below folders that are called after a column."""
    (folder / KEPT).write_text(DESCRIPTION)
    table = own_table()
    del table["hour"]
    parts = ("hour=7/part-0.csv.gz", "hour=8/part-0.csv", "hour=9/deep/part-0.jsonl")
    for number, name in enumerate(parts):
        path = folder / "log" / name
        path.parent.mkdir(parents=True)
        rows = {name: its[number::3] for name, its in table.items()}
        (write_json_lines if path.suffix == ".jsonl" else write_table)(path, rows)


def _write_parquet(folder: Path) -> None:
    (folder / KEPT).write_text(DESCRIPTION)
    table = own_table()
    table["last_item"] = [item or None for item in table["last_item"]]
    table["tags"] = [text.split("|") for text in table["tags"]]
    pq.write_table(
        pa.table(table), folder / "log.parquet", row_group_size=16, compression="zstd"
    )


def _write_json_description(folder: Path) -> None:
    text = json.dumps(tomllib.loads(DESCRIPTION), indent=1)
    (folder / "schema.json").write_text(text)


def _write_toml_description(folder: Path) -> None:
    (folder / "schema.toml").write_text(DESCRIPTION)


def _read_own_log(name: str, folder: Path) -> None:
    log = own_log.read(folder / name, folder / KEPT)
    check_log(log, None if "parquet" in name else count_rows([folder / name], 1))


def _read_own_tsv(folder: Path) -> None:
    log = own_log.read(folder / "log.tsv", folder / KEPT)
    check_log(log, count_rows([folder / "log.tsv"], 1, quoted=False))


def _count_lines(files: Iterable[Path]) -> int:
    """Lines of JSON: a byte order mark may begin a file, and is no part of one."""
    contents = (file.read_bytes().removeprefix(b"\xef\xbb\xbf") for file in files)
    return sum(bool(line.strip()) for text in contents for line in text.split(b"\n"))


def _read_own_json_lines(folder: Path) -> None:
    log = own_log.read(folder / "log.jsonl", folder / KEPT)
    check_log(log, _count_lines([folder / "log.jsonl"]))


def _read_own_folders(folder: Path) -> None:
    log = own_log.read(folder / "log", folder / KEPT)
    rows = count_rows([*folder.rglob("*.csv*")], 1)
    lines = _count_lines(folder.rglob("*.jsonl"))
    check_log(log, None if rows is None else rows + lines)


def encode_example(features: dict[str, list]) -> bytes:
    """`tf.train.Example` in protobuf's wire format.

    https://protobuf.dev/programming-guides/encoding: a key, (number << 3) | type,
    before each value; type 2 is bytes behind their length, 0 a varint, 5 four bytes.
    """

    def varint(number: int) -> bytes:
        low, rest = number & 127, number >> 7
        return bytes([low | 128]) + varint(rest) if rest else bytes([low])

    def part(number: int, content: bytes) -> bytes:
        return bytes([number << 3 | 2]) + varint(len(content)) + content

    def feature(values: list) -> bytes:
        kind = {bytes: 1, float: 2, int: 3}[type(values[0])]
        packed = {
            1: lambda: b"".join(part(1, value) for value in values),
            2: lambda: part(1, struct.pack(f"<{len(values)}f", *values)),
            3: lambda: part(1, b"".join(map(varint, values))),
        }
        return part(kind, packed[kind]())

    entries = (
        part(1, name.encode()) + part(2, feature(values))
        for name, values in features.items()
    )
    return part(1, b"".join(part(1, entry) for entry in entries))


def _write_tfrecord(folder: Path) -> None:
    records = []
    for i in range(24):
        example: dict[str, list] = {
            f"FEA_{f.name.upper()}": [f"{f.vocabulary}-{i % 3}".encode()]
            * min(f.slots, 1 + i % 3)
            for f in lt4rec_sample.FIELDS
        }
        example |= {
            "FEA_DURATION": [b"60"],
            "label": [i % 2],
            "cvrlabel": [0.5 * (i % 2)],
            "seqnum": [f"ab12@{SECOND + i}123@7".encode()],
        }
        records.append(frame(encode_example(example)))
    (folder / "part-0").write_bytes(b"".join(records))
    (folder / "part-1.gz").write_bytes(gzip.compress(b"".join(records), mtime=0))


def _write_ali_ccp(folder: Path) -> None:
    rng = np.random.default_rng(0)

    def features(names: Sequence[str]) -> str:
        cells = [f"{n}\x02{rng.integers(9)}\x03{rng.integers(1, 9) / 2}" for n in names]
        return f"{len(cells)},{chr(1).join(cells)}"

    users = ("101", "121", "109_14", "109_14", "150_14")
    own = ("205", "206", "210", "210", "508", "301", "999")
    for part, n in (("train", 30), ("test", 12)):
        md5s = [f"{rng.integers(2**63):016x}" for _ in range(5)]
        common = "".join(f"{md5},{features(users)}\n" for md5 in md5s)
        shown = "".join(
            f"{i + 1},{i % 2},{int(i % 5 == 0)},{md5s[i % 5]},{features(own)}\n"
            for i in range(n)
        )
        (folder / f"common_features_{part}.csv").write_text(common)
        (folder / f"sample_skeleton_{part}.csv").write_text(shown)


def _write_preprocessed(folder: Path) -> None:
    rng = np.random.default_rng(0)
    numeric = ali_ccp_preprocessed.NUMERIC
    for split in ("train", "val", "test"):
        table = {
            "click": rng.integers(0, 2, 15).tolist(),
            "purchase": rng.integers(0, 2, 15).tolist(),
            **{
                field.name: rng.integers(0, 9, 15).tolist()
                for field in ali_ccp_preprocessed.FIELDS
            },
            **{name: rng.normal(3, 2, 15).round(4).tolist() for name in numeric},
        }
        write_table(folder / f"ali_ccp_{split}.csv", table)


def _read_ali_ccp(pattern: str, headers: int, folder: Path) -> None:
    log = ali_ccp.read(folder, AliCcpOptions(min_count=1, validation=0.3))
    check_log(log, count_rows(folder.glob(pattern), headers))


def _write_aliexpress(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for name, n in (("train.csv", 30), ("test.csv", 10)):
        table = {
            "search_id": np.repeat(np.arange(n // 2), 2).tolist(),
            **{
                f.name: rng.integers(0, 9, n).tolist()
                for f in aliexpress.COLUMNS.fields
            },
            **{
                n_: rng.random(n).round(3).tolist() for n_ in aliexpress.COLUMNS.numeric
            },
            "click": [i % 2 for i in range(n)],
            "conversion": [int(i % 4 == 1) for i in range(n)],
        }
        write_table(folder / name, table)


def _kuairand_log(n: int) -> dict[str, list]:
    rng = np.random.default_rng(n)
    return {
        "user_id": rng.integers(0, 6, n).tolist(),
        "video_id": rng.integers(0, 8, n).tolist(),
        "hourmin": (100 * rng.integers(0, 24, n)).tolist(),
        "time_ms": (SECOND * 1000 + rng.permutation(9 * n)[:n]).tolist(),
        "is_click": rng.integers(0, 2, n).tolist(),
        "long_view": rng.integers(0, 2, n).tolist(),
        "play_time_ms": rng.integers(0, 60_000, n).tolist(),
        "duration_ms": rng.choice([0, 6_000, 30_000], n).tolist(),
        "tab": [i % 3 for i in range(n)],
    }


def _kuairand_table(key: str, n: int, fields, numbers) -> dict[str, list]:
    return {
        key: list(range(n)),
        **{name: [f"{i % 3}" for i in range(n)] for name in fields},
        **{name: [i * 100 for i in range(n)] for name in numbers},
    }


def _write_kuairand(folder: Path) -> None:
    write_table(folder / "log_standard_1.csv", _kuairand_log(20))
    write_table(folder / "log_standard_2.csv", _kuairand_log(16))
    users = (kuairand_tables.USER_FIELDS, kuairand_tables.USER_NUMBERS)
    videos = (kuairand_tables.VIDEO_FIELDS, kuairand_tables.VIDEO_NUMBERS)
    table = _kuairand_table("user_id", 5, *users)
    write_table(folder / "user_features_1k.csv", table)
    table = _kuairand_table("video_id", 7, *videos)
    table["tag"] = ["1,2", "", "3", "4", "5", "1", "2,3,4,5,6"]
    write_table(folder / "video_features_basic_1k.csv", table)


def _write_kuairand_joined(folder: Path) -> None:
    table = _kuairand_log(32)
    table |= {"author_id": table["user_id"], "tag": table["tab"]}
    write_table(folder / "joined.csv", table)


def _write_hillstrom(folder: Path) -> None:
    names = [field.name for field in hillstrom.FIELDS]
    header = (*names, *hillstrom.NUMERIC, "visit", "conversion", "spend")
    rows = [
        (*(f"{name} {i % 3}" for name in names), 1 + i % 12, 99.5 + i)
        + (int(i % 3 == 0), int(i % 9 == 0), 29.99 if i % 9 == 0 else 0)
        for i in range(40)
    ]
    write_rows(folder / "hillstrom.csv.gz", [header, *rows])
    content = gzip.decompress((folder / "hillstrom.csv.gz").read_bytes())
    # The reader knows the published file's; no stranger can change that.
    (folder / ".sha256").write_text(hashlib.sha256(content).hexdigest())


def _read_hillstrom(folder: Path) -> None:
    published = hillstrom.SHA256
    hillstrom.SHA256 = (folder / ".sha256").read_text()
    try:
        log = hillstrom.read(folder)
    finally:
        hillstrom.SHA256 = published
    check_log(log, count_rows([folder / "hillstrom.csv.gz"], 1))


def write_criteo(folder: Path) -> None:
    """Some rows of Criteo's trial."""
    rng = np.random.default_rng(0)
    columns = criteo_uplift.COLUMNS
    table: dict[str, list] = {
        n: rng.random(40).round(4).tolist() for n in columns.numeric
    }
    visit = rng.integers(0, 2, 40)
    table["treatment"] = rng.integers(0, 2, 40).tolist()
    table["conversion"] = (visit * rng.integers(0, 2, 40)).tolist()
    write_table(folder / criteo_uplift.NAMES[0], table | {"visit": visit.tolist()})


def _ratings() -> list[tuple[int, ...]]:
    return [(i % 5, i % 4, 1 + i % 5, SECOND + 60 * i) for i in range(40)]


def _write_movielens(folder: Path) -> None:
    write_rows(folder / "u.data", _ratings(), "\t")
    genres = len(movielens.GENRES)
    films = [
        (film, f"Caf\xe9 {film} (199{film})", "01-Jan-1990", "", "http://imdb")
        + tuple(int(g % 4 == film) for g in range(genres))
        for film in range(4)
    ]
    write_rows(folder / "u.item", films, "|")
    users = [(user, 20 + user, "MF"[user % 2], "artist", "1000") for user in range(5)]
    write_rows(folder / "u.user", users, "|")


def _write_recbole(folder: Path) -> None:
    header = ("user_id:token", "item_id:token", "rating:float", "timestamp:float")
    write_rows(folder / "ml-100k.inter", [header, *_ratings()], "\t")
    header = ("item_id:token", "release_year:token", "class:token_seq")
    films = [(film, 1990 + film, "Action Drama") for film in range(4)]
    write_rows(folder / "ml-100k.item", [header, *films], "\t")
    header = ("user_id:token", "age:token", "gender:token", "occupation:token")
    users = [(user, 20 + user, "MF"[user % 2], "artist") for user in range(5)]
    write_rows(folder / "ml-100k.user", [header, *users], "\t")


def _log_reader(
    write: Callable[[Path], None],
    read: Callable[[Path], Log],
    pattern: str,
    headers: int,
) -> Reader:
    """Of a source whose impressions are the lines of the files `pattern`."""

    def read_and_check(folder: Path) -> None:
        check_log(read(folder), count_rows(folder.glob(pattern), headers))

    return Reader(write, read_and_check)


READERS = {
    "tfrecord": Reader(_write_tfrecord, lambda f: check_log(lt4rec_sample.read(f))),
    **{
        f"own_{name}": Reader(
            partial(_write_own_log, f"log.{name}"),
            partial(_read_own_log, f"log.{name}"),
        )
        for name in ("csv", "csv.gz")
    },
    "own_parquet": Reader(_write_parquet, partial(_read_own_log, "log.parquet")),
    "own_tsv": Reader(_write_own_tsv, _read_own_tsv),
    "own_json_lines": Reader(_write_own_json_lines, _read_own_json_lines),
    "own_stored": Reader(_write_own_stored, partial(_read_own_log, "log.parquet")),
    "own_nanoseconds": Reader(
        _write_own_nanoseconds, partial(_read_own_log, "log.csv")
    ),
    "own_folders": Reader(_write_own_folders, _read_own_folders),
    "own_toml": Reader(
        _write_toml_description, lambda f: own_log_description.load(f / "schema.toml")
    ),
    "own_json": Reader(
        _write_json_description, lambda f: own_log_description.load(f / "schema.json")
    ),
    "ali_ccp_raw": Reader(
        _write_ali_ccp, partial(_read_ali_ccp, "sample_skeleton_*.csv", 0)
    ),
    "ali_ccp_preprocessed": Reader(
        _write_preprocessed, partial(_read_ali_ccp, "ali_ccp_*.csv", 1)
    ),
    "aliexpress": _log_reader(_write_aliexpress, aliexpress.read, "*.csv", 1),
    "kuairand": _log_reader(_write_kuairand, kuairand.read, "log_standard_*.csv", 1),
    "kuairand_joined": _log_reader(
        _write_kuairand_joined, lambda f: kuairand.read(f / "joined.csv"), "*.csv", 1
    ),
    "hillstrom": Reader(_write_hillstrom, _read_hillstrom),
    "criteo_uplift": _log_reader(write_criteo, criteo_uplift.read, "*.csv.gz", 1),
    "movielens": _log_reader(_write_movielens, movielens.read, "u.data", 0),
    "movielens_recbole": _log_reader(_write_recbole, movielens.read, "*.inter", 1),
}
"""Name -> a reader of published or of the user's own files."""
