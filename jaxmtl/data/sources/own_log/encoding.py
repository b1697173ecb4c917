"""The vocabularies and scales of your own log, counted again from its files.

A prepared log holds ids and no texts, so what serves raw rows reads the log's files
once more. The files must be those that were trained on: sizes of vocabularies are
checked against the schema of the prepared log.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa

from jaxmtl.data.encoding import Encoding, Scale
from jaxmtl.data.reading.scaling import deviation, moments
from jaxmtl.data.sources.own_log.columns import Columns, read_columns
from jaxmtl.data.sources.own_log.description import Description, load
from jaxmtl.data.sources.own_log.split import assign
from jaxmtl.types import Schema


def read_encoding(
    path: str | Path, schema_path: str | Path, schema: Schema
) -> Encoding:
    """What `own_log.read` does to the columns of a log.

    Args:
      path: of the log, as for `own_log.read`.
      schema_path: of its description.
      schema: of the prepared log, perhaps with fewer numeric features.

    Raises:
      ValueError: as `own_log.read`, or the files are not those of the schema.
    """
    description = load(schema_path)
    columns = read_columns(Path(path), description)
    is_train = assign(description.split, columns) == 0
    try:
        return Encoding(
            schema,
            {
                vocabulary.name: _texts(description, columns, is_train, vocabulary.name)
                for vocabulary in schema.vocabularies
            },
            description.separators,
            {
                name: _scale(columns.numeric[name][is_train], name in description.logs)
                for name in schema.numeric
            },
            description.missing,
            {
                vocabulary.name: columns.kinds[vocabulary.name]
                for vocabulary in schema.vocabularies
            },
        )
    except (ValueError, KeyError) as error:
        raise ValueError(
            f"{path}: no longer holds the log that was prepared: {error}; give the"
            " files that were trained on"
        ) from error


def _texts(
    description: Description, columns: Columns, is_train: np.ndarray, vocabulary: str
) -> pa.StringArray:
    """The texts of a vocabulary's ids 1 …: those of training, sorted."""
    counts: Counter[str] = Counter()
    for field in description.fields:
        if field.vocabulary == vocabulary:
            codes, texts = columns.ids[field.name]
            # The last counts the missing values: an id of a single-valued field.
            held = np.bincount(codes[is_train].ravel() % (len(texts) + 1))
            named = [*texts.to_pylist(), "" if field.slots == 1 else None]
            # A text stands twice where some parts write 7 and others 7.0.
            for text, n in zip(named, held.tolist(), strict=False):
                counts[text] += n
    counts.pop(None, None)
    known = [text for text, n in counts.items() if n >= description.min_count]
    return pa.array(sorted(known), pa.string())


def _scale(values: np.ndarray, log: bool) -> Scale:
    over = moments(values[:, None])
    return Scale(float(over.mean[0]), float(deviation(over)[0]), log)
