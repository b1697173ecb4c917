"""How a raw row becomes what a net reads: ids by vocabulary, numbers scaled.

What training did to a log's columns, written down so that it can be done again to
rows that come later. Two kinds of values are told apart:

- `raw`: those of the log's own files. An id is looked up by its text, the same in
  every form of file (`texts`); a missing value of a single-valued field is an id of its
  own if training held it often enough.
- prepared: where a source keeps no vocabulary (the simulated feed has none to keep),
  a value is the id itself, `1 … size - 1`, and numbers are scaled already.

In both, an id that training did not hold is `UNKNOWN`, and among several values a
missing one is an empty slot.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jaxmtl.data.reading.scaling import LARGEST, as_float32
from jaxmtl.data.reading.texts import BadValue, canonical, kind_of, plain
from jaxmtl.data.reading.values import read_as, read_feature, read_ids
from jaxmtl.data.schema_text import MALFORMED, read_schema
from jaxmtl.types import PADDING, UNKNOWN, Field, Schema

SEPARATOR = "|"
"""Between the values of one CSV cell, where the log names none."""


class Scale(NamedTuple):
    """(value - mean) / deviation, after log(1 + value) where `log` is set."""

    mean: float = 0.0
    deviation: float = 1.0
    log: bool = False


@dataclasses.dataclass(frozen=True)
class Encoding:
    """What training did to the columns of a log.

    Attributes:
      schema: of the rows that come out.
      texts: vocabulary -> the texts of its ids 1 …; None for prepared ids.
      separators: multi-valued field -> what stands between its values in a CSV cell.
      scales: numeric feature -> its scaling, in the schema's order.
      missing: texts that mean "no value", beside the empty one.
      kinds: vocabulary -> the kind of its texts; of those left out, as they look.
    """

    schema: Schema
    texts: Mapping[str, pa.StringArray] | None
    separators: Mapping[str, str]
    scales: Mapping[str, Scale]
    missing: tuple[str, ...] = ()
    kinds: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        sizes = {v.name: v.size for v in self.schema.vocabularies}
        for name, known in (self.texts or {}).items():
            if len(known) + 1 != sizes.get(name):
                raise ValueError(
                    f"vocabulary {name!r} has {len(known)} texts, the schema says"
                    f" {sizes.get(name)} ids, one of them unknown"
                )
        looks = {name: kind_of(known) for name, known in (self.texts or {}).items()}
        object.__setattr__(self, "kinds", looks | dict(self.kinds))

    @property
    def columns(self) -> dict[str, str]:
        """Every column of a raw row -> what it is."""
        fields = {field.name: f"fields.{field.name}" for field in self.schema.fields}
        return fields | {name: f"numeric.{name}" for name in self.schema.numeric}

    def encode(self, rows: Mapping[str, pa.Array]) -> tuple[np.ndarray, np.ndarray]:
        """What a net reads of some rows.

        Args:
          rows: column -> its values, [n], of any type that a file may store them in,
            or Python's; such as a record batch.

        Returns:
          int32 ids [n, slots] and float32 numbers [n, numerics], as in `Rows`.

        Raises:
          BadValue: a value cannot be used; names the column, and knows its row.
        """
        ids = [self._ids(field, rows[field.name]) for field in self.schema.fields]
        numeric = [
            self._numbers(name, rows[name])[:, None] for name in self.schema.numeric
        ]
        ids = np.concatenate(ids, axis=1)
        none = np.zeros((len(ids), 0), np.float32)
        return ids, np.concatenate([none, *numeric], axis=1)

    def _ids(self, field: Field, column: pa.Array) -> np.ndarray:
        separator = self.separators.get(field.name, SEPARATOR)
        separator = separator if field.slots > 1 else None
        try:
            read = partial(
                read_ids, field=field, separator=separator, missing=self.missing
            )
            coded, _ = read_as(read, plain(column, self.missing))
        except BadValue as error:
            raise _in_column(field.name, error) from error
        rank = self._ranks(field.vocabulary, coded.dictionary)
        rank = np.append(rank, self._missing_id(field)).astype(np.int32)
        # Code -1, no value, picks the last.
        codes = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        return rank[codes].reshape(-1, field.slots)

    def _ranks(self, vocabulary: str, texts: pa.StringArray) -> np.ndarray:
        """The id of each text, `UNKNOWN` for those that training did not hold."""
        if self.texts is None:
            plain_texts = canonical(texts, "whole")
            is_id = pc.match_substring_regex(plain_texts, r"^[1-9]\d{0,9}$")
            ids = pc.if_else(is_id, plain_texts, str(UNKNOWN)).cast(pa.int64())
            ids = ids.to_numpy(zero_copy_only=False)
            return np.where(ids < self._sizes[vocabulary], ids, UNKNOWN)
        texts = canonical(texts, self.kinds[vocabulary])
        found = pc.index_in(texts, value_set=self.texts[vocabulary])
        return pc.add(found, 1).fill_null(UNKNOWN).to_numpy(zero_copy_only=False)

    def _missing_id(self, field: Field) -> int:
        if self.texts is None or field.slots > 1:
            return PADDING
        at = pc.index(self.texts[field.vocabulary], "").as_py()
        return UNKNOWN if at < 0 else at + 1

    def _numbers(self, name: str, column: pa.Array) -> np.ndarray:
        scale = self.scales[name]
        try:
            column = plain(column, self.missing)
            values = read_as(partial(read_feature, log=scale.log), column)
        except BadValue as error:
            raise _in_column(name, error) from error
        scaled = (values - scale.mean) / scale.deviation
        return as_float32(scaled)

    @functools.cached_property
    def _sizes(self) -> dict[str, int]:
        return {v.name: v.size for v in self.schema.vocabularies}

    def to_json(self) -> str:
        """The encoding as text, for `from_json`."""
        texts = self.texts and {n: k.to_pylist() for n, k in self.texts.items()}
        held = {
            "schema": json.loads(self.schema.to_json()),
            "values": "prepared" if texts is None else "raw",
            "vocabularies": texts,
            "separators": dict(self.separators),
            "numeric": {n: scale._asdict() for n, scale in self.scales.items()},
            "missing": list(self.missing),
            "kinds": dict(self.kinds),
        }
        return json.dumps(held, indent=1, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Encoding:
        """The encoding whose `to_json` is `text`.

        Raises:
          ValueError: it is none.
        """
        try:
            raw = json.loads(text)
            texts = raw["vocabularies"]
            encoding = cls(
                read_schema(raw["schema"]),
                texts and {n: pa.array(k, pa.string()) for n, k in texts.items()},
                dict(raw["separators"]),
                {name: Scale(**scale) for name, scale in raw["numeric"].items()},
                tuple(raw["missing"]),
                dict(raw.get("kinds", {})),
            )
            encoding._check()
        except (*MALFORMED, pa.ArrowException) as error:
            raise ValueError(f"{error!r}: no encoding that to_json wrote") from error
        return encoding

    def _check(self) -> None:
        """Raises ValueError where parts are of other kinds than `to_json` writes."""
        named = {vocabulary.name for vocabulary in self.schema.vocabularies}
        if self.texts is not None and set(self.texts) != named:
            raise ValueError(f"texts of {sorted(self.texts)}, not of {sorted(named)}")
        if set(self.scales) != set(self.schema.numeric):
            raise ValueError(f"scales of {sorted(self.scales)}, not of the schema's")
        if set(self.kinds) != set(self.texts or ()):
            raise ValueError(f"kinds of {sorted(self.kinds)}, not of {sorted(named)}")
        for text in (*self.separators.values(), *self.missing, *self.kinds.values()):
            if not isinstance(text, str):
                raise ValueError(f"{text!r} is no text")
        if "" in self.separators.values():
            raise ValueError("a separator is empty")
        for name, scale in self.scales.items():
            numbers = np.array([scale.mean, scale.deviation], np.float64)
            # Float32 holds both: no number of a row can then overflow a float64.
            if not np.abs(numbers).max() <= LARGEST or not numbers[1] >= 1 / LARGEST:
                raise ValueError(f"{name!r} has {scale}; expected finite, above 0")


def prepared(schema: Schema) -> Encoding:
    """The encoding of rows whose values are ids and scaled numbers already."""
    several = [field.name for field in schema.fields if field.slots > 1]
    return Encoding(
        schema,
        None,
        dict.fromkeys(several, SEPARATOR),
        {name: Scale() for name in schema.numeric},
    )


def _in_column(name: str, error: BadValue) -> BadValue:
    return BadValue(f"column {name!r}: {error}", error.at)
