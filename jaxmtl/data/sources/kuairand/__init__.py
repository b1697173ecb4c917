"""KuaiRand: impressions of a video feed, clicks, and how long was watched.

C. Gao et al., "KuaiRand: An Unbiased Sequential Recommendation Dataset with Randomly
Exposed Videos", CIKM 2022; https://kuairand.com, CC BY-SA 4.0. KuaiRand-1K holds 11.7
million impressions of 1,000 users, KuaiRand-Pure 1.4 million of 27,285; both are read
by their standard policy's logs (`tables` says what is left out, and why).

A row is a video shown to a user. Task `click` has a label everywhere: a click where
the app shows covers, a play of 7 seconds or of the whole video where it plays by
itself. In the space of clicks live `watch`, the share of the video that was watched,
cut at 1, and `long_view`, a play of 18 seconds or of the whole video. `watch` is
missing where the duration is: those rows train and judge the other tasks.

Numbers (followers, days since registration, pixels, the video's duration) are
long-tailed: their logarithm is standardised, and a missing one is the mean. What
training holds less than twice is `UNKNOWN`.

Rows are split by time, 70/15/15, between two milliseconds. A joined file without
`time_ms` is split by a hash of the row's number.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from jaxmtl.data.log import SPLITS, Log
from jaxmtl.data.reading.scaling import moments, standardise
from jaxmtl.data.reading.splitting import by_hash, by_time
from jaxmtl.data.reading.vocabulary import look_up
from jaxmtl.data.sources.kuairand.tables import URL, Part, find_files, load
from jaxmtl.types import Rows, Schema, Task, Vocabulary

BLOCK_ROWS = 65_536
DAY_MS = 86_400_000
# As in `lt4rec_sample`: most videos occur once, and an id of its own would leave
# UNKNOWN untrained, which new videos of the test carry.
MIN_COUNT = 2
TASKS = (
    Task("click"),
    Task("watch", kind="continuous", space="click", metric="mse"),
    Task("long_view", space="click"),
)


@dataclasses.dataclass(frozen=True)
class EncodedPart:
    """A part as ids and scaled numbers: int32 [things, slots], float32 [things, k]."""

    ids: np.ndarray
    numeric: np.ndarray
    of_row: np.ndarray


@dataclasses.dataclass(frozen=True)
class Blocks:
    """The rows of one split, put together from their parts as they are read.

    Attributes:
      parts: in the order of the schema's fields.
      labels, extras, groups: as in `Rows`, of the whole log.
      rows: which rows of the log, in the order to read them.
    """

    parts: tuple[EncodedPart, ...]
    labels: dict[str, np.ndarray]
    extras: dict[str, np.ndarray]
    groups: dict[str, np.ndarray]
    rows: np.ndarray

    def __iter__(self) -> Iterator[Rows]:
        for start in range(0, self.rows.size, BLOCK_ROWS):
            rows = self.rows[start : start + BLOCK_ROWS]
            take = lambda columns, at=rows: {n: c[at] for n, c in columns.items()}
            yield Rows(
                np.concatenate([p.ids[p.of_row[rows]] for p in self.parts], axis=1),
                np.concatenate([p.numeric[p.of_row[rows]] for p in self.parts], axis=1),
                *(take(columns) for columns in (self.labels, self.extras, self.groups)),
            )


def read(path: str | Path | None = None) -> Log:
    """Reads the log.

    Args:
      path: the folder of KuaiRand-1K or KuaiRand-Pure, or a joined file.

    Returns:
      Tasks `click` (CTR), `watch` (CVR) and, where the file has it, `long_view`.
      Extras: `duration` in seconds (0 = unknown) and, with time, `day`, the time
      since the first impression as a fraction of days.

    Raises:
      ValueError: a file is missing or lacks a column, or a cell is empty or no
        number; names the file, the line and the column.
    """
    files = find_files(path)
    impressions = load(files)
    log = impressions.log
    rows = log["user_id"].size
    time = log.get("time_ms")
    split = by_hash(np.arange(rows)) if time is None else by_time(time, files[0].parent)
    order = np.arange(rows) if time is None else np.argsort(time, kind="stable")
    encoded = [_encode(part, split == 0) for part in impressions.parts]
    labels, extras = _labels(log), _extras(log)
    groups = {"user": _number(log["user_id"]), "item": _number(log["video_id"])}
    parts = tuple(part for _, part in encoded)
    schema = Schema(
        name="kuairand",
        fields=tuple(field for part in impressions.parts for field in part.fields),
        vocabularies=tuple(v for vocabularies, _ in encoded for v in vocabularies),
        tasks=tuple(task for task in TASKS if task.name in labels),
        ctr="click",
        cvr="watch",
        user="user_id",
        item="video_id",
        numeric=tuple(name for part in impressions.parts for name in part.numeric),
        extras=tuple(extras),
    )
    return Log(
        schema=schema,
        splits={
            name: Blocks(parts, labels, extras, groups, order[split[order] == i])
            for i, name in enumerate(SPLITS)
        },
        counts={"read": rows, "kept": rows},
        notes=_notes(log, groups, files),
    )


def _encode(
    part: Part, is_train: np.ndarray
) -> tuple[tuple[Vocabulary, ...], EncodedPart]:
    """Numbers a part's things once, however many rows each has."""
    things = len(part.numbers)
    shown = np.bincount(part.of_row[is_train], minlength=things)
    vocabularies, ids = [], [np.zeros((things, 0), np.int32)]
    for field in part.fields:
        values = part.columns[field.name].reshape(things, -1)
        known = _common(values, np.repeat(shown, field.slots))
        vocabularies.append(Vocabulary(field.vocabulary, 1 + known.size))
        ids.append(look_up(values, known))
    logs = np.log1p(np.maximum(part.numbers, 0))
    scaled = standardise(logs, moments(logs[part.of_row[is_train]]))
    encoded = EncodedPart(np.concatenate(ids, axis=1), scaled, part.of_row)
    return tuple(vocabularies), encoded


def _common(values: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """The sorted values that training shows at least `MIN_COUNT` times."""
    found, which = np.unique(values, return_inverse=True)
    counts = np.bincount(which.ravel(), weights=shown, minlength=found.size)
    empty = found == "" if found.dtype.kind == "U" else np.zeros(found.size, bool)
    return found[(counts >= MIN_COUNT) & ~empty]


def _labels(log: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    duration = np.where(log["duration_ms"] > 0, log["duration_ms"], np.nan)
    labels = {
        "click": log["is_click"],
        "watch": np.clip(log["play_time_ms"], 0, duration) / duration,
    }
    if "long_view" in log:
        labels["long_view"] = log["long_view"]
    return {name: column.astype(np.float32) for name, column in labels.items()}


def _extras(log: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    extras = {"duration": log["duration_ms"] / 1000}
    if "time_ms" in log:
        extras["day"] = (log["time_ms"] - log["time_ms"].min()) / DAY_MS
    return {name: column.astype(np.float32) for name, column in extras.items()}


def _number(ids: np.ndarray) -> np.ndarray:
    return np.unique(ids, return_inverse=True)[1].astype(np.int32)


def _notes(
    log: dict[str, np.ndarray], groups: dict[str, np.ndarray], files: tuple[Path, ...]
) -> tuple[str, ...]:
    users, videos = (1 + int(groups[name].max()) for name in ("user", "item"))
    unknown = np.count_nonzero(log["duration_ms"] <= 0)
    return (
        f"KuaiRand, {URL}, CC BY-SA 4.0. Gao et al., CIKM 2022. Read from"
        f" {', '.join(file.name for file in files)}.",
        f"{log['user_id'].size:,} impressions, {users:,} users, {videos:,} videos."
        f" {unknown:,} impressions have no duration, and so no label `watch`.",
        "Split by time."
        if "time_ms" in log
        else "The file has no time: rows are split by a hash of their number.",
    )
