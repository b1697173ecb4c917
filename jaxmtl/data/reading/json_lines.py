"""JSON lines: an object a line, whose keys are columns (https://jsonlines.org).

Each value keeps the type that JSON gives it; what a line does not hold is missing, as
writers leave out what is null.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from jaxmtl.data.reading.texts import BadValue, from_values

BLOCK_ROWS = 65_536


def read_json_lines(
    part: Path, file: BinaryIO, columns: Collection[str], found: set[str]
) -> Iterator[pa.RecordBatch]:
    """The blocks of a file.

    Args:
      part: names the file in errors.
      file: its bytes.
      columns: to be read; others are skipped.
      found: receives the keys of all lines.

    Raises:
      ValueError: a line is no object, or a key stands twice in it; names the line.
    """
    held: dict[str, list] = {name: [] for name in columns}
    rows = 0
    for number, line in enumerate(file, start=1):
        text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        if not text.strip():
            continue
        try:
            row = json.loads(text, object_pairs_hook=_object)
            if not isinstance(row, dict):
                raise ValueError(f"expected an object, not {text.strip()[:50]!r}")
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"{part}, line {number}: {error}; a line must hold one JSON object"
            ) from error
        found.update(row)
        for name, values in held.items():
            values.append(row.get(name))
        rows += 1
        if rows == BLOCK_ROWS:
            yield _batch(part, held)
            held, rows = {name: [] for name in columns}, 0
    if rows:
        yield _batch(part, held)


def _object(pairs: Collection[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"a key stands twice among {[key for key, _ in pairs]}")
    return found


def _batch(part: Path, held: dict[str, list]) -> pa.RecordBatch:
    arrays = []
    for name, values in held.items():
        try:
            arrays.append(from_values(values))
        except BadValue as error:
            raise ValueError(f"{part}, column {name!r}: {error}") from error
    return pa.RecordBatch.from_arrays(arrays, list(held))
