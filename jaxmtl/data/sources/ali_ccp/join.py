"""Ali-CCP's raw form: impressions joined with their common features, streamed.

`stage` turns the text into raw ids on disk; here they get the numbers of
their vocabularies and are joined, a block of rows at a time. In memory stay one
block, the counted ids, and eight bytes a line of common features while these are
sorted.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from jaxmtl.data.log import Log
from jaxmtl.data.reading.vocabulary import look_up
from jaxmtl.data.sources.ali_ccp.protocol import (
    BLOCK_ROWS,
    NOTES,
    AliCcpOptions,
    make_schema,
)
from jaxmtl.data.sources.ali_ccp.scratch import Scratch
from jaxmtl.data.sources.ali_ccp.stage import Stage
from jaxmtl.types import Field, Rows

PARTS = {"train": "train", "validation": "train", "test": "test"}
"""Split -> the part that it is taken from."""
FILES = tuple(
    f"{kind}_{part}.csv"
    for part in ("train", "test")
    for kind in ("sample_skeleton", "common_features")
)


def read_raw(folder: Path, options: AliCcpOptions) -> Log:
    """Reads and joins the four raw files of a folder.

    Args:
      folder: holds `FILES`.
      options: which rows and ids are kept.

    Returns:
      A log whose blocks are joined anew from a temporary folder each time they are
      read. The folder goes when the log does.

    Raises:
      ValueError: a line is damaged or names no common features, or the sample is
        larger than a file; names file and line.
    """
    scratch = Scratch()
    try:
        stage = Stage(scratch, options)
        for part in ("train", "test"):
            stage.add(folder, part)
        known = stage.known()
        for part in ("train", "test"):
            _encode_users(scratch, part, stage.users, known)
    except BaseException:
        scratch.remove()
        raise
    return Log(
        schema=make_schema((*stage.users, *stage.own), known),
        splits={s: _Joined(stage, known, s, part) for s, part in PARTS.items()},
        counts=dict(stage.counts),
        notes=(*NOTES, *_left_out(stage)),
    )


def _left_out(stage: Stage) -> tuple[str, ...]:
    if not stage.strange:
        return ()
    which = ", ".join(f"{name} ({n:,})" for name, n in stage.strange.most_common(20))
    return (f"Left out: features of fields not known in their file: {which}.",)


def _encode_users(
    scratch: Scratch,
    part: str,
    fields: tuple[Field, ...],
    known: dict[str, np.ndarray],
) -> None:
    raw = scratch.open_ids(f"{part}.users", fields)
    for start in range(0, len(raw), BLOCK_ROWS):
        ids = _encode(fields, known, raw[start : start + BLOCK_ROWS])
        scratch.append(f"{part}.encoded", ids)


def _encode(
    fields: tuple[Field, ...], known: dict[str, np.ndarray], raw: np.ndarray
) -> np.ndarray:
    ids, at = np.empty(raw.shape, np.int32), 0
    for field in fields:
        slots = slice(at, at + field.slots)
        ids[:, slots] = look_up(raw[:, slots], known[field.name])
        at += field.slots
    return ids


class _Joined:
    """The blocks of a split, joined again each time they are read."""

    def __init__(
        self, stage: Stage, known: dict[str, np.ndarray], split: str, part: str
    ):
        self._scratch, self._users, self._own = stage.scratch, stage.users, stage.own
        self._known, self._split, self._part = known, split, part

    def __iter__(self) -> Iterator[Rows]:
        scratch, split = self._scratch, self._split
        users = scratch.open_ids(f"{self._part}.users", self._users)
        encoded = scratch.open_ids(f"{self._part}.encoded", self._users)
        own = scratch.open_ids(f"{split}.ids", self._own)
        common = scratch.open(f"{split}.common", np.int64)
        click, buy = (
            scratch.open(f"{split}.{name}", bool) for name in ("click", "buy")
        )
        for start in range(0, len(common), BLOCK_ROWS):
            rows = slice(start, start + BLOCK_ROWS)
            who, raw = common[rows], np.array(own[rows])
            ids = (encoded[who], _encode(self._own, self._known, raw))
            yield Rows(
                ids=np.concatenate(ids, axis=1),
                numeric=np.zeros((len(raw), 0), np.float32),
                labels={
                    "click": click[rows].astype(np.float32),
                    "conversion": buy[rows].astype(np.float32),
                },
                extras={},
                # By the files' own numbers; user and item are their first fields.
                groups={"user": users[who, 0], "item": raw[:, 0]},
            )
