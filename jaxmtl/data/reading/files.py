"""The files of a log, block by block, each with the columns that are asked for.

A CSV file is handed over as text, cell by cell, so that nothing about its types
is guessed from its first rows; a Parquet file with the types it states.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

PARQUET = (".parquet",)
DELIMITERS = {".csv": ",", ".csv.gz": ",", ".tsv": "\t", ".tsv.gz": "\t"}
BLOCK_BYTES = 1 << 23


def find_parts(path: Path) -> list[Path]:
    """The file itself, or a folder's files in the order of their names.

    Raises:
      ValueError: there is none whose name says that it is Parquet, CSV or TSV.
    """
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder; give that of the log")
    parts = [path]
    if path.is_dir():  # where some tools put markers beside the parts, as _SUCCESS
        parts = sorted(part for part in path.iterdir() if part.name[0] not in "._")
    parts = [part for part in parts if _ending(part) is not None]
    if not parts:
        endings = ", ".join((*PARQUET, *DELIMITERS))
        raise ValueError(f"{path}: no file here ends with one of {endings}")
    return parts


def nearest(name: str, known: Collection[str]) -> str:
    """`; did you mean 'x'?` where a known name is close, else nothing."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def read_part(
    part: Path, columns: Mapping[str, str], missing: Sequence[str]
) -> Iterator[pa.RecordBatch]:
    """The blocks of one file.

    Args:
      part: a file of `find_parts`.
      columns: name -> the key of the schema file that asks for it.
      missing: texts of a CSV cell that mean "no value", beside the empty one.

    Raises:
      ValueError: the file is damaged, or a column is missing or stands twice.
    """
    read = _read_parquet if _ending(part) in PARQUET else _read_csv
    rows = 0
    try:
        for batch in read(part, columns, missing):
            rows += batch.num_rows
            yield batch
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise ValueError(
            f"{part}, after row {rows}: {error}; is the file whole, and of the form"
            " that its name says?"
        ) from error


def _ending(part: Path) -> str | None:
    endings = (*PARQUET, *DELIMITERS)
    return next((end for end in endings if part.name.lower().endswith(end)), None)


def _read_parquet(part, columns, missing):
    del missing  # Parquet has nulls of its own
    with pq.ParquetFile(part) as file:
        _check_columns(part, file.schema_arrow.names, columns)
        yield from file.iter_batches(batch_size=65_536, columns=list(columns))


def _read_csv(part, columns, missing):
    parse = csv.ParseOptions(delimiter=DELIMITERS[_ending(part)])
    parse.newlines_in_values = True
    with csv.open_csv(str(part), parse_options=parse) as reader:
        _check_columns(part, reader.schema.names, columns)
    convert = csv.ConvertOptions(
        include_columns=list(columns),
        column_types=dict.fromkeys(columns, pa.string()),
        null_values=["", *missing],
        strings_can_be_null=True,
    )
    block = csv.ReadOptions(block_size=BLOCK_BYTES)
    with csv.open_csv(str(part), block, parse, convert) as reader:
        yield from reader


def _check_columns(part: Path, found: Sequence[str], columns: Mapping[str, str]):
    for name, key in columns.items():
        if found.count(name) == 0:
            raise ValueError(
                f"{part}: no column {name!r}, which {key} of the schema file asks"
                f" for{nearest(name, found)}; its columns are {', '.join(found)}"
            )
        if found.count(name) > 1:
            raise ValueError(f"{part}: two columns are called {name!r}; rename one")
