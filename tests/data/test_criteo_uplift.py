"""Criteo's uplift trials: streamed, and blind to what the treatment caused."""

import functools
import gzip

import numpy as np
import pytest
from tensorflow_datasets.recommendation.criteo.criteo import Criteo
from test_store import joined

from jaxmtl.data import store
from jaxmtl.data.reading import delimited
from jaxmtl.data.sources import criteo_uplift
from jaxmtl.data.store.checks import check_rows

FEATURES = [f"f{i}" for i in range(12)]
HEADER = [*FEATURES, "treatment", "conversion", "visit", "exposure"]


def make_cells(n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    visit = rng.random(n) < 0.3
    outcomes = np.stack([visit & (rng.random(n) < 0.4), visit, rng.random(n) < 0.1], 1)
    treatment = rng.random((n, 1)) < 0.85
    numbers = rng.normal(np.arange(12), 1 + np.arange(12), (n, 12)).round(9)
    return np.concatenate([numbers, treatment, outcomes], axis=1)


def write_file(path, cells: np.ndarray):
    lines = [",".join(HEADER)]
    lines += [
        ",".join([*map(str, row[:12]), *map(str, row[12:].astype(int))])
        for row in cells
    ]
    text = ("\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


@pytest.fixture
def cells():
    return make_cells(1_000)


@pytest.fixture
def file(tmp_path, cells):
    return write_file(tmp_path / "criteo-uplift-v2.1.csv.gz", cells)


def test_every_row_of_the_file_is_in_one_split(file, cells):
    log = criteo_uplift.read(file)
    seen = np.concatenate([joined(b).groups["user"] for b in log.splits.values()])
    assert sorted(seen) == list(range(1_000))
    assert log.counts == {"read": 1_000, "kept": 1_000}
    for name, blocks in log.splits.items():
        rows = joined(blocks)
        check_rows(log.schema, rows, name)
        of_file = cells[rows.groups["user"]]
        np.testing.assert_array_equal(rows.labels["conversion"], of_file[:, 13])
        np.testing.assert_array_equal(rows.labels["visit"], of_file[:, 14])
        np.testing.assert_array_equal(rows.ids[:, 0], 1 + of_file[:, 12])


def test_numbers_are_standardised_over_the_training_rows(file, cells):
    log = criteo_uplift.read(file)
    train = cells[joined(log.splits["train"]).groups["user"], :12]
    for blocks in log.splits.values():
        rows = joined(blocks)
        numbers = cells[rows.groups["user"], :12]
        expected = (numbers - train.mean(axis=0)) / train.std(axis=0)
        np.testing.assert_allclose(rows.numeric, expected, atol=1e-5)


def test_a_file_in_many_blocks_is_split_as_in_one(file, monkeypatch):
    whole = joined(criteo_uplift.read(file).splits["test"])
    monkeypatch.setattr(delimited, "BLOCK_BYTES", 8_192)
    blocks = criteo_uplift.read(file).splits["test"]
    assert len(list(blocks)) > 5
    np.testing.assert_array_equal(joined(blocks).groups["user"], whole.groups["user"])
    np.testing.assert_allclose(joined(blocks).numeric, whole.numeric, atol=1e-6)


def test_exposure_reaches_no_row(tmp_path, cells):
    logs = []
    for exposure in (0, 1):
        cells[:, 15] = exposure
        logs.append(criteo_uplift.read(write_file(tmp_path / "a.csv", cells)))
        logs[-1] = (logs[-1].schema, joined(logs[-1].splits["test"]))
    (schema, rows), (other_schema, other) = logs
    assert schema == other_schema
    np.testing.assert_array_equal(rows.ids, other.ids)
    np.testing.assert_array_equal(rows.numeric, other.numeric)


@pytest.mark.parametrize("name", criteo_uplift.NAMES)
def test_a_folder_may_hold_the_file_under_any_of_its_names(tmp_path, cells, name):
    write_file(tmp_path / name, cells[:100])
    assert criteo_uplift.read(tmp_path).counts["read"] == 100


def test_by_default_tfds_downloads_the_file(file, tmp_path, monkeypatch):
    asked = []

    def download(self, url):
        asked.append(url)
        return file

    monkeypatch.setattr(
        "tensorflow_datasets.download.DownloadManager.download", download
    )
    monkeypatch.setattr("jaxmtl.data.reading.catalogue._reach", lambda url: None)
    here = functools.partial(Criteo, data_dir=tmp_path / "tfds")
    monkeypatch.setattr(criteo_uplift, "Criteo", here)
    assert criteo_uplift.read().counts["read"] == 1_000
    assert asked == ["http://go.criteo.net/criteo-research-uplift-v2.1.csv.gz"]


def test_an_end_to_end_preparation_keeps_every_row(file, tmp_path):
    read = functools.partial(criteo_uplift.read, file)
    data = store.prepare("criteo_uplift", {}, read, tmp_path / "cache", lambda _: 0)
    for name, blocks in read().splits.items():
        np.testing.assert_array_equal(data.splits[name].numeric, joined(blocks).numeric)


def test_bad_and_missing_files_are_named(tmp_path, file, cells):
    with pytest.raises(
        ValueError, match=r"none\.csv: no such file; get criteo-uplift-v2"
    ):
        criteo_uplift.read(tmp_path / "none.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        ValueError, match=r"v2\.1\.csv\.gz: no such file; .*ailab\.criteo"
    ):
        criteo_uplift.read(tmp_path / "empty")
    text = gzip.decompress(file.read_bytes()).decode().splitlines()
    text[500] = "," + text[500].partition(",")[2]
    broken = tmp_path / "broken.csv"
    broken.write_text("\n".join(text))
    with pytest.raises(ValueError, match=r"broken\.csv, line 501, column 'f0': empty"):
        criteo_uplift.read(broken)
