"""The simulated feed: its truth, its labels, its ids, its shape."""

from collections import Counter
from functools import cache

import jax
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from jaxmtl.data.sources import video_feed
from jaxmtl.data.sources.video_feed import history as feed_history
from jaxmtl.data.sources.video_feed.exposure import CHANNELS, POSITIONS, Context
from jaxmtl.data.sources.video_feed.population import SUBCATEGORIES, TASTES, power_law
from jaxmtl.data.sources.video_feed.world import (
    BETA,
    FeedConfig,
    logits,
    make_world,
    mean_watch,
    truth,
    valid_play,
    watch_mixture,
)
from jaxmtl.data.store.checks import check_rows
from jaxmtl.types import PADDING, UNKNOWN, Rows

SMALL = FeedConfig(users=300, videos=300, impressions=6_000, days=5)


@cache
def feed_rows(config: FeedConfig, split: str | None = None) -> Rows:
    """All rows of a log, or of one split."""
    splits = video_feed.read(config).splits
    blocks = [b for name, s in splits.items() if split in (None, name) for b in s]
    return jax.tree.map(lambda *columns: np.concatenate(columns), *blocks)


@cache
def small_feed() -> video_feed.Feed:
    return video_feed.make_feed(SMALL)


def any_impressions(rng, config: FeedConfig, rows: int):
    users, videos, source = (
        rng.integers(0, high, rows)
        for high in (config.users, config.videos, config.videos)
    )
    channel, position = (rng.integers(0, n, rows) for n in (CHANNELS, POSITIONS))
    return users, videos, Context(source, channel, position)


def column(rows: Rows, field: str, schema=None) -> np.ndarray:
    schema = schema or small_feed().schema
    slots = {f.name: f.slots for f in schema.fields}[field]
    return rows.ids[:, schema.column(field) :][:, :slots]


# The same bits


def test_same_seed_gives_the_same_bits_and_another_seed_does_not():
    first, again = (
        next(iter(video_feed.read(SMALL).splits["train"])) for _ in range(2)
    )
    jax.tree.map(np.testing.assert_array_equal, first, again)
    other = next(
        iter(video_feed.read(FeedConfig(**vars(SMALL) | {"seed": 1})).splits["train"])
    )
    assert (first.labels["click"] != other.labels["click"]).mean() > 0.2


def test_a_block_drawn_alone_is_the_block_of_the_sequence(monkeypatch):
    monkeypatch.setattr(video_feed, "BLOCK_ROWS", 500)
    log = video_feed.read(SMALL)
    train = log.splits["train"]
    sequence = list(train)
    assert len(sequence) == len(train) == 9  # days of 1,200 rows: 500, 500, 200
    assert [b.num_rows for b in sequence] == 3 * [500, 500, 200]
    for at, day, place in ((8, 2, 2), (0, 0, 0), (4, 1, 1)):
        alone = video_feed.draw_rows(video_feed.make_feed(SMALL), day, place)
        jax.tree.map(np.testing.assert_array_equal, alone, sequence[at])
    luck = [b.labels["click"] - b.extras["truth.click"] for b in sequence[:5]]
    for other in (luck[1], luck[3], luck[4]):  # next in the day, and the next day
        assert abs(np.corrcoef(luck[0], other)[0, 1]) < 0.25


def test_conflict_changes_watching_but_not_who_sees_and_clicks_what():
    calm, odds = (
        feed_rows(FeedConfig(**vars(SMALL) | {"conflict": c})) for c in (0.0, 1.0)
    )
    np.testing.assert_array_equal(calm.ids, odds.ids)
    np.testing.assert_array_equal(calm.labels["click"], odds.labels["click"])
    assert (calm.labels["watch"] != odds.labels["watch"]).any()


# The truth


def test_truth_is_the_documented_formula():
    """Row by row, in plain float64."""
    world = make_world(SMALL)
    rng = np.random.default_rng(0)
    users, videos, context = impressions = any_impressions(rng, SMALL, 20)
    got = truth(world, *impressions)
    sigmoid = lambda x: 1 / (1 + np.exp(-x))
    for i in range(20):
        u = world.users.facets[users[i]].astype(np.float64)
        v = world.videos.facets[videos[i]].astype(np.float64)
        s = world.videos.facets[context.source[i]].astype(np.float64)
        facets = [(u[k] + 0.5 * s[k]) * v[k] for k in range(TASTES)]
        facets += [0.8 * x for x in v[TASTES:]] + [0.8 * x for x in u[TASTES:]]
        score = [sum(facets[k] * ws[k] for k in range(12)) for ws in world.weights.T]
        long = np.log(world.videos.seconds[videos[i]] / 78) / 0.7
        position = np.log(1 + context.position[i])
        score[0] += world.channel[context.channel[i]] - 0.5 * position - 0.12 * long
        score[1] -= 0.6 * long
        click, watch, like, follow = np.array(score) + world.intercepts
        finish, partial = sigmoid(watch), 0.05 + 0.9 * sigmoid(0.85 + 0.35 * watch)
        np.testing.assert_allclose(
            [got.click[i], got.watch[i], got.like[i], got.follow[i]],
            [
                sigmoid(click),
                finish + (1 - finish) * partial,
                sigmoid(like),
                sigmoid(follow),
            ],
            rtol=1e-5,
        )


def test_truth_of_a_triple_does_not_depend_on_its_neighbours():
    world = make_world(SMALL)
    users, videos, context = any_impressions(np.random.default_rng(1), SMALL, 50)
    everything = truth(world, users, videos, context)
    one = truth(world, users[7:8], videos[7:8], Context(*(c[7:8] for c in context)))
    np.testing.assert_allclose([t[0] for t in one], [t[7] for t in everything])


def test_circumstances_and_length_act_as_they_should():
    world = make_world(SMALL)
    video = np.argsort(world.videos.seconds)
    n = np.zeros_like
    top = Context(n(video), n(video), n(video))
    below = top._replace(position=n(video) + 9)
    user = n(video)
    above, lower = truth(world, user, video, top), truth(world, user, video, below)
    assert (above.click > lower.click).all()
    np.testing.assert_array_equal(above.watch, lower.watch)
    seconds = np.full_like(world.videos.seconds, 60)
    even = world._replace(videos=world.videos._replace(seconds=seconds))
    gained = above.watch - truth(even, user, video, top).watch
    assert gained[:50].min() > 0 > gained[-50:].max()  # the shortest, the longest


@settings(max_examples=8, deadline=None)
@given(low=st.floats(0, 0.9), step=st.floats(0.1, 1), seed=st.integers(0, 3))
def test_more_conflict_means_less_agreement(low, step, seed):
    """Preferences correlate by cos(conflict · 120°); length blurs it a little."""
    agreement = []
    for conflict in (low, min(1.0, low + step)):
        world = make_world(FeedConfig(conflict=conflict, seed=seed))
        impressions = video_feed.draw_impressions(world, 3, 0)
        click, watch = logits(world, *impressions).T[:2]
        agreement.append(np.corrcoef(click, watch)[0, 1])
        assert abs(agreement[-1] - np.cos(conflict * np.radians(120))) < 0.16
    assert agreement[1] < agreement[0]


def test_watch_expectation_is_that_of_its_mixture():
    logit = np.array([-3.0, 0.0, 2.0])
    finish, partial = watch_mixture(logit)
    np.testing.assert_allclose(finish[1], 0.5)
    drawn = video_feed.draw_watch(np.random.default_rng(0), np.repeat(logit, 40_000))
    drawn = drawn.reshape(3, -1)
    np.testing.assert_allclose(drawn.mean(1), mean_watch(logit), atol=0.006)
    np.testing.assert_allclose((drawn == 1).mean(1), finish, atol=0.01)
    early = [row[row < 1].mean() for row in drawn]
    np.testing.assert_allclose(early[:2], partial[:2], atol=0.01)


# The labels


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"conflict": 0.0},
        {"conflict": 1.0},
        {"click_rate": 0.05, "impressions": 160_000},
        {"click_rate": 0.8},
        {"noise": 0.5},
        {"noise": 3.0, "seed": 5},
    ],
    ids=str,
)
def test_mean_labels_are_those_asked_for(change):
    config = FeedConfig(**change)
    rows = feed_rows(config)
    clicked = rows.labels["click"] > 0
    assert abs(clicked.mean() - config.click_rate) < 0.012
    assert abs(rows.labels["watch"][clicked].mean() - 0.82) < 0.012
    assert abs(rows.labels["like"][clicked].mean() - 0.08) < 0.012
    assert abs(rows.labels["follow"][clicked].mean() - 0.03) < 0.008


@pytest.mark.parametrize("task", ["click", "watch", "like", "follow"])
def test_labels_average_to_their_truth_in_every_bin(task):
    rows = feed_rows(FeedConfig())
    space = rows.labels["click"] >= (task != "click")
    label, expected = rows.labels[task][space], rows.extras[f"truth.{task}"][space]
    for part in np.array_split(np.argsort(expected), 10):
        error = label[part].mean() - expected[part].mean()
        assert abs(error) < 4.5 * label[part].std() / np.sqrt(len(part)) + 1e-3


def test_labels_off_click_are_zero_and_a_click_is_always_watched():
    rows = feed_rows(SMALL)
    clicked = rows.labels["click"] > 0
    for task in ("watch", "like", "follow"):
        assert not rows.labels[task][~clicked].any()
    assert rows.labels["watch"][clicked].min() > 0
    assert rows.labels["watch"].max() == 1


def test_truth_leaves_chance_its_share():
    """AUC of the oracle, and what it explains of the watch ratio on clicks."""
    for conflict in (0.0, 0.5, 1.0):
        rows = feed_rows(FeedConfig(conflict=conflict))
        clicked = rows.labels["click"] > 0
        auc = roc_auc_score(clicked, rows.extras["truth.click"])
        assert 0.75 < auc < 0.82
        watch = rows.labels["watch"][clicked]
        error = watch - rows.extras["truth.watch"][clicked]
        assert 0.25 < 1 - np.mean(error**2) / watch.var() < 0.45
        for task in ("like", "follow"):
            label, expected = rows.labels[task], rows.extras[f"truth.{task}"]
            assert roc_auc_score(label[clicked], expected[clicked]) > 0.7


def test_noise_drowns_preferences():
    aucs = []
    for noise in (0.3, 1.0, 3.0):
        rows = feed_rows(FeedConfig(noise=noise))
        aucs.append(roc_auc_score(rows.labels["click"], rows.extras["truth.click"]))
    assert aucs[0] > aucs[1] + 0.1 > aucs[2] + 0.2


# The ids


def test_every_block_keeps_the_schema():
    log = video_feed.read(SMALL)
    for split, blocks in log.splits.items():
        for block in blocks:
            check_rows(log.schema, block, split)
            assert block.ids.dtype == np.int32
            columns = [block.numeric, *block.labels.values(), *block.extras.values()]
            assert {c.dtype for c in columns} == {np.dtype(np.float32)}
    assert [f.name for f in log.schema.fields if f.slots > 1] == [
        *("ucat", "ikeyword", "ixftag", "sikeyword", "stag")
    ]
    assert len(log.schema.fields) == 20


def test_splits_follow_the_days():
    log = video_feed.read(SMALL)
    days = {
        split: sorted({d for b in blocks for d in b.extras["day"]})
        for split, blocks in log.splits.items()
    }
    assert days == {"train": [0, 1, 2], "validation": [3], "test": [4]}
    rows = sum(b.num_rows for blocks in log.splits.values() for b in blocks)
    assert rows == log.counts["read"] == log.counts["kept"] == SMALL.impressions


def test_days_share_rows_that_do_not_divide_evenly():
    config = FeedConfig(**vars(SMALL) | {"impressions": 1_003})
    per_day = Counter(feed_rows(config).extras["day"].tolist())
    assert sum(per_day.values()) == 1_003
    assert set(per_day.values()) == {200, 201}


def test_ids_that_training_lacks_are_unknown_and_all_others_are_used():
    train = feed_rows(SMALL, "train")
    schema = small_feed().schema
    for vocabulary in schema.vocabularies:
        fields = [f.name for f in schema.fields if f.vocabulary == vocabulary.name]
        seen = np.unique(np.concatenate([column(train, f).ravel() for f in fields]))
        expected = np.arange(1, vocabulary.size)
        np.testing.assert_array_equal(seen[seen != PADDING], expected)
    for split in ("validation", "test"):
        rows = feed_rows(SMALL, split)
        for field in ("uid", "vid"):
            unknown = (column(rows, field) == UNKNOWN).mean()
            assert 0.01 < unknown < 0.4


def test_known_ids_stand_for_one_thing_in_every_split():
    """A user's group, a video's publisher: fixed, wherever the id appears."""
    rows = feed_rows(SMALL)
    for owner, about in (("uid", "ugroup"), ("vid", "cp"), ("icat2", "icat1")):
        pairs = np.concatenate([column(rows, owner), column(rows, about)], axis=1)
        pairs = np.unique(pairs[pairs.min(1) != UNKNOWN], axis=0)
        assert len(np.unique(pairs[:, 0])) == len(pairs)


def test_source_and_shown_video_share_their_ids():
    feed = small_feed()
    for field in ("vid", "cp", "icat1", "icat2"):
        schema = feed.schema
        names = {f.name: f.vocabulary for f in schema.fields}
        assert names[field] == names["s" + field]
    everything = np.arange(SMALL.videos)
    zeros = np.zeros_like(everything)
    impressions = (zeros, everything, Context(everything, zeros, zeros))
    ids = video_feed.encode_rows(feed, video_feed.Impressions(*impressions))
    shown, source = (ids[:, feed.schema.column(f)] for f in ("vid", "svid"))
    np.testing.assert_array_equal(shown, source)


def test_nobody_appears_before_birth():
    world = make_world(SMALL)
    for day in range(SMALL.days):
        users, videos, context = video_feed.draw_impressions(world, day, 0)
        assert world.users.birth[users].max() <= day
        assert world.videos.birth[videos].max() <= day
        assert world.videos.birth[context.source].max() <= day
    assert world.users.birth.max() == world.videos.birth.max() == SMALL.days - 1


# The shape of the authors' sample, whose numbers stand beside


def test_lists_are_as_long_as_the_samples():
    config = FeedConfig()
    schema = video_feed.make_feed(config).schema
    rows = feed_rows(config)
    sample = {"ucat": 3.65, "ikeyword": 7.61, "ixftag": 5.63, "sikeyword": 7.25}
    for field, length in (sample | {"stag": 4.33}).items():
        ids = column(rows, field, schema)
        assert abs((ids != PADDING).sum(1).mean() - length) < 0.25
        assert ((ids[:, :-1] != PADDING) | (ids[:, 1:] == PADDING)).all()


def test_watching_on_clicks_is_distributed_as_in_the_sample():
    rows = feed_rows(FeedConfig())
    watch = rows.labels["watch"][rows.labels["click"] > 0]
    assert abs(watch.std() - 0.262) < 0.02
    assert abs((watch == 1).mean() - 0.513) < 0.03
    assert abs(watch[watch < 1].mean() - 0.626) < 0.03
    assert (watch < 0.1).mean() < 0.03  # .004 in the sample
    seconds = rows.extras["duration"]
    np.testing.assert_allclose(
        np.quantile(seconds, [0.05, 0.5, 0.95]), [34, 78, 302], rtol=0.2
    )


def test_users_and_videos_are_heavy_tailed():
    config = FeedConfig()
    schema = video_feed.make_feed(config).schema
    rows = feed_rows(config, "train")
    for field, share in (("uid", 0.2), ("vid", 0.2), ("icat2", 0.4), ("cp", 0.25)):
        counts = np.sort(np.bincount(column(rows, field, schema)[:, 0]))[::-1]
        assert counts[: len(counts) // 10].sum() / counts.sum() > share
        assert counts[1] < 0.3 * counts.sum()


def test_power_law_by_its_distribution_function():
    ranks = power_law(np.random.default_rng(0), 100, 2.0, 50_000)
    assert (ranks.min(), ranks.max()) == (0, 99)
    for r in (1, 25, 64):
        assert abs((ranks < r).mean() - np.sqrt(r / 100)) < 0.01


def test_favourites_are_shown_more_than_chance():
    world = make_world(FeedConfig())
    users, videos, context = video_feed.draw_impressions(world, 3, 0)
    favourite = (
        world.users.favourites[users] == world.videos.subcategory[videos][:, None]
    ).any(1)
    by_favourites = context.channel == 2
    has_some = world.users.favourites[users, 0] != 0
    hit = favourite[by_favourites & has_some].mean()
    assert hit > 0.9 > 0.5 > favourite[context.channel == 0].mean()
    assert world.videos.subcategory.max() <= SUBCATEGORIES


# Valid plays and a history, which the DCRNN's tables ask for

PLAYED = FeedConfig(**vars(SMALL) | {"valid_play": 0.8, "history": 30_000})


@cache
def played_feed() -> video_feed.Feed:
    return video_feed.make_feed(PLAYED)


def test_by_default_there_are_no_valid_plays_and_no_numeric_features():
    schema = small_feed().schema
    assert [task.name for task in schema.tasks] == ["click", "watch", "like", "follow"]
    assert (schema.numeric, schema.cvr) == ((), "watch")
    assert feed_rows(SMALL).numeric.shape == (6_000, 0)


def test_valid_plays_and_a_history_change_nothing_else_to_the_bit():
    plain, played = feed_rows(SMALL), feed_rows(PLAYED)
    np.testing.assert_array_equal(played.ids, plain.ids)
    for part in ("labels", "extras", "groups"):
        more, fewer = getattr(played, part), getattr(plain, part)
        for name, column in fewer.items():
            np.testing.assert_array_equal(more[name], column, err_msg=name)
    assert set(played.labels) - set(plain.labels) == {"valid_play"}
    assert set(played.extras) - set(plain.extras) == {"truth.valid_play"}
    schema = played_feed().schema
    assert (schema.cvr, schema.task("valid_play").space) == ("valid_play", "click")
    for block in video_feed.read(PLAYED).splits["test"]:
        check_rows(schema, block, "test")


def test_a_valid_play_is_a_click_watched_as_far_as_asked():
    labels = feed_rows(PLAYED).labels
    far = (labels["click"] > 0) & (labels["watch"] >= np.float32(0.8))
    np.testing.assert_array_equal(labels["valid_play"], far.astype(np.float32))
    whole = feed_rows(FeedConfig(**vars(PLAYED) | {"valid_play": 1.0})).labels
    np.testing.assert_array_equal(whole["valid_play"], whole["watch"] >= 1)
    assert 0 < whole["valid_play"].sum() < labels["valid_play"].sum()


@pytest.mark.parametrize("ratio", [0.05, 0.5, 0.8, 0.99, 1.0])
def test_chance_of_a_valid_play_is_the_tail_of_the_watch_law(ratio):
    """Against SciPy's Beta law, and against draws within 4 standard errors."""
    z, rng = np.array([-3.0, -0.5, 0.4, 2.0]), np.random.default_rng(0)
    finish, partial = watch_mixture(z)
    law = scipy.stats.beta(BETA * partial, BETA * (1 - partial))
    found = valid_play(z, ratio)
    np.testing.assert_allclose(found, finish + (1 - finish) * law.sf(ratio), rtol=1e-9)
    n = 20_000
    drawn = np.stack([video_feed.draw_watch(rng, z) for _ in range(n)]) >= ratio
    error = np.sqrt(found * (1 - found) / n)
    assert (np.abs(drawn.mean(axis=0) - found) < 4 * error + 1e-9).all()


def test_truth_of_valid_plays_is_their_expectation_on_clicks():
    rows = feed_rows(PLAYED)
    clicked = rows.labels["click"] > 0
    label = rows.labels["valid_play"][clicked]
    p = rows.extras["truth.valid_play"][clicked]
    for part in np.array_split(np.argsort(p), 4):
        error = np.sqrt((p[part] * (1 - p[part])).sum()) / len(part)
        assert abs(label[part].mean() - p[part].mean()) < 4 * error
    assert roc_auc_score(label, p) > 0.55


def test_history_tells_of_what_users_and_videos_are_like():
    rows, schema = feed_rows(PLAYED), played_feed().schema
    columns = dict(zip(schema.numeric, rows.numeric.T, strict=True))
    by = {"user": rows.groups["user"], "video": rows.groups["item"]}
    for thing, ids in by.items():
        shown = np.bincount(ids)
        for name, truth_of in (("click_rate", "click"), ("watch", "watch")):
            expected = rows.extras[f"truth.{truth_of}"]
            mean = np.bincount(ids, weights=expected) / np.maximum(shown, 1)
            seen = shown > 20
            statistic = np.zeros(len(shown))
            statistic[ids] = columns[f"{thing}_{name}"]
            found = np.corrcoef(statistic[seen], mean[seen])[0, 1]
            assert found > 0.5, (thing, name, found)


def test_history_knows_nothing_of_the_luck_of_a_row():
    """Given the truth, a label is chance, and no feature may tell that."""
    rows = feed_rows(PLAYED)
    luck = rows.labels["click"] - rows.extras["truth.click"]
    for column in rows.numeric.T:
        assert abs(np.corrcoef(column, luck)[0, 1]) < 4 / np.sqrt(len(luck))


def test_history_depends_on_the_world_and_not_on_its_log():
    played = feed_history.statistics(played_feed().world)

    def changed(**changes):
        config = FeedConfig(**vars(PLAYED) | changes)
        return feed_history.statistics(make_world(config))

    again = changed(impressions=9_000, valid_play=0.3)
    jax.tree.map(np.testing.assert_array_equal, again, played)
    calm, other = changed(conflict=0.0), changed(seed=1)
    for thing, table in played.items():
        # Conflict is about watching: who sees and clicks what stays as it was.
        np.testing.assert_array_equal(calm[thing][:, :2], table[:, :2])
        assert (calm[thing][:, 2] != table[:, 2]).any()
        assert table.dtype == np.float32 and np.isfinite(table).all()
        assert (other[thing] != table).any()


def test_history_is_standardised_over_what_was_shown():
    shown, clicks = np.array([2.0, 6.0, 0.0]), np.array([1.0, 3.0, 0.0])
    found = feed_history._standardised(shown, clicks, 0.8 * clicks)
    # Weighted by 2, 6 and 0; equal rates stand at the mean, with the unseen.
    logs = np.log1p(shown)
    mean = np.average(logs, weights=shown)
    spread = np.sqrt(np.average((logs - mean) ** 2, weights=shown))
    np.testing.assert_allclose(found[:, 0], (logs - mean) / spread, rtol=1e-6)
    np.testing.assert_allclose(found[:, 1:], 0, atol=1e-3)


# Bad configurations


@pytest.mark.parametrize(
    "change, message",
    [
        ({"users": 9}, "users=9 lies outside its range 10"),
        ({"days": 2}, "days=2 lies outside its range 3"),
        ({"click_rate": 0.0}, "click_rate=0.0 lies outside"),
        ({"conflict": 1.5}, "conflict=1.5 lies outside its range 0 … 1"),
        ({"noise": float("nan")}, "noise=nan lies outside"),
        ({"seed": -1}, "seed=-1 lies outside"),
        ({"videos": 20.5}, "videos=20.5 must be a whole number"),
        ({"noise": "loud"}, "noise='loud' must be a number"),
        ({"valid_play": 1.1}, "valid_play=1.1 lies outside its range 0 … 1"),
        ({"history": -1}, "history=-1 lies outside its range 0"),
        ({"history": 0.5}, "history=0.5 must be a whole number"),
        ({"impressions": 100, "days": 200}, "impressions=100 leave some of days=200"),
    ],
    ids=str,
)
def test_bad_configurations_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        FeedConfig(**change)


def test_extreme_configurations_still_keep_the_schema():
    for change in (
        {"users": 10, "videos": 10, "impressions": 100, "days": 3},
        {"noise": 0.1, "click_rate": 0.001, "conflict": 1.0},
        {"valid_play": 1.0, "history": 1},
    ):
        config = FeedConfig(**vars(SMALL) | change)
        log = video_feed.read(config)
        for split, blocks in log.splits.items():
            for block in blocks:
                check_rows(log.schema, block, split)
