"""The usable rows of a log's files as compact columns.

Files are read block by block. What is held of a row is four bytes a slot of ids
and at most eight a number, whatever its texts are; every distinct text is held
once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from jaxmtl.data.reading.files import read_blocks
from jaxmtl.data.reading.texts import BadValue, canonical, is_present, kind_of, plain
from jaxmtl.data.reading.values import (
    read_as,
    read_feature,
    read_ids,
    read_label,
    read_times,
)
from jaxmtl.data.sources.own_log.description import Description
from jaxmtl.types import Field

_WHOLE = (pa.int64(), pa.uint64())
_NAIVE, _ZONED = (
    [pa.timestamp(unit, tz=zone) for unit in ("us", "ns")] for zone in (None, "UTC")
)
WIDER = (
    (_WHOLE, pa.uint64(), True),
    ((*_WHOLE, pa.float64()), pa.float64(), True),
    *((moments, moments[1], True) for moments in (_NAIVE, _ZONED)),
    *((moments, moments[0], False) for moments in (_NAIVE, _ZONED)),
)
"""Types of times that may stand beside each other, the type that holds them all, and
whether it must hold them exactly: years that nanoseconds do not reach need not be."""


class Coded(NamedTuple):
    """A categorical column.

    Attributes:
      codes: int32 [n, slots], indices into `texts`; -1 = no value.
      texts: the values, in no particular order; one may stand twice.
    """

    codes: np.ndarray
    texts: pa.StringArray


class Columns(NamedTuple):
    """The usable rows of a log, in the order of its files.

    Attributes:
      ids: field -> its codes; also the column to split by, unless that is time.
      numeric: name -> float64 [n], NaN = missing.
      labels: task -> float32 [n], NaN = missing.
      extras: name -> float64 [n].
      time: [n] int64, uint64 or float64, only its order matters; None unless the log is
        split by time.
      counts: rows `read`, `kept` and `dropped: no <column>`.
      cut: field -> rows with more values than it has slots, where there are any.
      kinds: vocabulary -> the kind of its texts (`kind_of`).
    """

    ids: dict[str, Coded]
    numeric: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]
    extras: dict[str, np.ndarray]
    time: np.ndarray | None
    counts: dict[str, int]
    cut: dict[str, int]
    kinds: dict[str, str]


def read_columns(path: Path, description: Description) -> Columns:
    """Reads what a description asks for.

    Args:
      path: a file, or a folder of them.
      description: of its columns.

    Raises:
      ValueError: a file is missing or damaged, lacks a column, or holds a value
        that cannot be used; names the file, the column and the row, counted from
        1 without the header.
    """
    counts = {"read": 0, "kept": 0}
    converters = _converters(description)
    blocks: dict[_Key, list] = {key: [] for key in converters}
    for block in _usable_blocks(path, description, counts):
        for key, convert in converters.items():
            blocks[key].append(_convert(block, key.column, convert))
    if not counts["kept"]:
        raise ValueError(f"{path} holds no row that can be used: {counts}")
    found = Columns({}, {}, {}, {}, time=None, counts=counts, cut={}, kinds={})
    slots = {field.name: field.slots for field in description.fields}
    for key in converters:
        its_blocks = blocks.pop(key)  # lest every column be held twice
        if key.part == "ids":
            arrays, cut = zip(*its_blocks, strict=True)
            found.ids[key.name] = _join_ids(arrays, slots.get(key.name, 1))
            if sum(cut):
                found.cut[key.name] = sum(cut)
        elif key.part == "time":
            found = found._replace(time=_join_times(path, key.column, its_blocks))
        else:
            getattr(found, key.part)[key.name] = np.concatenate(its_blocks)
    _unify_texts(found, description.fields)
    return found


class _Key(NamedTuple):
    """Where a column goes: a part of `Columns`, and its name there."""

    part: str
    name: str
    column: str


class _Block(NamedTuple):
    """Usable rows of one file, and the numbers of their rows there."""

    part: Path
    batch: pa.RecordBatch
    rows: np.ndarray


def _converters(description: Description) -> dict[_Key, Callable[[pa.Array], Any]]:
    split, fields = description.split, list(description.fields)
    converters: dict[_Key, Callable[[pa.Array], Any]] = {}
    if split.by == "time":
        converters[_Key("time", "", split.column)] = read_times
    elif split.column not in {field.name for field in fields}:
        fields.append(Field(split.column, split.column))
    for field in fields:
        separator = description.separators.get(field.name)
        read = partial(
            read_ids, field=field, separator=separator, missing=description.missing
        )
        converters[_Key("ids", field.name, field.name)] = read
    for name in description.numeric:
        read = partial(read_feature, log=name in description.logs)
        converters[_Key("numeric", name, name)] = read
    for task in description.tasks:
        converters[_Key("labels", task.name, task.name)] = partial(
            read_label, task=task
        )
    if description.duration:
        key = _Key("extras", "duration", description.duration)
        converters[key] = partial(read_feature, log=False)
    return converters


def _usable_blocks(
    path: Path, description: Description, counts: dict[str, int]
) -> Iterator[_Block]:
    """Blocks without the rows that lack what every row must have; counts them."""
    for part, first, batch in read_blocks(path, description.columns):
        rows = np.arange(first, first + batch.num_rows)
        counts["read"] += batch.num_rows
        block = _plain(_Block(part, batch, rows), description.missing)
        for name in description.needed:
            present = is_present(block.batch[name])
            if not present.all():
                reason = f"dropped: no {name}"
                dropped = int(np.count_nonzero(~present))
                counts[reason] = counts.get(reason, 0) + dropped
                kept = block.batch.filter(pa.array(present))
                block = _Block(part, kept, block.rows[present])
        counts["kept"] += block.batch.num_rows
        yield block


def _plain(block: _Block, missing: tuple[str, ...]) -> _Block:
    names = block.batch.schema.names
    columns = [_convert(block, name, partial(plain, missing=missing)) for name in names]
    return block._replace(batch=pa.RecordBatch.from_arrays(columns, names))


def _convert(block: _Block, column: str, convert: Callable[[pa.Array], Any]) -> Any:
    try:
        return read_as(convert, block.batch[column])
    except BadValue as error:
        row = "" if error.at is None else f", row {block.rows[error.at]}"
        raise ValueError(f"{block.part}{row}, column {column!r}: {error}") from error


def _join_ids(blocks: tuple[pa.DictionaryArray, ...], slots: int) -> Coded:
    chunks = pa.chunked_array(blocks).unify_dictionaries().chunks
    codes = [chunk.indices.fill_null(-1).to_numpy() for chunk in chunks]
    return Coded(np.concatenate(codes).reshape(-1, slots), chunks[0].dictionary)


def _unify_texts(columns: Columns, fields: tuple[Field, ...]) -> None:
    """Gives texts of one vocabulary that say the same one text."""
    groups: dict[str | None, list[str]] = {}
    vocabularies = {field.name: field.vocabulary for field in fields}
    for name in columns.ids:  # None: of the column to split by
        groups.setdefault(vocabularies.get(name), []).append(name)
    for vocabulary, names in groups.items():
        texts = [columns.ids[name].texts for name in names]
        kind = kind_of(pa.concat_arrays(texts))
        if vocabulary is not None:
            columns.kinds[vocabulary] = kind
        for name, its in zip(names, texts, strict=True):
            columns.ids[name] = columns.ids[name]._replace(texts=canonical(its, kind))


def _join_times(path: Path, column: str, blocks: list[pa.Array]) -> np.ndarray:
    # One without rows has a type all the same, which says nothing.
    blocks = [block for block in blocks if len(block)]
    types = {block.type for block in blocks}
    for kinds, wider, safe in WIDER:
        if len(types) > 1 and types <= set(kinds):
            try:
                blocks = [block.cast(wider, safe=safe) for block in blocks]
            except pa.ArrowInvalid:  # it does not hold them all
                continue
            types = {wider}
    if len(types) > 1:
        raise ValueError(
            f"{path}, column {column!r}: mixes times of the types"
            f" {', '.join(sorted(map(str, types)))}; write all the same way"
        )
    times = pa.chunked_array(blocks).combine_chunks()
    if pa.types.is_timestamp(times.type):
        times = times.cast(pa.int64())
    return times.to_numpy()
