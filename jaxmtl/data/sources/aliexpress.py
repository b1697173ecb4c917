"""AliExpress: searches in one country's shop, what was shown, clicked and bought.

P. Li et al., "Improving Multi-Scenario Learning to Rank in E-commerce by Exploiting
Task Relationships in the Label Space", CIKM 2020. The data, one folder a country
(`AliExpress_NL`, `_ES`, `_FR`, `_US`), are those of
https://tianchi.aliyun.com/dataset/74690, joined into `train.csv` and `test.csv` of
82 columns: `search_id`, `categorical_1` … `_16`, `numerical_1` … `_63`, `click` and
`conversion`. Ten to thirty million rows a country: they are read block by block.

A row is a product shown in answer to a search. Task `click` has a label everywhere;
`conversion` lives in the space of clicks, since what is not clicked is not bought.

The features are anonymous. In the public fragments the first nine categorical
columns are constant in a search and the others vary inside it, so `categorical_7`,
the richest of the first, stands for the user and `categorical_10` for the item;
neither is an id. For grouped metrics the user is the search. Its number is no
feature, and it is counted separately in the two files, which reuse numbers.

The files' own test is the test. A tenth of the training file's searches, by a hash
of their number, is for validation: no search is torn.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from jaxmtl.data.log import SPLITS, Log
from jaxmtl.data.reading.counting import Counts
from jaxmtl.data.reading.delimited import read_blocks
from jaxmtl.data.reading.splitting import by_hash
from jaxmtl.data.reading.streaming import Columns, Raw, Source, read_splits
from jaxmtl.types import Field, Schema, Task

URL = "https://tianchi.aliyun.com/dataset/74690"
NAMES = (("train.csv", "tiny_mtl_train.csv"), ("test.csv", "tiny_mtl_test.csv"))
"""Of the training and the test file, in the data and in their public fragment."""
USER, ITEM = "categorical_7", "categorical_10"
COLUMNS = Columns(
    fields=tuple(Field(f"categorical_{i}", f"categorical_{i}") for i in range(1, 17)),
    numeric=tuple(f"numerical_{i}" for i in range(1, 64)),
    tasks=(Task("click"), Task("conversion", space="click")),
)
TRAINING_SHARE = 0.9
"""Of the training file's searches; the others are for validation."""


def find_files(path: str | Path | None) -> tuple[Path, Path]:
    """The training and the test file of a country's folder.

    Raises:
      ValueError: there is no path, or a file is missing.
    """
    place = (
        f"get AliExpress from {URL} and give the folder of one country, with"
        f" {NAMES[0][0]} and {NAMES[1][0]}"
    )
    if path is None:
        raise ValueError(f"aliexpress needs a path; {place}")
    found = []
    for names in NAMES:
        here = [Path(path) / name for name in names if (Path(path) / name).is_file()]
        if not here:
            raise ValueError(f"{Path(path) / names[0]}: no such file; {place}")
        found.append(here[0])
    return found[0], found[1]


def read(path: str | Path | None = None) -> Log:
    """Reads one country's log.

    Args:
      path: its folder.

    Returns:
      Tasks `click` (CTR) and `conversion` (CVR), 16 fields, and 63 numeric features
      standardised over the training rows. No extras.

    Raises:
      ValueError: a file is missing or lacks a column, or a cell is empty or no
        number; names the file, the line and the column.
    """
    files = find_files(path)
    searches = [_searches(file) for file in files]
    train = partial(_parse, files[0], searches[0], 0, None)
    test = partial(_parse, files[1], searches[1], searches[0].size, 2)
    sources: dict[str, Source] = dict(zip(SPLITS, (train, train, test), strict=True))
    census, splits = read_splits(COLUMNS, sources)
    schema = Schema(
        name="aliexpress",
        fields=COLUMNS.fields,
        vocabularies=census.vocabularies(),
        tasks=COLUMNS.tasks,
        ctr="click",
        cvr="conversion",
        user=USER,
        item=ITEM,
        numeric=COLUMNS.numeric,
    )
    return Log(
        schema=schema,
        splits=splits,
        counts={"read": census.rows, "kept": census.rows},
        notes=(
            f"AliExpress, folder {files[0].parent.name}, from {URL} (a Tianchi account"
            " is needed; its page states the terms of use). Li et al., CIKM 2020.",
            f"{searches[0].size:,} searches in {files[0].name}, of which one in ten"
            f" is for validation, and {searches[1].size:,} in {files[1].name}, the"
            " test. A search is the `user` of grouped metrics and intervals.",
        ),
    )


def _searches(file: Path) -> np.ndarray:
    """The sorted numbers of a file's searches."""
    seen = Counts(np.int64)
    for block in read_blocks(file, {"search_id": int}):
        seen.add(block["search_id"])
    return seen.known()


def _parse(
    file: Path, searches: np.ndarray, first: int, split: int | None
) -> Iterator[Raw]:
    """A file's blocks; its searches are numbered from `first` on.

    Without a `split`, rows are split into training and validation by their search.
    """
    for columns in read_blocks(file, {"search_id": int} | COLUMNS.types()):
        search = columns.pop("search_id")
        yield Raw(
            columns,
            by_hash(search, (TRAINING_SHARE,))
            if split is None
            else np.full(search.size, split, np.int8),
            {
                "user": (first + np.searchsorted(searches, search)).astype(np.int32),
                "item": columns[ITEM].astype(np.int32),
            },
        )
