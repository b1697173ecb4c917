"""The one text of an id, whatever form its file stores it in.

The same log stands in CSV cells, in Parquet's types and in JSON. An id is looked up by
its text, so there must be one: `plain` takes away how a column is stored, `texts_of`
writes a type's values as texts, and `canonical` gives texts that say the same the same
text. What says the same depends on the column: 7.0 is 7 among whole numbers, and
another version than 7 among versions. So the kind of a column follows from all of its
texts (`kind_of`), and what serves raw rows keeps it.

| kind | all texts of the column are | the one text |
|---|---|---|
| truth | true, false, 0, 1, in any case of letters | 0 or 1 |
| whole | whole numbers, perhaps as a float is written: 7.0, 1e+06 | 7 |
| uuid | 8-4-4-4-12 hexadecimal digits | in small letters |
| time | days or times of ISO 8601 | 2026-01-31, 2026-01-31 12:00:00.5 |
| hours | times of a day | 12:00:00.5 |
| text | anything else | as it stands |

A time that names its zone is written in UTC, with Z, and is no time without. Zeros that
lead (007) and spaces are part of a text; Unicode is never normalised.
"""

from __future__ import annotations

import datetime
import re
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

EXACT = {pa.float16(): 2**11, pa.float32(): 2**24, pa.float64(): 2**53}
"""Below this a float is one whole number; from here on ids run into each other."""
TEXT = "text"
_DAY = r"(\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01]))"
_CLOCK = r"((?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d)?)(?:\.(\d{1,9}))?"
_HOURS = rf"^{_CLOCK}$"
_TIME = rf"^{_DAY}(?:[T ]{_CLOCK}(Z|[+-]\d\d(?::?\d\d)?)?)?$"


class BadValue(ValueError):
    """A value that cannot be used; `at` is its row in the block, where known."""

    def __init__(self, message: str, at: int | None = None):
        super().__init__(message)
        self.at = at


def from_values(values: Iterable[Any]) -> pa.Array:
    """Python's or NumPy's values as an array; of several types, as texts.

    Raises:
      BadValue: a value is of no type that a column can hold.
    """
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        pass
    try:
        return pa.array([_text_of(value) for value in values])
    except pa.ArrowException as error:
        raise BadValue(f"holds values of several types: {error}") from error


def plain(column: Any, missing: Sequence[str] = ()) -> pa.Array:
    """A column without the ways of storing it that mean the same.

    Args:
      column: [n], an Arrow array, or values that become one.
      missing: texts that mean "no value", beside the empty one, whatever type holds
        what they say; those inside lists stay.

    Returns:
      Texts, whole numbers, floats, decimals, truth values, times or lists; null where
      there is no value.

    Raises:
      BadValue: bytes are no text.
    """
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks or [pa.array([], column.type)])
    elif not isinstance(column, pa.Array):
        column = from_values(column)
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        return plain(_without_extension(column), missing)
    if pa.types.is_dictionary(kind):
        return plain(column.dictionary_decode(), missing)
    if pa.types.is_run_end_encoded(kind):
        return plain(pc.run_end_decode(column), missing)
    if _is_any(kind, "large_string", "string_view"):
        column = column.cast(pa.string())
    elif _is_any(kind, "binary", "large_binary", "binary_view", "fixed_size_binary"):
        column = _decode(column)
    elif _is_any(kind, "decimal32", "decimal64"):
        column = column.cast(pa.decimal128(kind.precision, kind.scale))
    elif _is_any(kind, "large_list", "fixed_size_list"):
        return column.cast(pa.list_(kind.value_type))
    elif _is_any(kind, "list_view", "large_list_view"):  # Arrow 26 casts them wrongly
        return pa.array(column.to_pylist(), pa.list_(kind.value_type))
    return _without_missing(column, missing)


def is_present(column: pa.Array) -> np.ndarray:
    """bool [n]: neither null nor an empty text nor NaN."""
    present = pc.invert(plain(column).is_null(nan_is_null=True))
    return present.to_numpy(zero_copy_only=False)


def texts_of(column: pa.Array) -> pa.StringArray:
    """The texts of a plain column's values, null where it is.

    Raises:
      BadValue: the column holds lists or the like, or a number is a fraction.
    """
    kind = column.type
    if pa.types.is_floating(kind):
        column = _whole_floats(column)
    elif pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return _texts_of_times(column)
    elif pa.types.is_nested(kind) or pa.types.is_duration(kind):
        raise BadValue(f"holds values of type {kind}; expected texts or whole numbers")
    try:
        texts = column.cast(pa.string())
    except pa.ArrowException as error:
        raise BadValue(
            f"holds values of type {kind}; expected texts or whole numbers"
        ) from error
    if pa.types.is_time(kind):
        return _short_fractions(texts)
    if pa.types.is_decimal(kind):
        texts = canonical(texts, "whole")
        refuse(
            ~_matches(texts, r"^-?\d+$"),
            texts,
            "an id must be a whole number; write ids as whole numbers or text",
        )
    return texts


def kind_of(texts: pa.StringArray) -> str:
    """The kind of a column, by all of its texts, in any order and number."""
    present = texts.drop_null().filter(pc.not_equal(texts.drop_null(), ""))
    for name, kind in KINDS.items():
        if len(present) and pc.all(_match(present, kind.pattern)).as_py():
            return name
    return TEXT


def canonical(texts: pa.StringArray, kind: str) -> pa.StringArray:
    """Texts, [n], those that are of a column's kind as its one text."""
    if kind not in KINDS or not len(texts):
        return texts
    matches = _match(texts, KINDS[kind].pattern).fill_null(False)
    if not pc.any(matches).as_py():
        return texts
    return pc.if_else(matches, KINDS[kind].one_text(texts), texts)


def refuse(wrong: np.ndarray, values: Any, expected: str) -> None:
    """Raises BadValue with the first of the values, [n], that are wrong."""
    if wrong.any():
        at = int(np.argmax(wrong))
        raise BadValue(f"holds {values[at]}; {expected}", at)


class Kind(NamedTuple):
    """What texts of a column may look like, and what makes one text of them."""

    pattern: str
    one_text: Callable[[pa.StringArray], pa.StringArray]


def _one_truth(texts: pa.StringArray) -> pa.StringArray:
    return pc.if_else(_match(texts, r"^(?i:true|1(\.0*)?)$"), "1", "0")


def _one_whole(texts: pa.StringArray) -> pa.StringArray:
    texts = pc.replace_substring_regex(texts, r"\.0*$", "")
    texts = pc.if_else(pc.equal(texts, "-0"), "0", texts)
    return _map(texts, r"[eE]", _expand)


def _expand(text: str) -> str:
    """1e+06 as 1000000, if it is a whole number that a float holds exactly."""
    try:
        number = float(text)
    except ValueError:  # another text than the pattern's, whose result is not used
        return text
    return f"{number:.0f}" if number % 1 == 0 and abs(number) < 2**53 else text


def _one_time(texts: pa.StringArray) -> pa.StringArray:
    return _map(texts, _TIME, _moment)


def _one_hours(texts: pa.StringArray) -> pa.StringArray:
    texts = pc.replace_substring_regex(texts, r"^(\d\d:\d\d)$", r"\1:00")
    return _short_fractions(texts)


def _moment(text: str) -> str:
    day, clock, fraction, zone = re.fullmatch(_TIME, text).groups()
    clock, fraction = clock or "00:00", (fraction or "").rstrip("0")
    try:
        moment = datetime.datetime.fromisoformat(f"{day} {clock}")
        if zone and zone != "Z":
            hours, minutes = int(zone[1:3]), int(zone[-2:]) if len(zone) > 3 else 0
            offset = datetime.timedelta(hours=hours, minutes=minutes)
            moment = moment - offset if zone[0] == "+" else moment + offset
    except (ValueError, OverflowError):  # the 30th of February is no day
        return text
    if not zone and not fraction and moment.time() == datetime.time():
        return str(moment.date())
    return str(moment) + ("." + fraction if fraction else "") + ("Z" if zone else "")


KINDS = {
    "truth": Kind(r"^(?i:true|false|[01](\.0*)?)$", _one_truth),
    "whole": Kind(
        r"^-?\d+(\.0*)?$|^-?\d(\.\d+)?[eE]\+\d+$|^-?\d\.\d+E\d+$", _one_whole
    ),
    "uuid": Kind(r"^(?i:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})$", pc.utf8_lower),
    "time": Kind(_TIME, _one_time),
    "hours": Kind(_HOURS, _one_hours),
}
"""In the order in which they are tried."""


def _text_of(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if value != value:
            return None
        return str(int(value)) if value % 1 == 0 and abs(value) < 2**53 else str(value)
    if isinstance(value, (list, tuple)):
        return [_text_of(item) for item in value]
    return str(value) if isinstance(value, int) else value


def _is_any(kind: pa.DataType, *names: str) -> bool:
    tests = (getattr(pa.types, f"is_{name}", None) for name in names)
    return any(test is not None and test(kind) for test in tests)


def _without_extension(column: pa.ExtensionArray) -> pa.Array:
    storage, name = column.storage, getattr(column.type, "extension_name", "")
    if name == "arrow.bool8":
        return storage.cast(pa.bool_())
    if name != "arrow.uuid":
        return storage
    encoded = storage.dictionary_encode()
    texts = [str(uuid.UUID(bytes=value)) for value in encoded.dictionary.to_pylist()]
    return pa.array(texts, pa.string()).take(encoded.indices)


def _decode(column: pa.Array) -> pa.StringArray:
    """Bytes as the UTF-8 that they are."""
    try:
        return column.cast(pa.binary()).cast(pa.string())
    except pa.ArrowInvalid:
        for at, value in enumerate(column.to_pylist()):
            try:
                value and value.decode()
            except UnicodeError as error:
                raise BadValue(
                    f"holds the bytes {value!r}, which are no UTF-8 text; write ids as"
                    " text",
                    at,
                ) from error
        raise


def _without_missing(column: pa.Array, missing: Sequence[str]) -> pa.Array:
    """The column with null for texts, and for what has a text, that mean no value."""
    kind = column.type
    if pa.types.is_null(kind) or pa.types.is_nested(kind):
        return column
    if pa.types.is_string(kind):
        texts, none = column, pc.equal(column, "")
    elif not missing:
        return column
    else:
        texts, none = _any_texts(column), pa.scalar(False)
    if missing:
        named = pa.array([*missing, *_words(missing)], pa.string())
        none = pc.or_(none, pc.is_in(texts, value_set=named))
        for name in ("whole", "time"):  # -999.0 says what -999 does
            its = named.filter(_match(named, KINDS[name].pattern))
            if len(its):
                held = pc.is_in(canonical(texts, name), value_set=canonical(its, name))
                none = pc.or_(none, held)
    none = none.fill_null(False)
    if not pc.any(none).as_py():
        return column
    return pc.if_else(none, pa.scalar(None, kind), column)


def _words(missing: Sequence[str]) -> list[str]:
    """How a truth value among the texts is written in small letters."""
    return [t.lower() for t in missing if t.lower() in ("true", "false")]


def _any_texts(column: pa.Array) -> pa.StringArray:
    """As `texts_of`, of fractions too."""
    if pa.types.is_floating(column.type):
        return column.cast(pa.float64()).cast(pa.string())
    if pa.types.is_decimal(column.type):
        return column.cast(pa.string())
    try:
        return texts_of(column)
    except BadValue:  # no id; whoever reads the column says so
        return pa.nulls(len(column), pa.string())


def _whole_floats(column: pa.Array) -> pa.Array:
    """Floats as the whole numbers that they are: ids of a column that had gaps."""
    exact = EXACT[column.type]
    present = is_present(column)
    values = np.where(present, column.to_numpy(zero_copy_only=False), 0)
    wrong = (values != np.floor(values)) | (np.abs(values) >= exact)
    refuse(
        wrong,
        values,
        f"an id in a column of type {column.type} must be a whole number below"
        f" {exact}; write ids as whole numbers or text",
    )
    return pa.array(values.astype(np.int64), mask=~present)


def _texts_of_times(column: pa.Array) -> pa.StringArray:
    kind = column.type
    if pa.types.is_date(kind):
        return column.cast(pa.date32()).cast(pa.string())
    if kind.tz is None:
        texts = _short_fractions(column.cast(pa.string()))
        return pc.replace_substring_regex(texts, r" 00:00:00$", "")
    column = column.cast(pa.int64()).cast(pa.timestamp(kind.unit))  # in UTC
    texts = _short_fractions(column.cast(pa.string()))
    return pc.binary_join_element_wise(texts, "Z", "")


def _short_fractions(texts: pa.StringArray) -> pa.StringArray:
    texts = pc.replace_substring_regex(texts, r"(\.\d*?)0+$", r"\1")
    return pc.replace_substring_regex(texts, r"\.$", "")


def _match(texts: pa.StringArray, pattern: str) -> pa.BooleanArray:
    return pc.match_substring_regex(texts, pattern)


def _matches(texts: pa.StringArray, pattern: str) -> np.ndarray:
    """bool [n], true where there is no text."""
    return _match(texts, pattern).fill_null(True).to_numpy(zero_copy_only=False)


def _map(
    texts: pa.StringArray, pattern: str, function: Callable[[str], str]
) -> pa.StringArray:
    """The texts, by a function of those that match a pattern."""
    which = _match(texts, pattern).fill_null(False)
    if not pc.any(which).as_py():
        return texts
    changed = [function(text) for text in texts.filter(which).to_pylist()]
    return pc.replace_with_mask(texts, which, pa.array(changed, pa.string()))
