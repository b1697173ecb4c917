"""Your own log: its files, and a small file that says what they hold.

    name = "my_shop"
    user = "user_id"                # fields that say who and what a row is about
    item = "item_id"
    ctr = "click"                   # tasks that play the papers' two roles
    cvr = "order"
    min_count = 2                   # rarer ids are unknown

    [fields]                        # categorical columns
    user_id = {}
    item_id = { vocabulary = "item" }
    last_item = { vocabulary = "item" }          # shares ids and embeddings
    tags = { separator = "|", slots = 5 }        # a list needs no separator

    [numeric]
    price = { log = true }

    [tasks]                         # label columns; empty = missing
    click = {}
    order = { space = "click" }     # means something where click is 1
    spend = { kind = "continuous", high = 500, space = "order" }

    [split]
    by = "time"                     # or "hash" (of a user, say), or "column"
    column = "ts"

`description` lists every key. Files are CSV, TSV (which knows no quotes), JSON lines or
Parquet. Whatever stores a value, it is the same id and number, in preparing and in
scoring (`jaxmtl.data.reading.texts`). What the log may hold:

- A missing value of a single-valued field is an id of its own, as it may tell
  something; among several values it is an empty slot.
- A missing number takes the training mean, which is 0 after scaling; how many
  there are stands in the notes. Numbers are standardised over training rows.
- A row without user, item, duration or what it is split by is dropped and counted.
- Columns that the schema file does not name are not read.
- A log with one label names it as `ctr` and as `cvr`: it is trained as the CTR.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import jax
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jaxmtl.data.log import SPLITS, Log
from jaxmtl.data.reading.scaling import moments, standardise
from jaxmtl.data.reading.vocabulary import encode
from jaxmtl.data.sources.own_log.columns import Columns, read_columns
from jaxmtl.data.sources.own_log.description import Description, load
from jaxmtl.data.sources.own_log.split import assign
from jaxmtl.types import PADDING, Rows

BLOCK_ROWS = 65_536


def read(path: str | Path, schema_path: str | Path) -> Log:
    """Reads a log of your own.

    Args:
      path: a file that ends with one of `files.ENDINGS`, or a folder of such parts
        and folders, read in the order of their names; what a folder below is called,
        `day=2026-01-31`, is a column of its parts.
      schema_path: the file that describes it, in TOML or JSON.

    Returns:
      Three splits in blocks of at most `BLOCK_ROWS` rows, in the order of time if
      split by it, else of the files. Ids do not depend on that order. Held in
      memory as arrays, about four bytes a value.

    Raises:
      ValueError: a file is missing or damaged, the description has a mistake, a
        column is missing, or a value cannot be used; names the file and the key,
        or the column and row.
    """
    description = load(schema_path)
    columns = read_columns(Path(path), description)
    try:
        return _encode(Path(path), description, columns)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _encode(path: Path, description: Description, columns: Columns) -> Log:
    """The rows of a log as ids and scaled numbers, split and in order."""
    split = assign(description.split, columns)
    codes = _number_values(description, columns)
    vocabularies, ids = encode(
        description.fields, codes, split == 0, min_count=description.min_count
    )
    rows = Rows(
        ids=ids,
        numeric=_scale(columns.numeric, split == 0),
        labels=columns.labels,
        extras={n: c.astype(np.float32) for n, c in columns.extras.items()},
        groups={
            "user": _number(codes[description.user]),
            "item": _number(codes[description.item]),
        },
    )
    is_timed = columns.time is not None
    order = np.argsort(columns.time if is_timed else split, kind="stable")
    rows = jax.tree.map(lambda column: column[order], rows)
    bounds = np.append(0, np.cumsum(np.bincount(split)))
    return Log(
        schema=description.schema(vocabularies),
        splits={
            name: list(_blocks(rows, start, end))
            for name, (start, end) in zip(SPLITS, pairwise(bounds), strict=True)
        },
        counts=columns.counts,
        notes=_notes(path, description, columns),
    )


def _number_values(description: Description, columns: Columns) -> dict[str, np.ndarray]:
    """Field -> int32 [n, slots], the rank of each text in its field's vocabulary."""
    codes = {}
    for vocabulary in dict.fromkeys(f.vocabulary for f in description.fields):
        fields = [f for f in description.fields if f.vocabulary == vocabulary]
        texts = [columns.ids[field.name].texts for field in fields]
        # "" comes first: the id of "no value" where a field holds one.
        known = pc.unique(pa.concat_arrays([pa.array([""]), *texts]))
        known = known.take(pc.sort_indices(known))
        for field, its_texts in zip(fields, texts, strict=True):
            rank = pc.index_in(its_texts, value_set=known).to_numpy()
            none = 0 if field.slots == 1 else PADDING
            # Code -1, no value, picks the last.
            rank = np.append(rank, none).astype(np.int32)
            codes[field.name] = rank[columns.ids[field.name].codes]
    return codes


def _number(codes: np.ndarray) -> np.ndarray:
    return np.unique(codes, return_inverse=True)[1].ravel().astype(np.int32)


def _scale(numeric: dict[str, np.ndarray], is_train: np.ndarray) -> np.ndarray:
    """float32 [n, numerics], by the moments of the training rows."""
    values = np.reshape(list(numeric.values()), (len(numeric), is_train.size)).T
    over = moments(values[is_train])
    for name, count in zip(numeric, over.count, strict=True):
        if not count:
            raise ValueError(
                f"numeric column {name!r} holds no value in any training row; take the"
                f" key numeric.{name} off the schema file"
            )
    return standardise(values, over)


def _blocks(rows: Rows, start: int, end: int) -> Iterator[Rows]:
    for first in range(start, end, BLOCK_ROWS):
        here = slice(first, min(first + BLOCK_ROWS, end))
        yield jax.tree.map(lambda column, here=here: column[here], rows)


def _notes(path: Path, description: Description, columns: Columns) -> tuple[str, ...]:
    split = description.split
    shares = f", {split.validation:g} validation and {split.test:g} test"
    missing = {n: int(np.isnan(c).sum()) for n, c in columns.numeric.items()}
    return (
        f"{description.name}: {path.name}, split by {split.by} of {split.column!r}"
        + ("" if split.by == "column" else shares)
        + f"; ids that training holds fewer than {description.min_count} times are"
        " UNKNOWN.",
        *(
            f"numeric {name!r}: {n:,} rows without a value take the training mean"
            for name, n in missing.items()
            if n
        ),
        *(
            f"field {name!r}: {n:,} rows hold more values than its slots; the first"
            " are kept"
            for name, n in columns.cut.items()
        ),
    )
