"""The sample that LT4REC's authors published with their code.

One evening of Tencent Video: gzipped TFRecords in the public repository
https://github.com/aunusualman/LT4REC, which states no licence, so the data are
read from where the user put them and are never part of this project.

All 20 features named `FEA_*` are categorical here, as in the authors' code:
the user (`u…`), the video shown (`vid`, `i…`, `cp` its publisher), the video it
was shown under (`s…`), and the context (`algid` the recall algorithm, `order`
the position). Two columns are left out on purpose: `pctr` is the prediction of
the model then in production, and `seqnum` names the request.

Missing values are written "-1" ("N" for a publisher). In a multi-valued field
that is an empty set, and its slots are padding; in a single-valued field it is a
value like any other, with an id of its own, since what is missing (no source
video, no known position) tells the model something.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxmtl.data.log import Log
from jaxmtl.data.reading.splitting import by_time, divide
from jaxmtl.data.reading.tfrecord import read_examples
from jaxmtl.data.reading.vocabulary import encode
from jaxmtl.types import Field, Rows, Schema, Task

MISSING = "-1"
FIELDS = (
    Field("uid", "user"),
    Field("ugroup", "user_group"),
    Field("ucat", "category2", slots=6),
    Field("vid", "video"),
    Field("cp", "publisher"),
    Field("icat1", "category1"),
    Field("icat2", "category2"),
    Field("ixftag", "tag", slots=6),
    Field("ikeyword", "keyword", slots=8),
    Field("age", "age"),
    Field("duration", "duration"),
    Field("coverquality", "cover_quality"),
    Field("svid", "video"),
    Field("scp", "publisher"),
    Field("sicat1", "category1"),
    Field("sicat2", "category2"),
    Field("stag", "tag", slots=6),
    Field("sikeyword", "tag", slots=8),
    Field("algid", "algorithm"),
    Field("order", "order"),
)
TASKS = (
    Task("click"),
    Task("watch", kind="continuous", space="click", metric="mse"),
)
# Most videos and many tags occur once. An id of its own would only let the model
# remember that row, and would leave UNKNOWN, which the test rows hold, untrained.
MIN_COUNT = 2
TIME = re.compile(r"[@_](\d{10})(?:\d{3})?[@_.]")
"""A request's time in `seqnum`: seconds, or milliseconds, between separators."""


class Impression(NamedTuple):
    """One record: the raw values of every field, its labels and its second."""

    values: dict[str, list[str]]
    click: int
    watch: float
    duration: int
    second: int


def read(path: str | Path) -> Log:
    """Reads the sample.

    The rows are split by time, at the whole second, so that a request is never
    torn apart: about 70 % for training, 15 % for validation, 15 % for the test.

    Args:
      path: a part file, or a folder of files named `part-*`.

    Returns:
      Tasks `click` (which plays CTR) and `watch`, the share of the video that
      was watched, given a click (CVR). Extras: `duration` in seconds and `day`,
      the time since the first impression as a fraction of a day.

    Raises:
      ValueError: a file is missing or damaged, a record lacks a feature, or a
        label lies outside its range; names the file and the record.
    """
    impressions = [i for file in find_parts(Path(path)) for i in _read_file(file)]
    impressions.sort(key=lambda impression: impression.second)
    second = np.array([i.second for i in impressions], np.int64)
    split = by_time(second, path)
    columns = {field.name: _column(field, impressions) for field in FIELDS}
    vocabularies, ids = encode(FIELDS, columns, split == 0, min_count=MIN_COUNT)
    rows = Rows(
        ids=ids,
        numeric=np.zeros((len(ids), 0), np.float32),
        labels={
            "click": np.array([i.click for i in impressions], np.float32),
            "watch": np.array([i.watch for i in impressions], np.float32),
        },
        extras={
            "duration": np.array([i.duration for i in impressions], np.float32),
            "day": ((second - second[0]) / 86_400).astype(np.float32),
        },
        groups={"user": _number(columns["uid"]), "item": _number(columns["vid"])},
    )
    schema = Schema(
        name="lt4rec_sample",
        fields=FIELDS,
        vocabularies=vocabularies,
        tasks=TASKS,
        ctr="click",
        cvr="watch",
        user="uid",
        item="vid",
        extras=tuple(rows.extras),
    )
    return Log(
        schema=schema,
        splits=divide(rows, split),
        counts={"read": len(ids), "kept": len(ids)},
        notes=_notes(columns, second, split),
    )


def find_parts(path: Path) -> list[Path]:
    """The file itself, or a folder's parts in the order of their names."""
    if not path.is_dir():
        return [path]
    files = sorted(path.glob("part-*"))
    if not files:
        raise ValueError(f"{path} holds no file named part-*; give the sample's folder")
    return files


def _read_file(file: Path) -> Iterator[Impression]:
    for number, example in enumerate(read_examples(file)):
        try:
            yield _impression(example)
        except ValueError as error:
            raise ValueError(f"{file}, record {number}: {error}") from error


def _impression(example: dict[str, list]) -> Impression:
    values = {}
    for field in FIELDS:
        text = _text(example, f"FEA_{field.name.upper()}", field.slots)
        values[field.name] = [] if field.slots > 1 and text == [MISSING] else text
    (click,) = _values(example, "label", int)
    (watch,) = _values(example, "cvrlabel", float)
    (duration,) = values["duration"]
    (request,) = _text(example, "seqnum")
    time = TIME.search(request)
    if click not in (0, 1):
        raise ValueError(f"label is {click}; expected 0 or 1")
    if not 0 <= watch <= 1:
        raise ValueError(f"cvrlabel is {watch}; expected a share between 0 and 1")
    if not duration.isdecimal():
        raise ValueError(f"FEA_DURATION is {duration!r}; expected whole seconds")
    if time is None:
        raise ValueError(f"seqnum {request!r} holds no time to split by")
    return Impression(values, click, watch, int(duration), int(time[1]))


def _text(example: dict[str, list], name: str, slots: int = 1) -> list[str]:
    return [value.decode() for value in _values(example, name, bytes, slots)]


def _values(example: dict[str, list], name: str, kind: type, slots: int = 1) -> list:
    values = example.get(name, [])
    if not 1 <= len(values) <= slots or not isinstance(values[0], kind):
        number = "one" if slots == 1 else f"1 to {slots}"
        raise ValueError(
            f"{name} holds {values}; expected {number} of type {kind.__name__}"
        )
    return values


def _column(field: Field, impressions: list[Impression]) -> np.ndarray:
    empty = [""] * field.slots
    return np.array(
        [(i.values[field.name] + empty)[: field.slots] for i in impressions]
    )


def _number(column: np.ndarray) -> np.ndarray:
    return np.unique(column, return_inverse=True)[1].ravel().astype(np.int32)


def _notes(columns, second: np.ndarray, split: np.ndarray) -> tuple[str, ...]:
    users = columns["uid"][:, 0]
    hours = (second[-1] - second[0]) / 3600
    returning = np.isin(users[split == 2], users[split == 0]).mean()
    return (
        "LT4REC authors' sample, from the public repository aunusualman/LT4REC;"
        " no licence stated: not to be redistributed.",
        f"{users.size:,} impressions, {len(np.unique(users)):,} users,"
        f" {len(np.unique(columns['vid'])):,} videos, before ids that training holds"
        f" fewer than {MIN_COUNT} times became UNKNOWN. Too small to rank models.",
        f"Split by time over {hours:.1f} hours: {returning:.0%} of the test"
        " impressions are of users that training holds, so it measures new users.",
    )
