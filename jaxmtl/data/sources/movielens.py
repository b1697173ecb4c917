"""MovieLens 100K: who rated which film how, a small log with real ids.

F. M. Harper and J. A. Konstan, "The MovieLens Datasets: History and Context", ACM
TiiS 5(4), 2015; https://grouplens.org/datasets/movielens/100k/. Two forms hold the
same ratings: GroupLens's own files (`u.data`, `u.item`, `u.user`), which the builder
`movielens` of the TFDS catalogue downloads, and RecBole's "atomic" files
(`ml-100k.inter`, `.item`, `.user`), which its PyPI wheel carries.

A row is a rating; each has two labels. `like` is a rating of four stars or more and
plays CTR; `rating`, (stars - 1) / 4, plays CVR. Only films that someone chose to
rate are in the log, so `like` is no click, and neither label has a space of its own.

Fields: the user and what is known of them, the film, its year (from its title) and
up to six genres, together one multi-valued field. Age is numeric. Rows are split by
time, 70/15/15, at the whole second. MovieLens users rate in one sitting, so most
users of the test are new to it; the notes say how many.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tensorflow_datasets.structured.movielens import Movielens

from jaxmtl.data.log import Log
from jaxmtl.data.reading.catalogue import fetch
from jaxmtl.data.reading.delimited import Format, Id, Name, read_columns
from jaxmtl.data.reading.scaling import moments, standardise
from jaxmtl.data.reading.splitting import by_time, divide
from jaxmtl.data.reading.vocabulary import encode
from jaxmtl.types import Field, Rows, Schema, Task

URL = "https://grouplens.org/datasets/movielens/100k/"
GENRES = (
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
)
"""In the order of the flags in `u.item`."""
GENRE_SLOTS = 6
FIELDS = (
    Field("user", "user"),
    Field("gender", "gender"),
    Field("occupation", "occupation"),
    Field("film", "film"),
    Field("year", "year"),
    Field("genres", "genre", slots=GENRE_SLOTS),
)
NUMERIC = ("age",)
TASKS = (Task("like"), Task("rating", kind="continuous", metric="mse"))
LIKED = 4
"""Stars from which on a film was liked."""
# As in `lt4rec_sample`: an id of its own for what training holds once would leave
# UNKNOWN untrained, which new users and films of the test carry.
MIN_COUNT = 2
_TITLE_YEAR = re.compile(r"\(([^()]*)\)\s*$")


USER_COLUMNS = ("user", "age", "gender", "occupation")


class Ratings(NamedTuple):
    """The three tables, however they were written.

    Attributes:
      user, film, stars, second: int64 [ratings].
      users: `user` and `age` (int64), `gender` and `occupation` (text), [users].
      films: `film` (int64) and `year` (text), [films]; `genres`, [films, slots].
    """

    user: np.ndarray
    film: np.ndarray
    stars: np.ndarray
    second: np.ndarray
    users: dict[str, np.ndarray]
    films: dict[str, np.ndarray]


def find_files(path: str | Path | None = None) -> tuple[Path, Path, Path]:
    """Ratings, films and users: in the folder `path`, else RecBole's or TFDS's.

    Args:
      path: folder of either form. By default the one in the installed package
        `recbole`, and where that is not installed, the one TFDS downloads.

    Raises:
      ValueError: a file is not there, or could not be downloaded.
    """
    advice = (
        f"get ml-100k.zip from {URL}, unpack it and give its folder as the path; or"
        " that of recbole/dataset_example/ml-100k in PyPI's recbole==1.2.1"
    )
    folder = _default_folder(advice) if path is None else Path(path)
    forms = [
        [folder / f"{stem}.{suffix}" for suffix in suffixes]
        for stem, suffixes in (
            ("u", ("data", "item", "user")),
            ("ml-100k", ("inter", "item", "user")),
        )
    ]
    ratings, films, users = forms[1] if forms[1][0].is_file() else forms[0]
    for file in (ratings, films, users):
        if not file.is_file():
            raise ValueError(f"{file}: no such file; {advice}")
    return ratings, films, users


def _default_folder(advice: str) -> Path:
    package = importlib.util.find_spec("recbole")
    if package is not None:
        places = package.submodule_search_locations
        return Path(places[0]) / "dataset_example" / "ml-100k"
    return fetch(Movielens, advice, config="100k-ratings") / "ml-100k"


def read(path: str | Path | None = None) -> Log:
    """Reads the ratings.

    Args:
      path: as for `find_files`.

    Returns:
      Tasks `like` (CTR) and `rating` (CVR), six fields of which `genres` is
      multi-valued, and the age, standardised over the training rows. Extra: `day`,
      the time since the first rating as a fraction of days.

    Raises:
      ValueError: a file is missing or breaks its form, a rating names a user or a
        film that is not in the tables, or all ratings are of few seconds.
    """
    files = find_files(path)
    ratings = _read_recbole(files) if files[0].suffix == ".inter" else _read_own(files)
    order = np.argsort(ratings.second, kind="stable")
    user, film, stars, second = (column[order] for column in ratings[:4])
    if stars.min() < 1 or stars.max() > 5:
        strange = stars[(stars < 1) | (stars > 5)][0]
        raise ValueError(f"{files[0]}: a rating has {strange} stars; expected 1 to 5")
    split = by_time(second, files[0])
    columns = _look_up(user, ratings.users, "user", files[0], files[2])
    columns |= _look_up(film, ratings.films, "film", files[0], files[1])
    vocabularies, ids = encode(FIELDS, columns, split == 0, min_count=MIN_COUNT)
    age = columns["age"][:, None]
    rows = Rows(
        ids=ids,
        numeric=standardise(age, moments(age[split == 0])),
        labels={
            "like": (stars >= LIKED).astype(np.float32),
            "rating": ((stars - 1) / 4).astype(np.float32),
        },
        extras={"day": ((second - second[0]) / 86_400).astype(np.float32)},
        groups={"user": user.astype(np.int32), "item": film.astype(np.int32)},
    )
    schema = Schema(
        name="movielens",
        fields=FIELDS,
        vocabularies=vocabularies,
        tasks=TASKS,
        ctr="like",
        cvr="rating",
        user="user",
        item="film",
        numeric=NUMERIC,
        extras=tuple(rows.extras),
    )
    return Log(
        schema=schema,
        splits=divide(rows, split),
        counts={"read": user.size, "kept": user.size},
        notes=_notes(user, split),
    )


def _notes(user: np.ndarray, split: np.ndarray) -> tuple[str, ...]:
    known = np.isin(user[split == 2], user[split == 0]).mean()
    return (
        f"MovieLens 100K, GroupLens, University of Minnesota, {URL}: for research;"
        " not to be redistributed, nor used commercially, without permission. Cite"
        " Harper and Konstan, ACM TiiS 5(4), 2015.",
        f"Split by time: {known:.0%} of the test's ratings are by users that training"
        " holds. Only films that users chose to rate are in the log.",
    )


def _read_own(files: tuple[Path, Path, Path]) -> Ratings:
    """GroupLens's files: tab or `|` between values, no header, ISO-8859-1."""
    keys = ("user", "film", "stars", "second")
    tabs = Format("\t", quoted=False, header=keys)
    kinds = dict(zip(keys, (Id, Id, int, int), strict=True))
    data = read_columns(files[0], kinds, tabs)
    film = ("film", "title", "released", "on_video", "imdb", *GENRES)
    bars = Format("|", quoted=False, header=film, encoding="latin1")
    films = read_columns(
        files[1], {"film": int, "title": str, **dict.fromkeys(GENRES, int)}, bars
    )
    flags = np.stack([films.pop(genre) for genre in GENRES], axis=1)
    years = [_TITLE_YEAR.search(title) for title in films["title"]]
    return Ratings(
        **data,
        users=read_columns(
            files[2],
            dict(zip(USER_COLUMNS, (Id, Id, Name, Name), strict=True)),
            dataclasses.replace(bars, header=(*USER_COLUMNS, "zip")),
        ),
        films={
            "film": films["film"],
            "year": _years([found[1] if found else "" for found in years]),
            "genres": _genres([np.array(GENRES)[row == 1] for row in flags]),
        },
    )


def _read_recbole(files: tuple[Path, Path, Path]) -> Ratings:
    """RecBole's files: tabs between values, a header that gives types."""
    tabs = Format("\t", quoted=False)
    data = read_columns(
        files[0],
        {
            "user_id:token": Id,
            "item_id:token": Id,
            "rating:float": float,
            "timestamp:float": float,
        },
        tabs,
    )
    films = read_columns(
        files[1],
        {"item_id:token": int, "release_year:token": str, "class:token_seq": str},
        tabs,
    )
    users = read_columns(
        files[2],
        {
            "user_id:token": Id,
            "age:token": Id,
            "gender:token": Name,
            "occupation:token": Name,
        },
        tabs,
    )
    return Ratings(
        *(_whole(files[0], name, column) for name, column in data.items()),
        users=dict(zip(USER_COLUMNS, users.values(), strict=True)),
        films={
            "film": films["item_id:token"],
            "year": _years(films["release_year:token"]),
            "genres": _genres([row.split() for row in films["class:token_seq"]]),
        },
    )


def _whole(file: Path, name: str, column: np.ndarray) -> np.ndarray:
    """Whole numbers that are written as floats, as int64."""
    wrong = (column != np.floor(column)) | (np.abs(column) > 2**53)
    if wrong.any():
        at = int(np.argmax(wrong))
        raise ValueError(
            f"{file}, line {2 + at}, column {name!r}: {column[at]}; expected a whole"
            " number"
        )
    return column.astype(np.int64)


def _years(texts) -> np.ndarray:
    """Years as they are, everything else as one value."""
    return np.array([text if text.isdecimal() else "unknown" for text in texts])


def _genres(lists) -> np.ndarray:
    """Text [films, slots], "" in empty slots; more genres than slots are cut."""
    empty = [""] * GENRE_SLOTS
    return np.array([[*genres, *empty][:GENRE_SLOTS] for genres in lists], np.str_)


def _look_up(
    ids: np.ndarray, table: dict[str, np.ndarray], key: str, file: Path, source: Path
) -> dict[str, np.ndarray]:
    """A table's columns, its line for each id of its column `key`."""
    order = np.argsort(table[key])
    known = table[key][order]
    at = np.minimum(np.searchsorted(known, ids), known.size - 1)
    if (known[at] != ids).any():
        stranger = ids[known[at] != ids][0]
        raise ValueError(
            f"{file} names {key} {stranger}, which {source} lacks; the files must"
            " come from one archive"
        )
    return {name: column[order[at]] for name, column in table.items()}
