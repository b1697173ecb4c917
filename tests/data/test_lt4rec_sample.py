"""The authors' sample: every feature, the split by time, and bad records."""

import jax
import numpy as np
import pytest
from sample_log import START, make_impression, write

from jaxmtl.data.sources import lt4rec_sample
from jaxmtl.data.store.checks import check_rows
from jaxmtl.types import PADDING, UNKNOWN


def read(tmp_path, examples):
    write(tmp_path / "part-0.gz", examples)
    return lt4rec_sample.read(tmp_path / "part-0.gz")


def field_ids(log, split: str, field: str) -> np.ndarray:
    (rows,) = log.splits[split]
    (slots,) = {f.slots for f in log.schema.fields if f.name == field}
    at = log.schema.column(field)
    return rows.ids[:, at : at + slots]


def test_a_missing_value_is_padding_among_many_and_an_id_where_there_is_one(tmp_path):
    missing = make_impression(FEA_STAG=[b"-1"], FEA_SICAT1=[b"-1"], FEA_SCP=[b"N"])
    later = make_impression(START + 1)
    log = read(tmp_path, [missing, missing, later, make_impression(START + 2)])
    assert (field_ids(log, "train", "stag") == PADDING).all()
    for field in ("sicat1", "scp"):
        assert (field_ids(log, "train", field) > UNKNOWN).all()
    for split, rows in log.splits.items():
        check_rows(log.schema, rows[0], split)


def test_fields_that_hold_the_same_things_share_their_ids(tmp_path):
    families = (
        ("vid", "svid"),
        ("cp", "scp"),
        ("icat1", "sicat1"),
        ("icat2", "sicat2", "ucat"),
        ("ixftag", "sikeyword", "stag"),
    )
    same = {
        f"FEA_{name.upper()}": [f"thing-{number}".encode()]
        for number, family in enumerate(families)
        for name in family
    }
    examples = [make_impression(START + s, **same) for s in (0, 0, 0, 0, 1, 2)]
    log = read(tmp_path, examples)
    for family in families:
        ids = [int(field_ids(log, "train", name)[0, 0]) for name in family]
        assert ids[0] > UNKNOWN and set(ids) == {ids[0]}
    shared = sum(len(family) - 1 for family in families)
    assert len(log.schema.vocabularies) == len(log.schema.fields) - shared == 13


def test_values_that_training_holds_once_or_never_are_unknown(tmp_path):
    once = make_impression(FEA_VID=[b"once"])
    often = make_impression(FEA_VID=[b"often"])
    never = make_impression(START + 1, FEA_VID=[b"never"])
    log = read(
        tmp_path,
        [
            often,
            often,
            once,
            once | {"FEA_VID": [b"x"]},
            never,
            make_impression(START + 2),
        ],
    )
    assert field_ids(log, "train", "vid")[2:].tolist() == [[UNKNOWN], [UNKNOWN]]
    assert (field_ids(log, "train", "vid")[:2] > UNKNOWN).all()
    assert field_ids(log, "validation", "vid").tolist() == [[UNKNOWN]]


def test_splits_follow_time_and_never_tear_a_second(tmp_path):
    rng = np.random.default_rng(0)
    seconds = START + rng.integers(0, 40, 300)
    log = read(tmp_path, [make_impression(int(s)) for s in seconds])
    days = {name: rows.extras["day"] * 86_400 for name, (rows,) in log.splits.items()}
    for name in days:
        assert (np.diff(days[name]) >= 0).all()
    assert days["train"].max() < days["validation"].min()
    assert days["validation"].max() < days["test"].min()
    shares = np.array([len(d) for d in days.values()]) / 300
    np.testing.assert_allclose(shares, [0.7, 0.15, 0.15], atol=0.05)


@pytest.mark.parametrize(
    "request_id", ["ab@1602430000123@7", "ab@1602430000@40346@7", "_1602430000.4_8"]
)
def test_every_way_of_writing_a_requests_time_is_read(request_id):
    example = make_impression(seqnum=[request_id.encode()])
    assert lt4rec_sample._impression(example).second == START


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"label": [2]}, "label is 2; expected 0 or 1"),
        ({"cvrlabel": [1.5]}, "cvrlabel is 1.5; expected a share"),
        ({"cvrlabel": [float("nan")]}, "cvrlabel is nan; expected a share"),
        ({"cvrlabel": [b"0.5"]}, "expected one of type float"),
        ({"FEA_VID": []}, "FEA_VID holds []; expected one of type bytes"),
        ({"FEA_VID": [b"a", b"b"]}, "expected one of type bytes"),
        ({"FEA_STAG": [b"a"] * 7}, "expected 1 to 6 of type bytes"),
        ({"FEA_AGE": [3]}, "FEA_AGE holds [3]; expected one of type bytes"),
        ({"FEA_DURATION": [b"-1"]}, "FEA_DURATION is '-1'; expected whole seconds"),
        ({"seqnum": [b"ab12"]}, "seqnum 'ab12' holds no time"),
    ],
)
def test_a_bad_record_is_named(tmp_path, changes, message):
    with pytest.raises(ValueError) as error:
        read(tmp_path, [make_impression(), make_impression(**changes)])
    assert "part-0.gz, record 1: " in str(error.value)
    assert message in str(error.value)


def test_a_folder_of_part_files_is_read_whole(tmp_path):
    for number, size in enumerate((7, 1, 2)):
        examples = [make_impression(START + number)] * size
        write(tmp_path / f"part-{number}.gz", examples)
    log = lt4rec_sample.read(tmp_path)
    assert log.counts == {"read": 10, "kept": 10}
    assert [rows.num_rows for (rows,) in log.splits.values()] == [7, 1, 2]


def test_a_folder_without_part_files_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no file named part-"):
        lt4rec_sample.read(tmp_path)


def test_a_file_too_small_to_split_is_refused(tmp_path):
    with pytest.raises(ValueError, match="2 rows of 1 different times"):
        read(tmp_path, [make_impression()] * 2)
    with pytest.raises(ValueError, match="0 rows"):
        read(tmp_path, [])


def test_the_real_sample_holds_what_is_known_of_it(shared_data):
    log = lt4rec_sample.read(shared_data / "lt4rec_sample")
    assert log.counts == {"read": 4_322, "kept": 4_322}
    assert "4,322 impressions, 500 users, 4,191 videos" in " ".join(log.notes)
    blocks = [rows for split in log.splits.values() for rows in split]
    for rows in blocks:
        check_rows(log.schema, rows, "the sample")
    click, watch = (
        np.concatenate([rows.labels[name] for rows in blocks]).astype(np.float64)
        for name in ("click", "watch")
    )
    assert click.size == 4_322
    assert round(click.mean(), 4) == 0.3880
    assert round(watch[click == 1].mean(), 3) == 0.818
    assert not watch[click == 0].any()
    assert [rows.num_rows for rows in blocks] == [3_022, 651, 649]


def test_the_production_models_prediction_reaches_no_row(tmp_path):
    seconds = [START] * 7 + [START + 1, START + 2, START + 2]
    logs = [
        read(tmp_path, [make_impression(s, pctr=[pctr]) for s in seconds])
        for pctr in (b"0.1", b"0.9")
    ]
    assert logs[0].schema == logs[1].schema
    assert len(logs[0].schema.fields) == 20
    assert sum(f.slots > 1 for f in logs[0].schema.fields) == 5
    jax.tree.map(np.testing.assert_array_equal, logs[0].splits, logs[1].splits)
