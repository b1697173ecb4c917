"""A source is read once; what is prepared is whole, and damage is named."""

import re
import threading
from pathlib import Path

import jax
import numpy as np
import pytest
from conftest import assert_same_bits, make_rows, make_schema

from jaxmtl.data import store
from jaxmtl.data.log import Log
from jaxmtl.data.store import locking
from jaxmtl.types import Rows


def make_log(**splits) -> Log:
    """Three splits in uneven blocks, of which there are more than ten."""
    whole = {
        "train": [make_rows(5 + i % 3, seed=i) for i in range(12)],
        "validation": [make_rows(20, seed=20)],
        "test": [make_rows(10, seed=30), make_rows(1, seed=31)],
    }
    counts = {"read": 112, "kept": 111, "dropped: no user": 1}
    return Log(make_schema(), whole | splits, counts, ("planted", "no licence"))


def bare(log: Log) -> Log:
    """The log without numeric features and without extras."""
    fields = ("numeric", "extras")
    schema = type(log.schema)(**vars(log.schema) | dict.fromkeys(fields, ()))
    strip = lambda rows: rows._replace(numeric=rows.numeric[:, :0], extras={})
    splits = {name: [strip(r) for r in blocks] for name, blocks in log.splits.items()}
    return log._replace(schema=schema, splits=splits)


def joined(blocks) -> Rows:
    return jax.tree.map(lambda *columns: np.concatenate(columns), *blocks)


def prepare(cache, log, identity=None, said=None):
    say = (lambda text: None) if said is None else said.append
    return store.prepare("tiny", identity or {"rows": 1}, lambda: log, cache, say)


@pytest.mark.parametrize("strip", [lambda log: log, bare], ids=["whole", "bare"])
def test_prepared_rows_are_those_of_the_source_in_their_order(tmp_path, strip):
    log = strip(make_log())
    dataset = prepare(tmp_path, log)
    assert dataset.schema == log.schema
    assert dataset.counts == log.counts
    assert dataset.notes == log.notes
    assert set(dataset.splits) == {"train", "validation", "test"}
    for split, blocks in log.splits.items():
        assert_same_bits(dataset.splits[split], joined(blocks))
        assert_same_bits(dataset.on_device(split), joined(blocks))
    assert isinstance(dataset.splits["train"].ids, np.memmap)


def test_missing_labels_stay_missing(tmp_path):
    rows = make_rows(20, seed=0)
    rows.labels["watch"][::3] = np.nan
    watch = prepare(tmp_path, make_log(train=[rows])).splits["train"].labels["watch"]
    np.testing.assert_array_equal(np.isnan(watch), np.arange(20) % 3 == 0)


def test_source_is_read_once(tmp_path):
    said = []
    first = prepare(tmp_path, make_log(), said=said)

    def never():
        raise AssertionError("the source was read again")

    again = store.prepare("tiny", {"rows": 1}, never, tmp_path, said.append)
    assert said == ["prepared tiny: rows read 112, kept 111, dropped: no user 1"]
    assert again.fingerprint == first.fingerprint
    assert_same_bits(again.splits, first.splits)


def test_other_settings_are_another_data_set(tmp_path):
    one = prepare(tmp_path, make_log(), {"rows": 1})
    two = prepare(tmp_path, make_log(train=[make_rows(9, seed=0)]), {"rows": 2})
    assert one.fingerprint != two.fingerprint
    assert two.splits["train"].num_rows == 9
    assert one.splits["train"].num_rows == 72


def broken_blocks():
    yield make_rows(10, seed=0)
    raise RuntimeError("line 11 is torn")


def test_source_that_fails_leaves_nothing_behind(tmp_path):
    with pytest.raises(RuntimeError, match="line 11 is torn"):
        prepare(tmp_path, make_log(train=broken_blocks()))

    def absent():
        raise FileNotFoundError("no log.csv")

    with pytest.raises(FileNotFoundError, match=r"no log\.csv"):
        store.prepare("tiny", {}, absent, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert prepare(tmp_path, make_log()).splits["train"].num_rows == 72


def test_of_two_that_prepare_one_set_the_second_waits_and_opens_it(tmp_path):
    """A file lock keeps threads apart as it does processes."""
    begun, waits, said, made = threading.Event(), threading.Event(), [], []

    def slow():
        made.append("first")
        begun.set()
        assert waits.wait(60)
        return make_log()

    def second():
        assert begun.wait(60)

        def say(text):
            said.append(text)
            waits.set()

        make = lambda: made.append("second") or make_log()
        found.append(store.prepare("tiny", {"rows": 1}, make, tmp_path, say))

    found = []
    thread = threading.Thread(target=second)
    thread.start()
    first = store.prepare("tiny", {"rows": 1}, slow, tmp_path, lambda text: None)
    thread.join(60)
    assert made == ["first"]
    assert said == ["tiny: another process prepares it; waiting"]
    assert_same_bits(found[0].splits, first.splits)
    (made,) = tmp_path.iterdir()
    assert made.name.startswith(f"tiny-{first.fingerprint}-")


def test_who_waited_for_one_that_failed_prepares_the_set(tmp_path):
    begun, waits = threading.Event(), threading.Event()

    def fails():
        begun.set()
        assert waits.wait(60)
        raise RuntimeError("line 11 is torn")

    def first():
        with pytest.raises(RuntimeError, match="line 11"):
            store.prepare("tiny", {"rows": 1}, fails, tmp_path)

    thread = threading.Thread(target=first)
    thread.start()
    assert begun.wait(60)
    say = lambda text: waits.set()
    found = store.prepare("tiny", {"rows": 1}, make_log, tmp_path, say)
    thread.join(60)
    assert found.splits["train"].num_rows == 72
    assert len(list(tmp_path.iterdir())) == 1


def test_set_prepared_meanwhile_by_another_process_is_taken(tmp_path, monkeypatch):
    """Where there are no locks."""
    monkeypatch.setattr(locking, "fcntl", None)

    def slow():
        prepare(tmp_path, make_log())
        return make_log(train=[make_rows(9, seed=0)])

    dataset = store.prepare("tiny", {"rows": 1}, slow, tmp_path, lambda text: None)
    assert dataset.splits["train"].num_rows == 72
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    "splits", [{"validation": []}, {"validation": [make_rows(0, seed=0)]}]
)
def test_empty_split_is_refused(tmp_path, splits):
    with pytest.raises(ValueError, match=r"split 'validation' holds no row; counts"):
        prepare(tmp_path, make_log(**splits))
    assert list(tmp_path.iterdir()) == []


def test_missing_split_is_refused(tmp_path):
    log = make_log()
    del log.splits["test"]
    with pytest.raises(ValueError, match=r"split 'test' holds no row"):
        prepare(tmp_path, log)


def spoil(change):
    """A log whose second block of training rows breaks its schema."""
    rows = make_rows(20, seed=1)
    change(rows)
    return make_log(train=[make_rows(20, seed=0), rows])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda r: r.labels["click"].__setitem__(7, 2),
            r"train, block 1, row 7: label click=2\.0 lies outside \{0, 1\}",
        ),
        (
            lambda r: r.ids.__setitem__((3, 1), 99),
            r"train, block 1, row 3: field 'item' holds id 99, outside its vocabulary",
        ),
        (
            lambda r: r.labels.update(buy=r.labels["click"]),
            r"train, block 1: labels are .* unknown: \['buy'\]",
        ),
        (
            lambda r: r.labels.update(click=r.labels["click"].astype(np.float64)),
            r"train, block 1: label click is float64",
        ),
    ],
    ids=["label", "id", "unknown column", "type"],
)
def test_rows_that_break_the_schema_are_named(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        prepare(tmp_path, spoil(change))
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    cache = tmp_path_factory.mktemp("cache")
    prepare(cache, make_log())
    (folder,) = cache.iterdir()
    return folder


@pytest.fixture
def damaged(prepared):
    """Lets a test change a file of the prepared set, and mends it afterwards."""
    mend = []

    def damage(name: str, change) -> Path:
        path = prepared / name
        mend.append((path, path.read_bytes()))
        content = change(path.read_bytes())
        path.unlink() if content is None else path.write_bytes(content)
        return path

    yield damage
    for path, content in mend:
        path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("train/ids.npy", lambda b: None),
        ("train/ids.npy", lambda b: b""),
        ("train/label.0.npy", lambda b: b[:20]),
        ("test/extra.0.npy", lambda b: b[:-1]),
        ("validation/group.user.npy", lambda b: b"\0" * len(b)),
        ("train/numeric.npy", lambda b: b.replace(b"(72, 1)", b"(71, 1)")),
        ("train/label.2.npy", lambda b: b.replace(b"<f4", b"<i4")),
        ("about.json", lambda b: None),
        ("about.json", lambda b: b""),
        ("about.json", lambda b: b[: len(b) // 2]),
        ("about.json", lambda b: b"[]"),
        ("about.json", lambda b: b.replace(b'"rows"', b'"rowz"')),
        ("about.json", lambda b: b.replace(b'"test"', b'"tset"')),
        ("about.json", lambda b: b.replace(b'"slots"', b'"slotz"')),
        ("about.json", lambda b: b"\xff\xfe" + b),
    ],
)
def test_damaged_file_is_named(prepared, damaged, name, change):
    path = damaged(name, change)
    expected = f"{re.escape(str(path))}: .*delete {re.escape(str(prepared))}"
    with pytest.raises(ValueError, match=expected):
        store.open_columns(prepared, "any")
