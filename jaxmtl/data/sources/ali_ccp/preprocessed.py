"""Ali-CCP's preprocessed form: one CSV file a split, an id a field.

This is what torch-rechub and others hand around: the raw form joined, each field
cut to one id, its values beside it as `D…` columns. A file is read twice, to count
the ids of training and to make rows, a few megabytes at a time.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from jaxmtl.data.log import Log
from jaxmtl.data.reading.counting import Counts
from jaxmtl.data.reading.scaling import Moments, merge, moments, standardise
from jaxmtl.data.reading.vocabulary import look_up
from jaxmtl.data.sources.ali_ccp.protocol import (
    COMBINED,
    CONTEXT,
    HISTORY,
    ITEM,
    NOTES,
    PROFILE,
    AliCcpOptions,
    Selection,
    make_fields,
    make_schema,
)
from jaxmtl.data.sources.ali_ccp.text import count_lines, read_batches
from jaxmtl.types import Rows

SPLITS = {"train": "train", "validation": "val", "test": "test"}
"""Split -> what its file is called after `ali_ccp_`."""
FIELDS = make_fields((*PROFILE, *ITEM, *COMBINED, *CONTEXT, *HISTORY), slots=1)
NUMERIC = tuple(f"D{name}" for name in (*HISTORY, *COMBINED))
COLUMNS = {
    **dict.fromkeys(("click", "purchase"), pa.bool_()),
    **dict.fromkeys((f.name for f in FIELDS), pa.int32()),
    **dict.fromkeys(NUMERIC, pa.float32()),
}


def find_files(folder: Path) -> dict[str, Path]:
    """Split -> its file, for those that the folder holds."""
    found = {
        split: sorted(folder.glob(f"ali_ccp_{n}*.csv")) for split, n in SPLITS.items()
    }
    return {split: files[0] for split, files in found.items() if files}


def read_preprocessed(folder: Path, options: AliCcpOptions) -> Log:
    """Reads the preprocessed files of a folder.

    Args:
      folder: holds `ali_ccp_{train,val,test}*.csv`.
      options: `slots` and `validation` are without effect.

    Returns:
      A log whose blocks are read anew from the files each time. Numeric features
      are the `D…` columns, standardised over the training rows.

    Raises:
      ValueError: a line is damaged, or the sample is larger than a file; names it.
    """
    files = find_files(folder)
    # The validation file is no part of what is drawn from.
    drawn = dict.fromkeys(files, options)
    drawn["validation"] = dataclasses.replace(options, sample=None)
    seen = {field.name: Counts() for field in FIELDS}
    counts: Counter[str] = Counter()
    over = moments(np.zeros((0, len(NUMERIC))))
    for split, path in files.items():
        selection = _select(path, drawn[split])
        for block in _blocks(path, selection):
            if split == "train":
                for name, counted in seen.items():
                    counted.add(block[name])
                over = merge(over, moments(_stack(block, NUMERIC)))
        counts.update(selection.counts)
    known = {name: counted.known(options.least) for name, counted in seen.items()}
    return Log(
        schema=make_schema(FIELDS, known, NUMERIC),
        splits={s: _Blocks(files[s], drawn[s], known, over) for s in files},
        counts=dict(counts),
        notes=NOTES,
    )


def _select(path: Path, options: AliCcpOptions) -> Selection:
    rows = None if options.sample is None else count_lines(path) - 1
    return Selection(options, rows, path.name)


def _blocks(path: Path, selection: Selection) -> Iterator[dict[str, np.ndarray]]:
    """The columns of the rows that stay."""
    for line, batch in read_batches(path, COLUMNS, header=True):
        block = {n: c.to_numpy(zero_copy_only=False) for n, c in batch.items()}
        below = (_stack(block, [f.name for f in FIELDS]) < 0).any(axis=1)
        if below.any():
            raise ValueError(
                f"{path}, line {line + int(np.argmax(below))}: an id is below 0;"
                " the line is damaged"
            )
        wild = ~np.isfinite(_stack(block, NUMERIC)).all(axis=1)
        if wild.any():
            raise ValueError(
                f"{path}, line {line + int(np.argmax(wild))}: a number is not finite;"
                " the line is damaged"
            )
        kept = selection.keep(block["click"], block["purchase"])
        yield {name: column[kept] for name, column in block.items()}


def _stack(block: dict[str, np.ndarray], names: Iterable[str]) -> np.ndarray:
    return np.stack([block[name] for name in names], axis=1)


class _Blocks:
    """The rows of a split, read again each time."""

    def __init__(
        self,
        path: Path,
        options: AliCcpOptions,
        known: dict[str, np.ndarray],
        over: Moments,
    ):
        self._path, self._options = path, options
        self._known, self._over = known, over

    def __iter__(self) -> Iterator[Rows]:
        for block in _blocks(self._path, _select(self._path, self._options)):
            ids = [look_up(block[name], known) for name, known in self._known.items()]
            yield Rows(
                ids=np.stack(ids, axis=1),
                numeric=standardise(_stack(block, NUMERIC), self._over),
                labels={
                    "click": block["click"].astype(np.float32),
                    "conversion": block["purchase"].astype(np.float32),
                },
                extras={},
                groups={"user": block["101"], "item": block["205"]},
            )
