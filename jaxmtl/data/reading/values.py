"""One column of one block, as codes, numbers or times.

Ids become codes of an Arrow dictionary of texts. Whole numbers are ids as they
stand; they never pass through a float. How a column is stored makes no difference:
what has the same text is the same id (`texts`), and the same number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jaxmtl.data.reading.texts import (
    BadValue,
    canonical,
    is_present,
    plain,
    refuse,
    texts_of,
)
from jaxmtl.types import Field, Task

TIMES = (
    pa.int64(),
    pa.uint64(),
    pa.float64(),
    pa.timestamp("us"),
    pa.timestamp("us", tz="UTC"),
    pa.timestamp("ns"),
    pa.timestamp("ns", tz="UTC"),
)
"""What a text may say about time, in the order in which it is tried."""


def read_as(read: Callable[[pa.Array], Any], column: pa.Array) -> Any:
    """What a reader makes of a column, [n].

    Raises:
      BadValue: as the reader, or Arrow refuses a value; knows its row.
    """
    try:
        return read(column)
    except pa.ArrowException as error:
        for at in range(len(column)):
            try:
                read(column.slice(at, 1))
            except (BadValue, pa.ArrowException) as its:
                raise BadValue(str(its), at) from error
        raise BadValue(str(error)) from error


def read_ids(
    column: pa.Array,
    field: Field,
    separator: str | None,
    missing: Sequence[str] = (),
) -> tuple[pa.DictionaryArray, int]:
    """The ids of a field.

    Args:
      column: [n] texts, whole numbers, truth values or times; lists of them, or
        texts with a separator, where the field has several slots.
      field: of `column`.
      separator: between the values of one text, if they are many.
      missing: texts that mean "no value", beside the empty one.

    Returns:
      Texts of dictionary type, [n · slots], null where a slot holds no value; and
      how many rows hold more values than there are slots, of which the first stay.

    Raises:
      BadValue: the column's type does not fit the field, or an id is a fraction.
    """
    column = plain(column, missing)
    is_null = pa.types.is_null(column.type)
    if separator is not None and not pa.types.is_nested(column.type) and not is_null:
        column = pc.split_pattern(texts_of(column), separator)
    is_list = pa.types.is_list(column.type)
    if is_list != (field.slots > 1) and not is_null:
        change = (
            "say in slots how many are kept, 2 or more"
            if is_list
            else "give its separator, or leave slots out"
        )
        holds = "several values" if is_list else "one value"
        raise BadValue(f"holds {holds} a row; {change}")
    if field.slots == 1:
        return _encode_texts(column), 0
    if not is_list:  # a block without any value
        return _encode_texts(pa.nulls(len(column) * field.slots)), 0
    return _encode_lists(column, field.slots, missing)


def read_numbers(column: pa.Array) -> np.ndarray:
    """Numbers as float64 [n], NaN where one is missing; truth values are 0 and 1.

    Raises:
      BadValue: a text is no number, or the column holds something else.
    """
    column = plain(column)
    if pa.types.is_string(column.type):
        column = _parse(column, (pa.float64(), pa.bool_()), "a number")
    kinds = (pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating)
    kinds += (pa.types.is_decimal, pa.types.is_null)
    if not any(is_kind(column.type) for is_kind in kinds):
        raise BadValue(f"holds values of type {column.type}; expected numbers")
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.uint8())
    if _is_rounded(column.type):
        # What its text says, which is not what its bits do: .1 and not .10000000149.
        column = _numerals(column)
    floats = column.cast(pa.float64(), safe=False).fill_null(np.nan)
    return floats.to_numpy(zero_copy_only=False).copy()


def read_feature(column: pa.Array, log: bool) -> np.ndarray:
    """A numeric feature, float64 [n], NaN = missing; log(1 + value) if asked for.

    Raises:
      BadValue: as `read_numbers`, or a number is infinite or beyond float32, or
        below 0 before `log`.
    """
    values = read_numbers(column)
    large = np.abs(values) > np.finfo(np.float32).max
    refuse(large, values, "numbers must be finite, and no larger than float32 holds")
    if log:
        refuse(values < 0, values, "log needs numbers of 0 or more; leave log out")
        values = np.log1p(values)
    return values


def read_label(column: pa.Array, task: Task) -> np.ndarray:
    """The labels of a task, float32 [n], NaN = missing.

    Raises:
      BadValue: as `read_numbers`, or a label lies outside the task's range.
    """
    is_binary = task.kind == "binary"
    try:
        values = read_numbers(column)
    except BadValue as error:
        how = "; a binary label is 0 or 1, or true or false" if is_binary else ""
        raise BadValue(f"{error}{how}", error.at) from error
    if is_binary:
        wrong = (values != 0) & (values != 1) & ~np.isnan(values)
        refuse(
            wrong,
            values,
            "a binary label is 0 or 1, or empty where it is missing; of a label with"
            f' other values say in tasks.{task.name} kind = "continuous", and high',
        )
    refuse(
        (values < 0) | (values > task.high),
        values,
        f"expected a label from 0 to high = {task.high:g}; correct it, or raise high",
    )
    return values.astype(np.float32)


def read_times(column: pa.Array) -> pa.Array:
    """Times as int64, uint64, float64, micro- or nanoseconds, all present.

    Raises:
      BadValue: the column holds something else; names the first such text.
    """
    column = plain(column)
    if pa.types.is_decimal(column.type):
        column = canonical(column.cast(pa.string()), "whole")
    if pa.types.is_string(column.type):
        column = _parse(column, TIMES, "a number or a time such as 2026-01-31 12:00:00")
    if pa.types.is_null(column.type):
        return column.cast(pa.int64())
    if pa.types.is_date(column.type):
        return column.cast(pa.timestamp("us"))
    if pa.types.is_timestamp(column.type):
        unit = "ns" if column.type.unit == "ns" else "us"
        return column.cast(pa.timestamp(unit, tz=column.type.tz and "UTC"))
    if pa.types.is_uint64(column.type):
        largest = pc.max(column).as_py() or 0
        return column if largest >= 2**63 else column.cast(pa.int64())
    if pa.types.is_integer(column.type):
        return column.cast(pa.int64())
    if not pa.types.is_floating(column.type):
        raise BadValue(f"holds values of type {column.type}; expected times or numbers")
    column = column.cast(pa.float64())
    values = column.to_numpy(zero_copy_only=False)
    refuse(~np.isfinite(values), values, "a time must be finite")
    return column


def _is_rounded(kind: pa.DataType) -> bool:
    return pa.types.is_decimal(kind) or kind in (pa.float16(), pa.float32())


def _numerals(column: pa.Array) -> pa.StringArray:
    """The shortest text of each number that gives it back."""
    if column.type != pa.float16():
        return column.cast(pa.string())
    values = column.to_numpy(zero_copy_only=False).astype(np.float16)
    return pa.array(values.astype(str), mask=~is_present(column))


def _encode_texts(column: pa.Array) -> pa.DictionaryArray:
    """Texts of dictionary type [n], null for no value, of a plain column."""
    present = is_present(column)
    if not present.all():
        column = pc.if_else(pa.array(present), column, pa.scalar(None, column.type))
    try:
        encoded = column.dictionary_encode()
    except pa.ArrowException as error:
        raise BadValue(
            f"holds values of type {column.type}; expected texts or whole numbers"
        ) from error
    try:
        texts = texts_of(encoded.dictionary)
    except BadValue as error:
        if error.at is None:
            raise
        first = pc.index(encoded.indices, error.at)
        raise BadValue(str(error), first.as_py()) from error
    return pa.DictionaryArray.from_arrays(encoded.indices, texts)


def _encode_lists(
    column: pa.Array, slots: int, missing: Sequence[str]
) -> tuple[pa.DictionaryArray, int]:
    """Lists of texts or whole numbers as `read_ids` returns them."""
    # A null list may hide values, which one of the next two functions would see.
    rows, lists = np.flatnonzero(is_present(column)), column.drop_null()
    parent = rows[pc.list_parent_indices(lists).to_numpy()]
    try:
        values = _encode_texts(plain(pc.list_flatten(lists), missing))
    except BadValue as error:
        at = None if error.at is None else int(parent[error.at])
        raise BadValue(str(error), at) from error
    given = values.is_valid().to_numpy(zero_copy_only=False)
    codes, parent = values.indices.fill_null(-1).to_numpy()[given], parent[given]
    many = np.bincount(parent, minlength=len(column))
    place = np.arange(len(parent)) - (np.cumsum(many) - many)[parent]
    kept = place < slots
    found = np.full((len(column), slots), -1, np.int32)
    found[parent[kept], place[kept]] = codes[kept]
    indices = pa.array(found.ravel(), mask=found.ravel() < 0)
    encoded = pa.DictionaryArray.from_arrays(indices, values.dictionary)
    return encoded, int(np.count_nonzero(many > slots))


def _parse(column: pa.Array, kinds: tuple[pa.DataType, ...], expected: str) -> pa.Array:
    """Texts as the first of some types that fits them all."""
    for kind in kinds:
        try:
            return column.cast(kind)
        except pa.ArrowInvalid:
            continue
    for at, text in enumerate(column.to_pylist()):
        if text is not None and not any(_fits(text, kind) for kind in kinds):
            raise BadValue(
                f"{text!r} is not {expected}; correct it, or list it under missing in"
                " the schema file if it says that there is no value",
                at,
            )
    raise BadValue(f"mixes several ways of writing {expected}; write all the same way")


def _fits(text: str, kind: pa.DataType) -> bool:
    try:
        pa.scalar(text).cast(kind)
    except pa.ArrowInvalid:
        return False
    return True
