"""Every reader that is fuzzed: what it is given, and when its result is right."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxmtl.data.log import SPLITS, Log
from jaxmtl.data.store.checks import check_rows


class WrongResult(Exception):
    """A reader took a file and returned what its own promises rule out."""


class Reader(NamedTuple):
    """A reader under test.

    Attributes:
      write: writes a small valid input into an empty folder.
      read: reads that folder and checks the result. What it raises says how that
        went: `ValueError` and `OSError` refuse, `WrongResult` is a failure, and so
        is everything else.
      reseal: makes the checksums of a changed folder true again; None where there
        are none.
    """

    write: Callable[[Path], None]
    read: Callable[[Path], None]
    reseal: Callable[[Path], None] | None = None


def check_log(log: Log, rows: int | None = None) -> None:
    """Reads all blocks of a log and holds them against its schema and its counts.

    Args:
      log: as a source returned it.
      rows: how many the files hold; None where nobody but the reader can say.

    Raises:
      WrongResult: a block breaks the schema, or rows are lost or made up.
      ValueError: the source refuses a block.
    """
    kept = 0
    for split in SPLITS:
        for number, block in enumerate(log.splits.get(split, ())):
            try:
                check_rows(log.schema, block, f"{split}, block {number}")
            except ValueError as error:
                raise WrongResult(str(error)) from error
            strange = [n for n, c in block.extras.items() if np.isinf(c).any()]
            if strange or any((c < 0).any() for c in block.groups.values()):
                raise WrongResult(f"{split}: infinite {strange}, or a group below 0")
            kept += block.num_rows
    counts = dict(log.counts)
    read, claimed = counts.pop("read"), counts.pop("kept")
    is_whole = claimed == kept and read == kept + sum(counts.values())
    if not is_whole or rows not in (None, read):
        raise WrongResult(f"{kept} rows came out, files hold {rows}; {log.counts}")


def count_rows(
    files: Iterable[Path], headers: int = 0, *, quoted: bool = True
) -> int | None:
    """Rows of text files: their lines that are not blank, but for the headers.

    Args:
      files: to count.
      headers: lines of each that are no rows.
      quoted: whether quotation marks mean something.

    Returns:
      None where a quotation mark may hold the end of a line.
    """
    rows = 0
    for file in files:
        content = file.read_bytes()
        if content.startswith(b"\x1f\x8b"):
            content = gzip.decompress(content)
        if quoted and b'"' in content:
            return None
        lines = re.split(rb"\r\n|\r|\n", content.removeprefix(b"\xef\xbb\xbf"))
        rows += sum(map(bool, lines)) - headers
    return rows
