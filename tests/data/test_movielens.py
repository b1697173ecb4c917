"""MovieLens: two forms of the same ratings, two labels, genres in slots."""

import functools
import zipfile

import numpy as np
import pytest
from tensorflow_datasets.structured.movielens import Movielens
from test_store import joined

from jaxmtl.data import store
from jaxmtl.data.sources import movielens
from jaxmtl.data.sources.movielens import GENRE_SLOTS, GENRES
from jaxmtl.data.store.checks import check_rows
from jaxmtl.types import PADDING, UNKNOWN

START = 874_724_710
FILMS = {
    # id: title, year as RecBole writes it, genres
    1: ("Toy Story (1995)", "1995", ("Animation", "Children's", "Comedy")),
    2: ('Crooklyn "A" (1994)', "1994", ("Drama",)),
    3: ("Été (Summer), L' (1994)", "1994", ()),
    4: ("Land Before Time III (1995) (V)", "V", ("Animation", "Children's")),
    267: ("unknown", "unkonwn", ("unknown",)),
    50: ("Star Wars (1977)", "1977", GENRES[1 : GENRE_SLOTS + 2]),
}
USERS = {
    7: (24, "M", "technician", "85711"),
    9: (53, "F", "other", "T8H1N"),
    196: (30, "F", "writer", "00000"),
}


def make_ratings(n: int = 300) -> list[tuple[int, int, int, int]]:
    rng = np.random.default_rng(0)
    user, film = rng.choice(list(USERS), n), rng.choice(list(FILMS), n)
    columns = (user, film, rng.integers(1, 6, n), START + rng.integers(0, 90_000, n))
    return list(zip(*(column.tolist() for column in columns), strict=True))


def write_own(folder, ratings):
    """GroupLens's form: no headers, ISO-8859-1, a flag a genre."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = lambda rows, by: "".join(by.join(map(str, row)) + "\n" for row in rows)
    (folder / "u.data").write_text(lines(ratings, "\t"))
    films = [
        (
            number,
            title,
            "01-Jan-1990",
            "",
            "http://imdb",
            *(int(g in own) for g in GENRES),
        )
        for number, (title, _, own) in FILMS.items()
    ]
    (folder / "u.item").write_bytes(lines(films, "|").encode("latin1"))
    users = [(number, *about) for number, about in USERS.items()]
    (folder / "u.user").write_text(lines(users, "|"))
    return folder


def write_recbole(folder, ratings):
    """RecBole's atomic form: typed headers, UTF-8, genres as a sequence."""
    folder.mkdir(parents=True, exist_ok=True)
    write = lambda suffix, rows: (folder / f"ml-100k.{suffix}").write_text(
        "".join("\t".join(map(str, row)) + "\n" for row in rows), encoding="utf8"
    )
    write(
        "inter",
        [
            ("user_id:token", "item_id:token", "rating:float", "timestamp:float"),
            *ratings,
        ],
    )
    header = ("item_id:token", "movie_title:token_seq", "release_year:token")
    films = [(n, t[:-7], year, " ".join(own)) for n, (t, year, own) in FILMS.items()]
    write("item", [(*header, "class:token_seq"), *films])
    header = ("user_id:token", "age:token", "gender:token", "occupation:token")
    users = [(number, *about) for number, about in USERS.items()]
    write("user", [(*header, "zip_code:token"), *users])
    return folder


@pytest.fixture(params=[write_own, write_recbole], ids=["own", "recbole"])
def folder(request, tmp_path):
    return request.param(tmp_path / "ml-100k", make_ratings())


def test_both_forms_hold_the_same_rows(tmp_path):
    one = movielens.read(write_own(tmp_path / "own", make_ratings()))
    two = movielens.read(write_recbole(tmp_path / "recbole", make_ratings()))
    assert one.schema == two.schema and one.counts == two.counts
    for split in one.splits:
        rows, twin = joined(one.splits[split]), joined(two.splits[split])
        np.testing.assert_array_equal(rows.ids, twin.ids)
        np.testing.assert_array_equal(rows.numeric, twin.numeric)
        for part in ("labels", "extras", "groups"):
            for name, column in getattr(rows, part).items():
                np.testing.assert_array_equal(column, getattr(twin, part)[name])


def test_rows_hold_the_files_cells_in_time_order(folder):
    log = movielens.read(folder)
    ratings = sorted(make_ratings(), key=lambda rating: rating[3])
    rows = [joined(blocks) for blocks in log.splits.values()]
    for split, block in zip(log.splits, rows, strict=True):
        check_rows(log.schema, block, split)
    column = lambda part, name: np.concatenate([getattr(r, part)[name] for r in rows])
    assert column("groups", "user").tolist() == [r[0] for r in ratings]
    assert column("groups", "item").tolist() == [r[1] for r in ratings]
    assert column("labels", "like").tolist() == [r[2] >= 4 for r in ratings]
    assert column("labels", "rating").tolist() == [(r[2] - 1) / 4 for r in ratings]
    days = [(r[3] - ratings[0][3]) / 86_400 for r in ratings]
    np.testing.assert_allclose(column("extras", "day"), days, atol=1e-6)
    assert [r.num_rows for r in rows] == [210, 45, 45]


def test_genres_fill_slots_and_years_that_are_none_share_an_id(folder):
    log = movielens.read(folder)
    rows = joined(log.splits["train"])
    film, genres = rows.groups["item"], log.schema.column("genres")
    of = {f: rows.ids[np.argmax(film == f)].tolist() for f in FILMS}
    # Sorted as text, the genres of these films are numbered from 1 on.
    names = sorted({g for _, _, own in FILMS.values() for g in own[:GENRE_SLOTS]})
    for number, (_, _, own) in FILMS.items():
        expected = [1 + names.index(genre) for genre in own[:GENRE_SLOTS]]
        padding = [PADDING] * (GENRE_SLOTS - len(expected))
        assert of[number][genres:] == expected + padding
    year = {f: ids[log.schema.column("year")] for f, ids in of.items()}
    assert year[4] == year[267] > UNKNOWN
    assert year[2] == year[3] and len(set(year.values())) == 4


def test_age_is_standardised_over_the_training_rows(folder):
    log = movielens.read(folder)
    age = lambda rows: np.array([USERS[u][0] for u in rows.groups["user"]])
    train, test = (joined(log.splits[name]) for name in ("train", "test"))
    expected = (age(test) - age(train).mean()) / age(train).std()
    np.testing.assert_allclose(test.numeric[:, 0], expected, rtol=1e-5)


def test_an_end_to_end_preparation_keeps_every_row(folder, tmp_path):
    read = functools.partial(movielens.read, folder)
    data = store.prepare("movielens", {}, read, tmp_path / "cache", lambda _: None)
    for name, blocks in read().splits.items():
        np.testing.assert_array_equal(data.splits[name].ids, joined(blocks).ids)


def test_by_default_recboles_files_are_read_and_else_tfds_downloads_them(
    tmp_path, monkeypatch
):
    package = tmp_path / "site" / "recbole"
    write_recbole(package / "dataset_example" / "ml-100k", make_ratings(100))
    (package / "__init__.py").write_text("raise ImportError('it wants torch')")
    monkeypatch.syspath_prepend(str(package.parent))
    assert movielens.read().counts["read"] == 100

    def download(self, url):
        assert url == "https://files.grouplens.org/datasets/movielens/ml-100k.zip"
        folder = write_own(tmp_path / "ml-100k", make_ratings(120))
        with zipfile.ZipFile(tmp_path / "ml-100k.aB1_2.zip", "w") as archive:
            for file in folder.iterdir():
                archive.write(file, f"ml-100k/{file.name}")
        return tmp_path / "ml-100k.aB1_2.zip"

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(
        "tensorflow_datasets.download.DownloadManager.download", download
    )
    monkeypatch.setattr("jaxmtl.data.reading.catalogue._reach", lambda url: None)
    here = functools.partial(Movielens, data_dir=tmp_path / "tfds")
    monkeypatch.setattr(movielens, "Movielens", here)
    assert movielens.read().counts["read"] == 120


@pytest.mark.parametrize(
    ("rating", "message"),
    [
        ((8, 1, 3, START), r"u\.data names user 8, which .*u\.user lacks"),
        ((7, 6, 3, START), r"u\.data names film 6, which .*u\.item lacks"),
        ((7, 1, "x", START), r"u\.data, line 301, column 'stars'"),
        ((7, 1, 6, START), r"u\.data: a rating has 6 stars; expected 1 to 5"),
    ],
)
def test_a_bad_rating_is_named(tmp_path, rating, message):
    with pytest.raises(ValueError, match=message):
        movielens.read(write_own(tmp_path, [*make_ratings(), rating]))


def test_missing_files_say_where_to_get_them(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        ValueError, match=r"u\.data: no such file; get ml-100k\.zip from"
    ):
        movielens.read(tmp_path / "empty")
    (users,) = folder.glob("*.user")
    users.unlink()
    with pytest.raises(ValueError, match=rf"{users.name}: no such file; .*grouplens"):
        movielens.read(folder)
