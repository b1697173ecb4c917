"""The files of a log, block by block, each with the columns that are asked for.

A CSV or TSV file is handed over as text, cell by cell, so that nothing about its types
is guessed from its first rows; Parquet and JSON lines with the types they state. A
TSV has no quotes: a cell is what stands between two tabs. Texts may be gzipped.
"""

from __future__ import annotations

import difflib
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from jaxmtl.data.reading.delimited import open_bytes
from jaxmtl.data.reading.json_lines import read_json_lines
from jaxmtl.data.reading.quotes import BadQuote, CheckedQuotes

PARQUET = (".parquet",)
DELIMITERS = {".csv": ",", ".csv.gz": ",", ".tsv": "\t", ".tsv.gz": "\t"}
JSON_LINES = (".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")
ENDINGS = (*PARQUET, *DELIMITERS, *JSON_LINES)
BESIDE = (".md", ".txt", ".toml", ".json")
"""Endings of what may stand beside the parts of a log: about it, and no part, unless
its name begins as Hadoop and Spark begin those of parts."""
TABLES = ("_delta_log", ".hoodie")
"""Folders of tables whose files count only where these say so."""
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
BLOCK_BYTES = 1 << 23


class Block(NamedTuple):
    """Some rows of a part: its path, the number of their first, counted from 1."""

    part: Path
    first: int
    batch: pa.RecordBatch


def find_parts(path: Path) -> list[Path]:
    """The file itself, or those of a folder and its folders in the order of names.

    What begins with a dot or an underscore is a marker that some tool put there.

    Raises:
      ValueError: there is none whose name says that it is Parquet, CSV, TSV or JSON
        lines; or one that is not and whose rows would be missed; names it.
    """
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder; give that of the log")
    files = _inside(path, ()) if path.is_dir() else [path]
    parts = [file for file in files if _ending(file) is not None]
    if not parts:
        raise ValueError(f"{path}: no file here ends with one of {', '.join(ENDINGS)}")
    for file in files:
        name = file.name.lower()
        is_beside = name.endswith(BESIDE) and not name.startswith("part-")
        if file not in parts and not is_beside:
            raise ValueError(
                f"{file}: stands among the parts of the log, and its name does not end"
                f" with one of {', '.join(ENDINGS)}; rename it if it is a part, else"
                " move it elsewhere"
            )
    return parts


def nearest(name: str, known: Collection[str]) -> str:
    """`; did you mean 'x'?` where a known name is close, else nothing."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def read_blocks(path: Path, columns: Mapping[str, str]) -> Iterator[Block]:
    """The blocks of a log's parts.

    Args:
      path: a file, or a folder. What a folder in it is called, `day=2026-01-31`, is a
        column of the files below, where these have none of that name.
      columns: name -> the key of the schema file that asks for it.

    Raises:
      ValueError: as `find_parts`, or a file is damaged, or a column is missing or
        stands twice.
    """
    for part in find_parts(path):
        folders = part.relative_to(path).parts[:-1] if path.is_dir() else ()
        first = 1
        for batch in read_part(part, columns, _named_values(folders)):
            yield Block(part, first, batch)
            first += batch.num_rows


def read_part(
    part: Path,
    columns: Mapping[str, str],
    given: Mapping[str, str | None] = MappingProxyType({}),
) -> Iterator[pa.RecordBatch]:
    """The blocks of one file.

    Args:
      part: a file of `find_parts`.
      columns: name -> the key of the schema file that asks for it.
      given: columns that hold one value in all rows, where the file has none.

    Raises:
      ValueError: the file is damaged, or a column is missing or stands twice.
    """
    ending, rows = _ending(part), 0
    read = _read_parquet if ending in PARQUET else _read_csv
    read = _read_json_lines if ending in JSON_LINES else read
    try:
        for batch in read(part, columns, given):
            rows += batch.num_rows
            yield batch
    except BadQuote as error:
        raise ValueError(f"{part}, {error}") from error
    except (pa.ArrowException, OSError, EOFError, zlib.error, UnicodeError) as error:
        raise ValueError(
            f"{part}, after row {rows}: {error}; is the file whole, and of the form"
            " that its name says?"
        ) from error


def _inside(folder: Path, above: tuple[Path, ...]) -> list[Path]:
    """The files of a folder and its folders, without markers."""
    if (here := folder.resolve()) in above:
        raise ValueError(f"{folder}: is a link to a folder that holds it; remove it")
    files: list[Path] = []
    for entry in sorted(folder.iterdir()):
        if entry.name in TABLES:
            raise ValueError(
                f"{folder}: is a table whose {entry.name} says which of its files"
                " count; write its rows as Parquet files of their own"
            )
        if entry.name[0] not in "._":
            files += _inside(entry, (*above, here)) if entry.is_dir() else [entry]
    return files


def _named_values(folders: Sequence[str]) -> dict[str, str | None]:
    """The columns that folders are called after, as Hive and Spark write them."""
    found = {}
    for folder in folders:
        name, equals, value = folder.partition("=")
        if equals:
            found[unquote(name)] = None if value == NO_VALUE else unquote(value)
    return found


def _ending(part: Path) -> str | None:
    return next((end for end in ENDINGS if part.name.lower().endswith(end)), None)


def _read_parquet(part, columns, given):
    with pq.ParquetFile(part) as file:
        own = _own_columns(part, file.schema_arrow.names, columns, given)
        for batch in file.iter_batches(batch_size=65_536, columns=own):
            yield _with_given(batch, columns, given)


def _read_csv(part, columns, given):
    ending = _ending(part)
    is_quoted = DELIMITERS[ending] == ","
    parse = csv.ParseOptions(
        delimiter=DELIMITERS[ending],
        quote_char='"' if is_quoted else False,
        newlines_in_values=is_quoted,
    )
    with open_bytes(part) as file, csv.open_csv(file, parse_options=parse) as reader:
        own = _own_columns(part, reader.schema.names, columns, given)
    convert = csv.ConvertOptions(
        include_columns=own,
        column_types=dict.fromkeys(own, pa.string()),
        null_values=[""],
        strings_can_be_null=True,
    )
    block = csv.ReadOptions(block_size=BLOCK_BYTES)
    with open_bytes(part) as file:
        checked = CheckedQuotes(file) if is_quoted else file
        with csv.open_csv(checked, block, parse, convert) as reader:
            for batch in reader:
                yield _with_given(batch, columns, given)


def _read_json_lines(part, columns, given):
    found: set[str] = set()
    with open_bytes(part) as file:
        for batch in read_json_lines(part, file, columns, found):
            own = [name for name in columns if name in found or name not in given]
            yield _with_given(batch.select(own), columns, given)
    if found:
        _own_columns(part, sorted(found), columns, given)


def _with_given(batch, columns, given):
    for name in columns:
        if name not in batch.schema.names:
            value = pa.scalar(given[name], pa.string())
            batch = batch.append_column(name, pa.repeat(value, batch.num_rows))
    return batch


def _own_columns(
    part: Path,
    found: Sequence[str],
    columns: Mapping[str, str],
    given: Mapping[str, str | None],
) -> list[str]:
    """The columns that a file has itself; refuses one that is missing."""
    for name, key in columns.items():
        if found.count(name) == 0 and name not in given:
            raise ValueError(
                f"{part}: no column {name!r}, which {key} of the schema file asks"
                f" for{nearest(name, found)}; its columns are {', '.join(found)}"
            )
        if found.count(name) > 1:
            raise ValueError(f"{part}: two columns are called {name!r}; rename one")
    return [name for name in columns if name in found]
