"""KuaiRand: raw and joined files hold the same rows, and outcomes stay labels."""

import csv
import functools

import numpy as np
import pytest
from test_store import joined

from jaxmtl.data import store
from jaxmtl.data.sources import kuairand
from jaxmtl.data.sources.kuairand.tables import TAG_SLOTS, USER_FIELDS, USER_NUMBERS
from jaxmtl.data.store.checks import check_rows
from jaxmtl.types import PADDING, UNKNOWN

START = 1_649_347_200_000
BINARY = ("is_like", "is_follow", "is_comment", "is_forward", "is_hate")
STAYS = ("profile_stay_time", "comment_stay_time")
TAGS = ("12", "12,65", "", "3,12,65,8,40", "65")
UNTOLD = 6
"""A user, and a video, that the tables of features lack."""


def make_log(n: int = 400, seed: int = 0) -> list[dict]:
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        duration = int(rng.choice([0, 6_000, 30_000, 104_400]))
        play = int(rng.integers(0, 60_000))
        rows.append(
            {
                "user_id": int(rng.integers(0, 8)),
                "video_id": int(rng.integers(0, 12)),
                "date": 20220408,
                "hourmin": int(rng.integers(0, 24)) * 100,
                "time_ms": START + int(rng.integers(0, 30_000)),
                "is_click": int(play > 7_000),
                **{name: int(rng.random() < 0.1) for name in BINARY},
                "long_view": int(play > 18_000),
                "play_time_ms": play,
                "duration_ms": duration,
                **{name: int(rng.integers(0, 99)) for name in STAYS},
                "is_profile_enter": 0,
                "is_rand": 0,
                "tab": i % 3,
            }
        )
    return rows


def make_users() -> dict[int, dict]:
    rng = np.random.default_rng(1)
    features = lambda u: {
        **dict.fromkeys(USER_FIELDS, f"{u % 3}.0"),
        "user_active_degree": ("full_active", "UNKNOWN")[u % 2],
        "onehot_feat3": "" if u == 2 else str(u),
        **{name: int(rng.integers(0, 5_000)) for name in USER_NUMBERS},
    }
    return {u: {"user_id": u, **features(u)} for u in range(8) if u != UNTOLD}


def make_videos() -> dict[int, dict]:
    features = lambda v: {
        "author_id": v // 2,
        "video_type": "NORMAL",
        "upload_dt": "2022-04-01",
        "upload_type": "ShortImport",
        "visible_status": 1,
        "video_duration": "",
        "server_width": "" if v == 3 else 720,
        "server_height": 1_280 + v,
        "music_id": 989_206_467 + v,
        "music_type": "" if v == 4 else 9,
        "tag": TAGS[v % len(TAGS)],
    }
    return {v: {"video_id": v, **features(v)} for v in range(12) if v != UNTOLD}


def write_file(path, rows: list[dict]):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_raw(folder, log: list[dict]):
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    half = len(log) // 2
    write_file(data / "log_standard_4_08_to_4_21_1k.csv", log[:half])
    write_file(data / "log_standard_4_22_to_5_08_1k.csv", log[half:])
    write_file(data / "log_random_4_22_to_5_08_1k.csv", log[:5])
    write_file(data / "user_features_1k.csv", list(make_users().values()))
    write_file(data / "video_features_basic_1k.csv", list(make_videos().values()))
    return folder


def write_joined(path, log: list[dict], without: tuple[str, ...] = ()):
    users, videos = make_users(), make_videos()
    gaps = [dict.fromkeys(next(iter(table.values())), "") for table in (users, videos)]
    rows = [
        {
            **gaps[0],
            **users.get(row["user_id"], {}),
            **gaps[1],
            **videos.get(row["video_id"], {}),
            **row,
        }
        for row in log
    ]
    return write_file(path, [{k: r[k] for k in r if k not in without} for r in rows])


@pytest.fixture
def raw(tmp_path):
    return write_raw(tmp_path / "KuaiRand-1K", make_log())


def ids_of(log, split: str, field: str) -> np.ndarray:
    (slots,) = {f.slots for f in log.schema.fields if f.name == field}
    at = log.schema.column(field)
    return joined(log.splits[split]).ids[:, at : at + slots]


def test_raw_files_are_joined_as_a_joined_file_is(raw, tmp_path, monkeypatch):
    monkeypatch.setattr(kuairand, "BLOCK_ROWS", 50)
    log = kuairand.read(raw)
    twin = kuairand.read(write_joined(tmp_path / "joined.csv", make_log()))
    assert log.schema == twin.schema
    assert log.counts == twin.counts == {"read": 400, "kept": 400}
    for split, blocks in log.splits.items():
        rows, same = joined(blocks), joined(twin.splits[split])
        check_rows(log.schema, rows, split)
        np.testing.assert_array_equal(rows.ids, same.ids)
        np.testing.assert_allclose(rows.numeric, same.numeric, atol=1e-6)
        for part in ("labels", "extras", "groups"):
            for name, column in getattr(rows, part).items():
                np.testing.assert_array_equal(column, getattr(same, part)[name])


def test_rows_hold_the_files_cells(raw):
    log = kuairand.read(raw)
    by_time = sorted(make_log(), key=lambda row: row["time_ms"])
    rows = [joined(blocks) for blocks in log.splits.values()]
    labels = {
        name: np.concatenate([r.labels[name] for r in rows])
        for name in ("click", "watch", "long_view")
    }
    assert labels["click"].tolist() == [row["is_click"] for row in by_time]
    assert labels["long_view"].tolist() == [row["long_view"] for row in by_time]
    watch = [
        min(row["play_time_ms"] / row["duration_ms"], 1)
        if row["duration_ms"]
        else np.nan
        for row in by_time
    ]
    np.testing.assert_allclose(labels["watch"], watch, rtol=1e-6)
    days = np.concatenate([r.extras["day"] for r in rows]) * 86_400_000
    first = by_time[0]["time_ms"]
    np.testing.assert_allclose(days, [r["time_ms"] - first for r in by_time], atol=0.5)


def test_splits_follow_time_and_never_tear_a_millisecond(raw):
    log = kuairand.read(raw)
    days = [joined(blocks).extras["day"] for blocks in log.splits.values()]
    for earlier, later in zip(days, days[1:], strict=False):
        assert (np.diff(earlier) >= 0).all() and earlier.max() < later.min()


def test_tags_fill_slots_and_what_training_seldom_shows_is_unknown(tmp_path):
    log = make_log()
    for number, row in enumerate(log):
        row["time_ms"] = START + number
        row["video_id"] = 7 if number == 3 else number % 4  # 7 is shown once
    log[-1]["video_id"] = 8  # never in training
    read = kuairand.read(write_raw(tmp_path, log))
    video = ids_of(read, "train", "video_id")[:, 0]
    assert video[3] == UNKNOWN and (np.delete(video, 3) > UNKNOWN).all()
    assert ids_of(read, "test", "video_id")[-1, 0] == UNKNOWN
    # Videos 0 … 3 have the tags 12; 12, 65; none; and five, of which four are kept.
    tags = ids_of(read, "train", "tag")
    (twelve, *rest), (same, other, *gap) = tags[0].tolist(), tags[1].tolist()
    assert twelve == same > UNKNOWN and other > UNKNOWN != twelve
    assert rest == [PADDING] * (TAG_SLOTS - 1) and gap == [PADDING] * (TAG_SLOTS - 2)
    assert tags[2].tolist() == [PADDING] * TAG_SLOTS
    assert (tags[7] > UNKNOWN).all() and {twelve, other} <= set(tags[7].tolist())


def test_whoever_the_tables_lack_has_an_id_and_mean_numbers(raw):
    log = kuairand.read(raw)
    train = joined(log.splits["train"])
    users = train.groups["user"]
    here = users == UNTOLD
    assert here.any()
    assert (ids_of(log, "train", "user_id")[here] > UNKNOWN).all()
    degree = ids_of(log, "train", "user_active_degree")[:, 0]
    assert len(set(degree[here])) == 1 and degree[here][0] not in degree[~here]
    columns = [log.schema.numeric.index(name) for name in USER_NUMBERS]
    assert not train.numeric[here][:, columns].any()
    assert train.numeric[~here][:, columns].all()


def test_numbers_are_standardised_logarithms_over_the_training_rows(raw):
    log = kuairand.read(raw)
    fans = {u: features["fans_user_num"] for u, features in make_users().items()}
    at = log.schema.numeric.index("fans_user_num")
    train, test = (joined(log.splits[name]) for name in ("train", "test"))
    of = lambda rows: np.log1p([fans.get(u, np.nan) for u in rows.groups["user"]])
    expected = (of(test) - np.nanmean(of(train))) / np.nanstd(of(train))
    np.testing.assert_allclose(
        test.numeric[:, at], np.nan_to_num(expected), rtol=1e-4, atol=1e-5
    )


def test_outcomes_reach_no_feature(raw, tmp_path):
    log = make_log()
    rng = np.random.default_rng(5)
    for row in log:
        play = int(rng.integers(0, 60_000))
        row |= {"play_time_ms": play, "is_click": int(play > 30_000)}
        row |= {name: int(rng.integers(0, 2)) for name in ("long_view", *BINARY)}
        row |= dict.fromkeys(STAYS, 7)
    one, other = kuairand.read(raw), kuairand.read(write_raw(tmp_path / "b", log))
    assert one.schema == other.schema
    for split in one.splits:
        rows, twin = joined(one.splits[split]), joined(other.splits[split])
        np.testing.assert_array_equal(rows.ids, twin.ids)
        np.testing.assert_array_equal(rows.numeric, twin.numeric)
        assert (rows.labels["click"] != twin.labels["click"]).any()


def test_a_joined_file_without_time_is_split_by_a_hash(tmp_path):
    path = write_joined(tmp_path / "joined.csv", make_log(), ("time_ms", "long_view"))
    log = kuairand.read(path)
    assert [task.name for task in log.schema.tasks] == ["click", "watch"]
    assert log.schema.extras == ("duration",)
    sizes = {name: joined(blocks).num_rows for name, blocks in log.splits.items()}
    assert sum(sizes.values()) == 400 and sizes["train"] > 240
    assert any("split by a hash" in note for note in log.notes)


def test_an_end_to_end_preparation_keeps_every_row(raw, tmp_path):
    read = functools.partial(kuairand.read, raw)
    data = store.prepare("kuairand", {}, read, tmp_path / "cache", lambda _: None)
    for name, blocks in read().splits.items():
        np.testing.assert_array_equal(data.splits[name].ids, joined(blocks).ids)


def test_bad_and_missing_files_are_named(raw, tmp_path):
    with pytest.raises(ValueError, match=r"kuairand needs a path; get KuaiRand-1K or"):
        kuairand.read()
    log = make_log()
    log[7]["video_id"] = "x"
    write_raw(raw, log)
    message = r"log_standard_4_08_to_4_21_1k\.csv, line 9, column 'video_id'"
    with pytest.raises(ValueError, match=message):
        kuairand.read(raw)
    (raw / "data" / "user_features_1k.csv").unlink()
    message = r"user_features_\*\.csv: no such file; get .*kuairand\.com"
    with pytest.raises(ValueError, match=message):
        kuairand.read(raw)
    joined_file = write_joined(tmp_path / "a.csv", make_log(), ("duration_ms",))
    with pytest.raises(ValueError, match=r"a\.csv lacks the columns \['duration_ms'\]"):
        kuairand.read(joined_file)


def test_the_public_fragment_is_read(shared_data, tmp_path):
    path = shared_data / "kuairand_fragment" / "kuairand_sample.csv"
    if not path.is_file():
        pytest.skip(f"no {path}")
    log = kuairand.read(path)
    data = store.prepare("kuairand", {}, lambda: log, tmp_path, lambda _: None)
    rows = list(data.splits.values())
    click, watch = (
        np.concatenate([r.labels[name] for r in rows]) for name in ("click", "watch")
    )
    assert click.size == 200 and click.sum() == 32
    assert np.isnan(watch).sum() == 18
    assert round(float(np.nanmean(watch[click == 1])), 3) == 0.483
    assert "145 users, 29 videos" in " ".join(log.notes)
    assert {"play_time_ms", "comment_stay_time"}.isdisjoint(log.schema.numeric)
