"""Criteo's uplift data: who visited and converted after a randomised advertisement.

E. Diemert, A. Betlei, C. Renaudin and M.-R. Amini, "A Large Scale Benchmark for
Uplift Modeling", AdKDD 2018; version 2.1, 13,979,592 rows, from
https://ailab.criteo.com/criteo-uplift-prediction-dataset/. The file is fetched by
the builder `criteo` of the TFDS catalogue or read from a disk, block by block.

A row is a user of one of several trials. Task `visit` has a label everywhere;
`conversion` lives in the space of visits. Features are the anonymous numbers `f0` …
`f11` and the `treatment`: whether the user could be shown the advertisement.
`exposure`, whether it was shown, is an outcome of the treatment and no feature.

There are no ids: `treatment`, the only categorical feature, stands for user and
item in the schema; for intervals every row is a user of its own. There is no time
either: rows are split by a hash of their number in the file, 70/15/15.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from tensorflow_datasets.recommendation.criteo.criteo import Criteo

from jaxmtl.data.log import SPLITS, Log
from jaxmtl.data.reading.catalogue import find_or_fetch
from jaxmtl.data.reading.delimited import read_blocks
from jaxmtl.data.reading.splitting import by_hash
from jaxmtl.data.reading.streaming import Columns, Raw, read_splits
from jaxmtl.types import Field, Schema, Task

URL = "https://ailab.criteo.com/criteo-uplift-prediction-dataset/"
MIRROR = "https://huggingface.co/datasets/criteo/criteo-uplift"
"""Of Criteo's own; the address in TFDS's builder is reported to be gone."""
NAMES = tuple(
    f"criteo{research}-uplift-v2.1.csv{packed}"
    for packed in (".gz", "")
    for research in ("", "-research")
)
"""Under which the file is published; a folder may hold it under any of them."""
COLUMNS = Columns(
    fields=(Field("treatment", "treatment"),),
    numeric=tuple(f"f{i}" for i in range(12)),
    tasks=(Task("visit"), Task("conversion", space="visit")),
)


def find_files(path: str | Path | None = None) -> tuple[Path]:
    """The file: `path`, the one in the folder `path`, or the one TFDS downloads.

    Raises:
      ValueError: it is not there, or could not be downloaded.
    """
    advice = (
        f"get {NAMES[0]} from {URL} or {MIRROR} and give the file, packed or not, or"
        " its folder as the path"
    )
    return (find_or_fetch(path, NAMES, Criteo, advice),)


def read(path: str | Path | None = None) -> Log:
    """Reads the trials.

    Args:
      path: the file, packed or not, or its folder; by default TFDS downloads it.

    Returns:
      Tasks `visit` (CTR) and `conversion` (CVR), one field, and 12 numeric features
      standardised over the training rows. No extras.

    Raises:
      ValueError: the file is missing or lacks a column, or a cell is empty or no
        number; names the file, the line and the column.
    """
    (file,) = find_files(path)
    census, splits = read_splits(COLUMNS, dict.fromkeys(SPLITS, partial(_parse, file)))
    schema = Schema(
        name="criteo_uplift",
        fields=COLUMNS.fields,
        vocabularies=census.vocabularies(),
        tasks=COLUMNS.tasks,
        ctr="visit",
        cvr="conversion",
        user="treatment",
        item="treatment",
        numeric=COLUMNS.numeric,
    )
    return Log(
        schema=schema,
        splits=splits,
        counts={"read": census.rows, "kept": census.rows},
        notes=(
            f"Criteo uplift v2.1, {URL}, CC BY-NC-SA 4.0. Diemert et al., AdKDD 2018."
            " Sub-sampled non-uniformly by its authors: rates are not Criteo's own.",
            "No user ids and no time: rows are split by a hash of their number, and"
            " every row is a user of its own.",
        ),
    )


def _parse(file: Path) -> Iterator[Raw]:
    first = 0
    for columns in read_blocks(file, COLUMNS.types()):
        row = np.arange(first, first + columns["treatment"].size)
        groups = {
            "user": row.astype(np.int32),
            "item": columns["treatment"].astype(np.int32),
        }
        yield Raw(columns, by_hash(row), groups)
        first += row.size
