"""Ali-CCP's text as columns: blocks of lines, and lists of features.

A list holds `field␂id␃value` triples between `␁`. With these three bytes
exchanged for commas and ends of lines it is a CSV file of three columns, which
pyarrow parses far faster than any code of ours could.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from jaxmtl.types import PADDING, Field

BLOCK_BYTES = 4 << 20
"""Of text at a time; with more, the arrays made of it no longer fit the caches."""
MISSING = 0
"""Stands for no id in a field that holds one: a value like any other, since no
combination with the user's history tells the model something."""
TO_CSV = bytes.maketrans(b"\x01\x02\x03", b"\n,,")
TRIPLE = {
    "field": pa.dictionary(pa.int32(), pa.binary()),
    "id": pa.int32(),
    "value": pa.float32(),
}


class Features(NamedTuple):
    """The features of n lines, in the file's order.

    Attributes:
      line: 0 … n - 1, [features].
      field: index into `names`, int32 [features].
      id: at least 0, int32 [features].
      value: float32 [features].
      names: of the fields.
    """

    line: np.ndarray
    field: np.ndarray
    id: np.ndarray
    value: np.ndarray
    names: tuple[str, ...]

    def count(self) -> dict[str, int]:
        """Field -> how many features it has."""
        times = np.bincount(self.field, minlength=len(self.names))
        return dict(zip(self.names, times.tolist(), strict=True))


def read_batches(
    path: Path, columns: Mapping[str, pa.DataType], *, header: bool = False
) -> Iterator[tuple[int, dict[str, pa.Array]]]:
    """Reads a CSV file without quotes, a few megabytes at a time.

    Args:
      path: of the file.
      columns: name -> type; all columns in order, or with a header some by name.
      header: whether the first line names the columns.

    Yields:
      The number of the block's first line, counted from 1, and its columns.

    Raises:
      ValueError: the file is empty, or a line breaks the form; names both.
    """
    line = 1
    with open(path, "rb") as file:
        names = list(columns)
        if header:
            line, names = 2, file.readline().decode(errors="replace").strip().split(",")
        for text in _whole_lines(file):
            try:
                table = _parse_csv(text, names, columns)
            except pa.ArrowException as error:
                number = lambda match, first=line: f"line {first - 1 + int(match[1])}"
                message = re.sub(r"\bRow #(\d+)", number, str(error))
                raise ValueError(
                    f"{path}: {message}; expected the columns {', '.join(columns)}"
                    f" {'named by' if header else 'and no names in'} the first line"
                ) from error
            yield line, {name: table[name].combine_chunks() for name in columns}
            line += table.num_rows
    if line == 1 + header:
        raise ValueError(f"{path} holds no row; download it again")


def _whole_lines(file: BinaryIO) -> Iterator[bytes]:
    # pyarrow's own streaming reads 32 blocks ahead, which is memory for nothing.
    rest = b""
    while text := file.read(BLOCK_BYTES):
        end = text.rfind(b"\n") + 1
        if end:
            yield rest + text[:end]
            rest = b""
        rest += text[end:]
    if rest:
        yield rest


def _parse_csv(
    text: bytes,
    names: Sequence[str],
    types: Mapping[str, pa.DataType],
    *,
    blank_lines: bool = False,
) -> pa.Table:
    return csv.read_csv(
        pa.BufferReader(text),
        # Errors only name their line where one thread reads.
        csv.ReadOptions(
            use_threads=False, column_names=names, block_size=len(text) + 1
        ),
        csv.ParseOptions(quote_char=False, ignore_empty_lines=blank_lines),
        csv.ConvertOptions(
            column_types=types,
            include_columns=list(types),
            null_values=[],
            check_utf8=False,
        ),
    )


def count_lines(path: Path) -> int:
    """How many lines a file has, whether or not its last one is ended."""
    lines, last = 0, b"\n"
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            lines, last = lines + chunk.count(b"\n"), chunk[-1:]
    return lines + (last != b"\n")


def parse_features(
    path: Path, lines: np.ndarray, num: pa.Array, lists: pa.Array
) -> Features:
    """Takes lists of features apart.

    Args:
      path: of the file, for errors.
      lines: [n], their numbers in it.
      num: int32 [n], how many features each list should hold.
      lists: binary [n].

    Raises:
      ValueError: a list holds another number of features than its line says, or
        something else than features; names file and line.
    """
    expected = num.to_numpy()
    found = pc.count_substring(lists, pattern=b"\x02").to_numpy()
    if (found != expected).any():
        at = int(np.argmax(found != expected))
        raise ValueError(
            f"{path}, line {lines[at]}: the list holds {found[at]} features, the line"
            f" says {expected[at]}; the line is damaged, download the file again"
        )
    texts = lists.to_pylist()
    try:
        table = _read_lists(texts, int(expected.sum()))
    except pa.ArrowInvalid:
        for number, text in zip(lines, texts, strict=True):
            _read_list(path, number, text)
        raise
    field = table["field"]
    return Features(
        np.repeat(np.arange(len(expected)), expected),
        field.indices.to_numpy(),
        table["id"].to_numpy(),
        table["value"].to_numpy(),
        tuple(name.decode(errors="replace") for name in field.dictionary.to_pylist()),
    )


def _read_lists(texts: list[bytes], num: int) -> dict[str, pa.Array]:
    if not num:  # pyarrow refuses a file without a line
        return {name: pa.array([], kind) for name, kind in TRIPLE.items()}
    text = b"\n".join(texts).translate(TO_CSV)
    table = _parse_csv(text, tuple(TRIPLE), TRIPLE, blank_lines=True)
    if table.num_rows != num or pc.min(table["id"]).as_py() < 0:
        raise pa.ArrowInvalid("an id is below 0, or a byte between features is lost")
    if not pc.all(pc.is_finite(table["value"])).as_py():
        raise pa.ArrowInvalid("a value is not finite")
    return {name: table[name].combine_chunks() for name in TRIPLE}


def _read_list(path: Path, number: int, text: bytes) -> None:
    """Raises ValueError where a list is damaged."""
    try:
        _read_lists([text], text.count(b"\x02"))
    except pa.ArrowInvalid as error:
        raise ValueError(
            f"{path}, line {number}: {text[:80]!r} is no list of features"
            " field\\x02id\\x03value between \\x01, with whole ids below 2**31; the"
            f" line is damaged, download the file again ({error})"
        ) from error


def place(fields: tuple[Field, ...], features: Features, n: int) -> np.ndarray:
    """Gives every feature a slot of its field.

    Where a field holds more ids than slots, those with the highest values stay,
    highest first, and of equal ones the first in the file.

    Args:
      fields: in the order of their slots; features of others are left out.
      features: of n lines.
      n: number of lines.

    Returns:
      int32 [n, slots of all fields], empty slots `PADDING` where a field holds
      several and `MISSING` where it holds one.
    """
    slots = np.array([f.slots for f in fields])
    first = np.cumsum(slots) - slots
    out = np.full((n, slots.sum()), PADDING, np.int32)
    out[:, first[slots == 1]] = MISSING
    code = {field.name: number for number, field in enumerate(fields)}
    code = np.array([code.get(name, len(fields)) for name in features.names], np.int64)
    code = code[features.field]
    group = features.line * (len(fields) + 1) + code
    order = _ranked(group, features.value)
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    rank = np.arange(group.size) - np.repeat(starts, np.diff(starts, append=group.size))
    stays = rank < np.append(slots, 0)[code[order]]
    order, rank = order[stays], rank[stays]
    out[features.line[order], first[code[order]] + rank] = features.id[order]
    return out


def _ranked(group: np.ndarray, value: np.ndarray) -> np.ndarray:
    """The order by group, then falling value, then place: `lexsort` in one sort.

    Groups come nearly in order, of which a stable sort makes use.
    """
    bits = value.view(np.int32)
    rising = np.where(bits < 0, bits ^ np.int32(0x7FFFFFFF), bits)
    return np.argsort((group << 32) - rising, kind="stable")
