"""One column of one block, as codes, numbers or times.

Ids become codes of an Arrow dictionary of texts. Whole numbers are ids as they
stand; they never pass through a float.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jaxmtl.types import Field, Task

EXACT = {pa.float16(): 2**11, pa.float32(): 2**24, pa.float64(): 2**53}
"""Below this a float is one whole number; from here on ids run into each other."""
WHOLE_NUMBER = r"^-?\d+(\.0+)?$"
"""A text that is an id as a column with gaps may write it: 7 or 7.0."""
TIMES = (
    pa.int64(),
    pa.float64(),
    pa.timestamp("us"),
    pa.timestamp("us", tz="UTC"),
)
"""What a text may say about time, in the order in which it is tried."""


class BadValue(ValueError):
    """A value that cannot be used; `at` is its row in the block, where known."""

    def __init__(self, message: str, at: int | None = None):
        super().__init__(message)
        self.at = at


def is_present(column: pa.Array) -> np.ndarray:
    """bool [n]: neither null nor an empty text nor NaN."""
    column = _plain(column)
    present = pc.invert(column.is_null(nan_is_null=True))
    if pa.types.is_string(column.type):
        present = pc.and_(present, pc.not_equal(column.fill_null(""), ""))
    return present.to_numpy(zero_copy_only=False)


def read_ids(
    column: pa.Array, field: Field, separator: str | None
) -> tuple[pa.DictionaryArray, int]:
    """The ids of a field.

    Args:
      column: [n] texts, whole numbers or truth values; lists of them, or texts
        with a separator, where the field has several slots.
      field: of `column`.
      separator: between the values of one text, if they are many.

    Returns:
      Texts of dictionary type, [n · slots], null where a slot holds no value; and
      how many rows hold more values than there are slots, of which the first stay.

    Raises:
      BadValue: the column's type does not fit the field, or an id is a fraction.
    """
    column = _plain(column)
    if separator is not None and pa.types.is_string(column.type):
        column = pc.split_pattern(column, separator)
    is_list = pa.types.is_list(column.type)
    if is_list != (field.slots > 1) and not pa.types.is_null(column.type):
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
    return _encode_lists(column, field.slots)


def read_numbers(column: pa.Array) -> np.ndarray:
    """Numbers as float64 [n], NaN where one is missing; truth values are 0 and 1.

    Raises:
      BadValue: a text is no number, or the column holds something else.
    """
    column = _plain(column)
    if pa.types.is_string(column.type):
        column = _parse(column, (pa.float64(), pa.bool_()), "a number")
    kinds = (pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating)
    kinds += (pa.types.is_decimal, pa.types.is_null)
    if not any(is_kind(column.type) for is_kind in kinds):
        raise BadValue(f"holds values of type {column.type}; expected numbers")
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.uint8())
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
    _refuse(large, values, "numbers must be finite, and no larger than float32 holds")
    if log:
        _refuse(values < 0, values, "log needs numbers of 0 or more; leave log out")
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
        _refuse(
            wrong,
            values,
            "a binary label is 0 or 1, or empty where it is missing; of a label with"
            f' other values say in tasks.{task.name} kind = "continuous", and high',
        )
    _refuse(
        (values < 0) | (values > task.high),
        values,
        f"expected a label from 0 to high = {task.high:g}; correct it, or raise high",
    )
    return values.astype(np.float32)


def read_times(column: pa.Array) -> pa.Array:
    """Times as int64, float64 or microseconds, all present.

    Raises:
      BadValue: the column holds something else; names the first such text.
    """
    column = _plain(column)
    if pa.types.is_string(column.type):
        column = _parse(column, TIMES, "a number or a time such as 2026-01-31 12:00:00")
    if pa.types.is_date(column.type) or pa.types.is_timestamp(column.type):
        zone = getattr(column.type, "tz", None)
        return column.cast(pa.timestamp("us", tz=zone and "UTC"), safe=False)
    if pa.types.is_integer(column.type):
        return column.cast(pa.int64())
    if not pa.types.is_floating(column.type):
        raise BadValue(f"holds values of type {column.type}; expected times or numbers")
    column = column.cast(pa.float64())
    values = column.to_numpy(zero_copy_only=False)
    _refuse(~np.isfinite(values), values, "a time must be finite")
    return column


def _plain(column: pa.Array) -> pa.Array:
    """The column without the ways of storing texts and lists that mean the same."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return column.cast(pa.string())
    if pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return column.cast(pa.list_(kind.value_type))
    return column


def _encode_texts(column: pa.Array) -> pa.DictionaryArray:
    """Texts of dictionary type [n], null for no value."""
    column = _plain(column)
    present = is_present(column)
    if pa.types.is_floating(column.type):
        column = _whole(column, present)
    if not present.all():
        column = pc.if_else(pa.array(present), column, pa.scalar(None, column.type))
    try:
        encoded = column.dictionary_encode()
        texts = encoded.dictionary.cast(pa.string())
    except pa.ArrowException as error:
        raise BadValue(
            f"holds values of type {column.type}; expected texts or whole numbers"
        ) from error
    return pa.DictionaryArray.from_arrays(encoded.indices, texts)


def _encode_lists(column: pa.Array, slots: int) -> tuple[pa.DictionaryArray, int]:
    """Lists of texts or whole numbers as `read_ids` returns them."""
    # A null list may hide values, which one of the next two functions would see.
    rows, lists = np.flatnonzero(is_present(column)), column.drop_null()
    parent = rows[pc.list_parent_indices(lists).to_numpy()]
    try:
        values = _encode_texts(pc.list_flatten(lists))
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


def _whole(column: pa.Array, present: np.ndarray) -> pa.Array:
    """Floats as the whole numbers that they are: ids of a column that had gaps."""
    exact = EXACT[column.type]
    values = np.where(present, column.to_numpy(zero_copy_only=False), 0)
    wrong = (values != np.floor(values)) | (np.abs(values) >= exact)
    _refuse(
        wrong,
        values,
        f"an id in a column of type {column.type} must be a whole number below"
        f" {exact}; write ids as whole numbers or text",
    )
    return pa.array(values.astype(np.int64), mask=~present)


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


def _refuse(wrong: np.ndarray, values: np.ndarray, expected: str) -> None:
    if wrong.any():
        at = int(np.argmax(wrong))
        raise BadValue(f"holds {values[at]}; {expected}", at)
