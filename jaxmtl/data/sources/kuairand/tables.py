"""KuaiRand's files as columns: the raw layout, or one file in which it is joined.

The raw layout is that of KuaiRand-1K and KuaiRand-Pure (https://kuairand.com, "Data
Descriptions"): `log_standard_*.csv`, a row an impression, `user_features_*.csv` and
`video_features_basic_*.csv`. A joined file has the columns of all three, or some.

Left unread on purpose: `log_random_*.csv`, the log of another policy;
`video_features_statistic_*.csv`, averages over the very month that is predicted;
`visible_status`, what became of a video afterwards; and of the log `is_like`,
`profile_stay_time` and all else that the user did after the video was shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxmtl.data.reading.delimited import Id, read_columns, read_header
from jaxmtl.types import Field

URL = "https://kuairand.com"
RAW = ("log_standard_*.csv", "user_features_*.csv", "video_features_basic_*.csv")
LOG = {
    "user_id": Id,
    "video_id": Id,
    "is_click": bool,
    "play_time_ms": float,
    "duration_ms": float,
}
"""The columns of a log that no form may lack."""
LOG_EXTRAS = {"tab": Id, "hourmin": Id, "time_ms": int, "long_view": bool}
"""Those that a joined file may lack."""
USER_FIELDS = (
    "user_active_degree",
    "is_lowactive_period",
    "is_live_streamer",
    "is_video_author",
    "follow_user_num_range",
    "fans_user_num_range",
    "friend_user_num_range",
    "register_days_range",
    *(f"onehot_feat{i}" for i in range(18)),
)
USER_NUMBERS = ("follow_user_num", "fans_user_num", "friend_user_num", "register_days")
VIDEO_FIELDS = (
    "author_id",
    "video_type",
    "upload_type",
    "music_id",
    "music_type",
    "tag",
)
VIDEO_NUMBERS = ("server_width", "server_height")
TAG_SLOTS = 4
MISSING = "missing"
"""A value like any other in a single-valued field: its absence tells something."""


class Part(NamedTuple):
    """What is known of one kind of thing: the showing itself, its user, its video.

    Attributes:
      fields: the categorical features.
      columns: of each field, integers or text, [things] or [things, slots].
      numeric: names of the numbers.
      numbers: float64 [things, numerics]; NaN = missing.
      of_row: [rows], the index of each impression's thing.
    """

    fields: tuple[Field, ...]
    columns: dict[str, np.ndarray]
    numeric: tuple[str, ...]
    numbers: np.ndarray
    of_row: np.ndarray


class Impressions(NamedTuple):
    """A log, in the order of its files.

    Attributes:
      parts: the showing, the user and the video.
      log: the columns of `LOG` and those of `LOG_EXTRAS` that there are, [rows].
    """

    parts: tuple[Part, Part, Part]
    log: dict[str, np.ndarray]


def find_files(path: str | Path | None = None) -> tuple[Path, ...]:
    """One joined file; or the logs, the table of users and that of videos.

    Args:
      path: the joined file, or the folder of the raw files, or the one that holds
        them in `data`, as the archive does.

    Raises:
      ValueError: there is no path, or a file is missing.
    """
    place = f"get KuaiRand-1K or KuaiRand-Pure from {URL} and give its unpacked folder"
    if path is None:
        raise ValueError(f"kuairand needs a path; {place}")
    path = Path(path)
    if path.is_file():
        return (path,)
    folder = path / "data" if (path / "data").is_dir() else path
    found: list[Path] = []
    for pattern in RAW:
        files = sorted(folder.glob(pattern))
        if not files:
            raise ValueError(f"{folder / pattern}: no such file; {place}")
        found += files
    return tuple(found)


def load(files: tuple[Path, ...]) -> Impressions:
    """Reads the files that `find_files` names, and joins them.

    Raises:
      ValueError: a file lacks a column, or a cell is empty or no number; names the
        file, the line and the column.
    """
    if len(files) == 1:
        return _load_joined(files[0])
    *logs, user_file, video_file = files
    tables = [read_columns(file, LOG | LOG_EXTRAS) for file in logs]
    log = {key: np.concatenate([t[key] for t in tables]) for key in tables[0]}
    users = _join(user_file, "user_id", USER_FIELDS, USER_NUMBERS, log)
    videos = _join(video_file, "video_id", VIDEO_FIELDS, VIDEO_NUMBERS, log)
    return Impressions((_showing(log), users, videos), log)


def _load_joined(file: Path) -> Impressions:
    header = read_header(file)
    there = lambda names: [name for name in names if name in header]
    log_columns = LOG | {name: LOG_EXTRAS[name] for name in there(LOG_EXTRAS)}
    log = read_columns(file, log_columns)
    rows = np.arange(log["user_id"].size)
    users, videos = (
        _part(_features(file, there(fields), there(numbers)), there(numbers), rows)
        for fields, numbers in (
            (USER_FIELDS, USER_NUMBERS),
            (VIDEO_FIELDS, VIDEO_NUMBERS),
        )
    )
    return Impressions((_showing(log), users, videos), log)


def _showing(log: dict[str, np.ndarray]) -> Part:
    """Who is shown what, where, at which hour of the day, and how long it lasts."""
    columns = {"user_id": log["user_id"], "video_id": log["video_id"]}
    if "tab" in log:
        columns["tab"] = log["tab"]
    if "hourmin" in log:
        columns["hour"] = log["hourmin"] // 100
    duration = np.where(log["duration_ms"] > 0, log["duration_ms"], np.nan)
    rows = np.arange(duration.size)
    return _part(columns | {"duration_ms": duration}, ["duration_ms"], rows)


def _join(
    file: Path,
    key: str,
    fields: tuple[str, ...],
    numbers: tuple[str, ...],
    log: dict[str, np.ndarray],
) -> Part:
    """A table's things, and last one of which nothing is known."""
    table = read_columns(file, {key: int})
    known, first = np.unique(table[key], return_index=True)
    at = np.searchsorted(known, log[key])
    at = np.where(known[np.minimum(at, known.size - 1)] == log[key], at, known.size)
    table = _features(file, fields, numbers)
    unknown = {
        name: np.nan if name in numbers else "" if name == "tag" else MISSING
        for name in table
    }
    table = {n: np.append(column[first], unknown[n]) for n, column in table.items()}
    return _part(table, numbers, at)


def _features(
    file: Path, fields: Sequence[str], numbers: Sequence[str]
) -> dict[str, np.ndarray]:
    kinds = dict.fromkeys(fields, str) | dict.fromkeys(numbers, float)
    if not kinds:
        return {}
    table = read_columns(file, kinds, missing=np.nan)
    for name in fields:
        if name != "tag":
            table[name] = np.where(table[name] == "", MISSING, table[name])
    return table


def _part(
    table: dict[str, np.ndarray], numbers: Sequence[str], of_row: np.ndarray
) -> Part:
    columns = {name: column for name, column in table.items() if name not in numbers}
    if "tag" in columns:
        columns["tag"] = _tags(columns["tag"])
    things = len(next(iter(table.values()), of_row))
    values = [table[name] for name in numbers]
    return Part(
        fields=tuple(
            Field(name, name, slots=TAG_SLOTS if name == "tag" else 1)
            for name in columns
        ),
        columns=columns,
        numeric=tuple(numbers),
        numbers=np.stack(values, axis=1) if values else np.zeros((things, 0)),
        of_row=of_row,
    )


def _tags(texts: np.ndarray) -> np.ndarray:
    """ "12,65" as text [things, slots], "" in empty slots; the first ones are kept."""
    distinct, which = np.unique(texts, return_inverse=True)
    empty = [""] * TAG_SLOTS
    slots = [
        ([tag for tag in text.split(",") if tag] + empty)[:TAG_SLOTS]
        for text in distinct
    ]
    return np.array(slots, np.str_)[which]
