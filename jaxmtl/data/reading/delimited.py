"""Delimited text as NumPy columns, whole or in blocks, plain or gzipped.

Arrow parses (https://arrow.apache.org/docs/cpp/csv.html); this file settles what
sources would otherwise each settle alone: columns are asked for by name and type,
whole numbers stay whole, and every refusal names file, line and column.
"""

from __future__ import annotations

import dataclasses
import gzip
import re
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
from pyarrow import csv

from jaxmtl.data.reading.quotes import BadQuote, CheckedQuotes

BLOCK_BYTES = 1 << 24
"""Of text that is parsed at a time."""


class Id(int):
    """A column of whole numbers from 0 to 2**31 - 1."""


class Name(str):
    """A column of texts of which none is empty."""


_ARROW = {
    bool: pa.bool_(),
    int: pa.int64(),
    Id: pa.int64(),
    float: pa.float64(),
    str: pa.string(),
    Name: pa.string(),
}
_FAILURE = re.compile(r"CSV.*?(?: column #(\d+))?: Row #(\d+): (.*)", re.DOTALL)
"""What Arrow says of a bad line: column, where it knows one, line, and why."""


@dataclasses.dataclass(frozen=True)
class Format:
    """How lines are written.

    Attributes:
      delimiter: between two values.
      quoted: whether "…" may enclose a value that holds the delimiter.
      header: names of the columns where the first line does not give them.
      encoding: of the bytes.
    """

    delimiter: str = ","
    quoted: bool = True
    header: tuple[str, ...] = ()
    encoding: str = "utf8"


CSV = Format()


def open_bytes(path: Path) -> BinaryIO:
    """The file's bytes, unpacked where they are gzipped, whatever its name.

    Raises:
      ValueError: it cannot be opened.
    """
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        return gzip.open(path) if packed else path.open("rb")
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error}") from error


def read_header(path: Path, form: Format = CSV) -> list[str]:
    """Names of the columns, from the file's first line.

    Raises:
      ValueError: the line cannot be read.
    """
    with open_bytes(path) as file:
        try:
            line = file.readline().decode(form.encoding)
        except (OSError, EOFError, UnicodeError, zlib.error) as error:
            raise ValueError(f"{path}, line 1: {error}") from error
    names = line.removeprefix("\ufeff").rstrip("\r\n").split(form.delimiter)
    return [name.strip('"') for name in names]


def read_blocks(
    path: Path,
    columns: Mapping[str, type],
    form: Format = CSV,
    *,
    missing: float | None = None,
) -> Iterator[dict[str, np.ndarray]]:
    """Reads a file piece by piece; holds one piece in memory.

    Args:
      path: of the file, plain or gzipped.
      columns: name -> `bool` (written 0 and 1), `int`, `Id`, `float`, `str` or
        `Name`. Others are skipped.
      form: how its lines are written.
      missing: what an empty cell of a `float` column becomes; None refuses it, as
        it always is in a `bool` or an `int` column. Empty text is "".

    Yields:
      Name -> bool, int64, float64 or text, [rows], in the order of `columns`.

    Raises:
      ValueError: the file cannot be read, lacks a column, or a cell is empty or
        no finite number; names the file, and the line and the column.
    """
    header = list(form.header) or read_header(path, form)
    absent = [name for name in columns if name not in header]
    if absent:
        raise ValueError(f"{path} lacks the columns {absent}; its header is {header}")
    first = 1 if form.header else 2  # line of the first row
    with open_bytes(path) as file:
        for batch in _parse(path, file, columns, form, header):
            block = {}
            for name, kind in columns.items():
                column = batch.column(name)
                if column.null_count and (kind is not float or missing is None):
                    line = first + int(np.argmax(column.is_null()))
                    raise ValueError(
                        f"{path}, line {line}, column {name!r}: empty; expected a"
                        " number"
                    )
                block[name] = _to_numpy(column, missing)
                _check_cells(f"{path}, line", first, name, kind, block[name], column)
            first += batch.num_rows
            yield block


def read_columns(
    path: Path,
    columns: Mapping[str, type],
    form: Format = CSV,
    *,
    missing: float | None = None,
) -> dict[str, np.ndarray]:
    """Reads a whole file: the blocks of `read_blocks`, joined.

    Raises:
      ValueError: as `read_blocks`, or the file holds no row.
    """
    blocks = list(read_blocks(path, columns, form, missing=missing))
    if not any(len(column) for block in blocks for column in block.values()):
        raise ValueError(f"{path} holds no row")
    return {name: np.concatenate([block[name] for block in blocks]) for name in columns}


def _parse(
    path: Path,
    file: BinaryIO,
    columns: Mapping[str, type],
    form: Format,
    header: list[str],
) -> Iterator[pa.RecordBatch]:
    is_csv = form.quoted and form.delimiter == ","
    try:
        yield from csv.open_csv(
            CheckedQuotes(file) if is_csv else file,
            csv.ReadOptions(
                block_size=BLOCK_BYTES,
                use_threads=False,  # with them, Arrow does not know the line
                column_names=form.header or None,
                encoding=form.encoding,
            ),
            csv.ParseOptions(
                delimiter=form.delimiter,
                quote_char='"' if form.quoted else False,
            ),
            csv.ConvertOptions(
                column_types={name: _ARROW[kind] for name, kind in columns.items()},
                include_columns=list(columns),
            ),
        )
    except BadQuote as error:
        raise ValueError(f"{path}, {error}") from error
    except (pa.ArrowException, OSError, EOFError, zlib.error) as error:
        found = _FAILURE.search(str(error))
        if found is None:
            raise ValueError(f"{path}: {error}") from error
        column, line, why = found.groups()
        where = f", column {header[int(column)]!r}" if column else ""
        raise ValueError(f"{path}, line {line}{where}: {why}") from error


def _check_cells(
    where: str,
    first: int,
    name: str,
    kind: type,
    values: np.ndarray,
    column: pa.Array,
) -> None:
    """Refuses cells that parse and mean nothing: one infinity spoils a whole scale."""
    if kind is float:
        present = column.is_valid().to_numpy(zero_copy_only=False)
        right = ~present | (np.abs(values) <= np.finfo(np.float32).max)
        expected = "a finite number that float32 holds"
    elif kind is Id:
        right = (values >= 0) & (values <= np.iinfo(np.int32).max)
        expected = "a whole number from 0 to 2**31 - 1"
    elif kind is Name:
        right, expected = values != "", "some text"
    else:
        return
    if not right.all():
        at = int(np.argmin(right))
        raise ValueError(
            f"{where} {first + at}, column {name!r}: {str(values[at])!r}; expected"
            f" {expected}"
        )


def _to_numpy(column: pa.Array, missing: float | None) -> np.ndarray:
    if pa.types.is_string(column.type):
        # Through the distinct values: of a million rows there are few.
        codes = column.dictionary_encode()
        values = np.array(codes.dictionary.to_pylist() or [""], np.str_)
        return values[codes.indices.to_numpy()]
    if column.null_count:
        column = column.fill_null(missing)
    return column.to_numpy(zero_copy_only=False)  # Arrow packs booleans into bits
