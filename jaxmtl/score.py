"""Scores a file of raw rows with an exported folder.

    jaxmtl-score DIR rows.csv --out scores.csv      # python -m jaxmtl.score DIR …

The rows' columns are those that DIR/schema.json names: values of the log's own files,
or ids where its source keeps no vocabulary (`jaxmtl.data.encoding`). Labels are not
needed. Scores come in the order of the rows, a column a task, and `joint.<task>`: the
event of a nested task among all impressions. The ending of --out decides its form, CSV
or Parquet.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from jaxmtl import console, places
from jaxmtl.devices import compile_cache, distributed
from jaxmtl.serving.scoring import Scorer, load

WRITERS = {".csv": csv.CSVWriter, ".parquet": pq.ParquetWriter}
"""Ending of the file of scores -> what writes it."""


def command() -> int:
    """What `jaxmtl-score` runs."""
    return console.run(main)


def main(argv: Sequence[str] | None = None) -> int:
    """Scores what the command line names; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m jaxmtl.score",
        description="Scores a CSV or Parquet file of raw rows with an exported folder.",
    )
    parser.add_argument("folder", type=Path, help="what an export wrote")
    parser.add_argument("rows", type=Path, help="a file, or a folder of such")
    parser.add_argument(
        "--out", type=Path, required=True, help="a .csv or .parquet file to write"
    )
    parser.add_argument("--tasks", nargs="+", help="one task alone; default: all")
    parser.add_argument(
        "--no-compile-cache",
        action="store_true",
        help="keep no compiled programs for later commands",
    )
    options = parser.parse_args(argv)
    inputs = {"the exported folder": options.folder, "the rows": options.rows}
    try:
        places.check_file("--out", options.out, tuple(WRITERS), inputs)
        distributed.check_devices()
        if not options.no_compile_cache:
            compile_cache.use(places.default_cache(), _say)
        scored = write_scores(
            load(options.folder, options.tasks), options.rows, options.out
        )
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{scored:,} rows scored: {options.out}")
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def write_scores(scorer: Scorer, rows: Path, out: Path) -> int:
    """Writes a file of scores, whole or not at all; returns how many rows it has.

    Args:
      scorer: what scores.
      rows: a file, or a folder of such.
      out: to write; ends as one of `WRITERS`.

    Raises:
      ValueError: a row cannot be scored (names it), there is none, or `out` cannot be
        written.
    """
    make_writer = WRITERS[out.suffix.lower()]
    temporary, count = out.with_name(f".{out.name}.{os.getpid()}"), 0
    try:
        writer = None
        for block in scorer.score_file(rows):
            table = pa.table(block)
            with _naming(out):
                writer = writer or make_writer(temporary, table.schema)
                writer.write_table(table)
            count += table.num_rows
        if writer is None:
            raise ValueError(f"{rows} holds no row to score")
        with _naming(out):
            writer.close()
            os.replace(temporary, out)
    finally:
        temporary.unlink(missing_ok=True)
    return count


@contextlib.contextmanager
def _naming(out: Path) -> Iterator[None]:
    """Says of what the system refuses which file it was."""
    try:
        yield
    except OSError as error:
        raise ValueError(f"{out} cannot be written: {error}") from error


if __name__ == "__main__":
    sys.exit(command())
