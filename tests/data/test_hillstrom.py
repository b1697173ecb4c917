"""Hillstrom's trial: the published file and its known rates, by network and disk."""

import functools
import gzip
import hashlib

import numpy as np
import pytest
from tensorflow_datasets.recommendation.hillstrom.hillstrom import Hillstrom
from test_store import joined

from jaxmtl.data import store
from jaxmtl.data.sources import hillstrom
from jaxmtl.data.store.checks import check_rows

HEADER = (
    "recency,history_segment,history,mens,womens,zip_code,newbie,channel,segment,"
    "visit,conversion,spend"
)
SEGMENTS = ("Mens E-Mail", "No E-Mail", "Womens E-Mail")


def make_lines(n: int) -> list[str]:
    rng = np.random.default_rng(0)
    lines = [HEADER]
    for i in range(n):
        visit = i % 3 == 0
        bought = i % 9 == 0
        lines.append(
            f"{1 + i % 12},{1 + i % 2}) $0 - $100,{rng.lognormal(5):.2f},{i % 2},1,"
            f"{('Rural', 'Surburban', 'Urban')[i % 3]},{i % 2},Web,{SEGMENTS[i % 3]},"
            f"{visit:d},{bought:d},{29.99 if bought else 0}"
        )
    return lines


@pytest.fixture
def publish(tmp_path, monkeypatch):
    """Writes a file and makes it the published one."""

    def write(lines: list[str], name: str = "hillstrom.csv"):
        content = ("\r\n".join(lines) + "\r\n").encode()
        monkeypatch.setattr(hillstrom, "SHA256", hashlib.sha256(content).hexdigest())
        path = tmp_path / name
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return path

    return write


def test_rows_hold_the_files_cells(publish):
    lines = make_lines(400)
    log = hillstrom.read(publish(lines))
    cells = [line.split(",") for line in lines[1:]]
    segments = log.schema.column("segment")
    history = np.log1p([float(row[2]) for row in cells])
    known = history[joined(log.splits["train"]).groups["user"]]
    seen = 0
    for name, blocks in log.splits.items():
        rows = joined(blocks)
        check_rows(log.schema, rows, name)
        seen += rows.num_rows
        customers = rows.groups["user"]
        of_file = [cells[i] for i in customers]
        for at, task in enumerate(("visit", "conversion", "spend"), start=-3):
            expected = np.array([float(row[at]) for row in of_file], np.float32)
            np.testing.assert_array_equal(rows.labels[task], expected)
        shown = [SEGMENTS.index(row[8]) for row in of_file]
        assert rows.groups["item"].tolist() == shown
        assert rows.ids[:, segments].tolist() == [1 + s for s in shown]
        expected = (history[customers] - known.mean()) / known.std()
        np.testing.assert_allclose(rows.numeric[:, 1], expected, atol=1e-5)
    assert seen == 400 and log.counts == {"read": 400, "kept": 400}


def test_the_tasks_form_a_funnel():
    spaces = [(task.name, task.space) for task in hillstrom.TASKS]
    assert spaces == [
        ("visit", "impression"),
        ("conversion", "visit"),
        ("spend", "conversion"),
    ]


@pytest.mark.parametrize("name", hillstrom.NAMES)
def test_a_folder_may_hold_the_file_under_any_of_its_names(publish, name):
    path = publish(make_lines(100), name)
    assert hillstrom.read(path.parent).counts == hillstrom.read(path).counts


def test_another_file_is_refused_by_its_checksum(publish):
    path = publish(make_lines(100))
    path.write_bytes(path.read_bytes().replace(b"Rural", b"Urban", 1))
    with pytest.raises(ValueError, match=r"hillstrom\.csv: its content's sha256 is"):
        hillstrom.read(path)


def test_by_default_tfds_downloads_the_file(publish, tmp_path, monkeypatch):
    path, asked = publish(make_lines(100)), []

    def download(self, url):
        asked.append(url)
        return path

    monkeypatch.setattr(
        "tensorflow_datasets.download.DownloadManager.download", download
    )
    monkeypatch.setattr("jaxmtl.data.reading.catalogue._reach", lambda url: None)
    here = functools.partial(Hillstrom, data_dir=tmp_path / "tfds")
    monkeypatch.setattr(hillstrom, "Hillstrom", here)
    assert hillstrom.read().counts["read"] == 100
    (url,) = asked
    assert url.startswith("http://www.minethatdata.com/Kevin_Hillstrom")


def test_missing_files_say_where_to_get_them(tmp_path):
    for path in (tmp_path, tmp_path / "none.csv"):
        with pytest.raises(
            ValueError, match=r"no such file; get .*www\.minethatdata\.com"
        ):
            hillstrom.read(path)


@pytest.fixture(scope="module")
def real(shared_data, tmp_path_factory):
    file = shared_data / "hillstrom" / "hillstrom.csv.gz"
    if not file.is_file():
        pytest.skip(f"no {file}")
    read = functools.partial(hillstrom.read, file)
    cache = tmp_path_factory.mktemp("cache")
    return store.prepare("hillstrom", {}, read, cache, lambda _: None)


def test_the_published_file_has_the_known_rates(real):
    visit, conversion, spend = (
        np.concatenate([rows.labels[name] for rows in real.splits.values()]).astype(
            float
        )
        for name in ("visit", "conversion", "spend")
    )
    assert visit.size == 64_000 and real.counts == {"read": 64_000, "kept": 64_000}
    assert round(visit.mean(), 6) == 0.146781
    assert conversion.sum() == 578 and round(conversion.mean(), 6) == 0.009031
    assert round(conversion[visit == 1].mean(), 4) == 0.0615
    assert round(spend.mean(), 4) == 1.0509
    assert spend.max() == hillstrom.MOST_SPENT
    assert not conversion[visit == 0].any() and not spend[conversion == 0].any()


def test_the_published_file_has_these_fields(real):
    sizes = {v.name: v.size - 1 for v in real.schema.vocabularies}
    assert sizes == {
        "history_segment": 7,
        "mens": 2,
        "womens": 2,
        "zip_code": 3,
        "newbie": 2,
        "channel": 3,
        "segment": 3,
    }
    shares = [rows.num_rows / 64_000 for rows in real.splits.values()]
    np.testing.assert_allclose(shares, [0.7, 0.15, 0.15], atol=0.005)
    assert all(rows.labels["conversion"].sum() > 50 for rows in real.splits.values())
