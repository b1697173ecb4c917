"""Ids for raw values, counted on the training rows alone.

A source reads its columns as they are (numbers or text). Here they become
the int32 ids of `Rows`: 0 is `UNKNOWN`, for everything that training does not
hold; -1 is `PADDING`, for the empty slots of a multi-valued field.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from jaxmtl.types import PADDING, UNKNOWN, Field, Vocabulary


def encode(
    fields: Sequence[Field],
    columns: Mapping[str, np.ndarray],
    is_train: np.ndarray,
    *,
    min_count: int = 1,
) -> tuple[tuple[Vocabulary, ...], np.ndarray]:
    """Turns raw columns into the ids of `Rows`.

    Args:
      fields: in the order of their slots in `Rows.ids`; fields that name one
        vocabulary are counted together.
      columns: field name -> integers or text, [n] or [n, slots]. A slot that
        holds -1 or "" is empty.
      is_train: bool [n], the rows that are counted.
      min_count: how often training must hold a value to give it an id of its
        own. With 1, no training row is `UNKNOWN` and so nothing is ever
        learned about the id that most rows of a cold start carry.

    Returns:
      The vocabularies, in the order in which the fields first name them, and
      int32 ids [n, slots of all fields]. Ids follow the sorted values, so they
      do not depend on the order of the rows.

    Raises:
      ValueError: a column has another number of slots than its field.
    """
    slots = {f.name: _as_slots(f, columns[f.name]) for f in fields}
    known = {}
    for name in dict.fromkeys(f.vocabulary for f in fields):
        seen = [slots[f.name][is_train].ravel() for f in fields if f.vocabulary == name]
        known[name] = _count(np.concatenate(seen), min_count)
    vocabularies = tuple(Vocabulary(name, 1 + v.size) for name, v in known.items())
    ids = [look_up(slots[f.name], known[f.vocabulary]) for f in fields]
    return vocabularies, np.concatenate(ids, axis=1)


def _as_slots(field: Field, column: np.ndarray) -> np.ndarray:
    slots = column.reshape(len(column), -1)
    if slots.shape[1] != field.slots:
        raise ValueError(
            f"the column of field {field.name!r} has shape {column.shape};"
            f" expected {field.slots} value(s) a row"
        )
    return slots


def _is_empty(values: np.ndarray) -> np.ndarray:
    return values == ("" if values.dtype.kind == "U" else PADDING)


def _count(values: np.ndarray, min_count: int) -> np.ndarray:
    values, counts = np.unique(values[~_is_empty(values)], return_counts=True)
    return values[counts >= min_count]


def look_up(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Numbers raw values as a vocabulary of the known ones does.

    Args:
      values: integers or text of any shape; -1 or "" is empty.
      known: [k], what training shows, sorted, none of them empty.

    Returns:
      int32 like `values`: 1 … k in the order of `known`, `UNKNOWN` for others,
      `PADDING` for empty slots.
    """
    ids = np.full(values.shape, UNKNOWN, np.int32)
    if known.size:
        at = np.minimum(np.searchsorted(known, values), known.size - 1)
        ids[known[at] == values] = 1 + at[known[at] == values]
    ids[_is_empty(values)] = PADDING
    return ids
