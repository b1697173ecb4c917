"""Sessions of the simulated feed: what is offered, what a ranking of it earns."""

import itertools
from functools import cache

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.online import feed_sessions
from experiments.online.feed_sessions import Exponents, Sessions
from jaxmtl.data.sources.video_feed import draw_impressions, draw_rows, make_feed
from jaxmtl.data.sources.video_feed.world import FeedConfig, truth

CONFIG = FeedConfig(users=80, videos=90, impressions=2_000, days=5, history=500)
DAY, SESSIONS, CANDIDATES, PLACES = 4, 30, 12, 4


@cache
def feed():
    return make_feed(CONFIG)


@cache
def sessions():
    return feed_sessions.draw_sessions(feed().world, DAY, SESSIONS, CANDIDATES)


@cache
def expected():
    return feed_sessions.expected_view(feed().world, sessions(), PLACES)


def test_a_session_is_one_user_before_distinct_videos_that_exist():
    users, videos, context = jax.tree.map(
        lambda column: column.reshape(SESSIONS, CANDIDATES), sessions().offers
    )
    world = feed().world
    assert (users == sessions().users[:, None]).all()
    assert (context.source == context.source[:, :1]).all()
    assert (context.position == 0).all()
    assert all(len(set(row)) == CANDIDATES for row in videos)
    assert (world.videos.birth[videos] <= DAY).all()
    assert (world.users.birth[users] <= DAY).all()
    assert len(np.unique(users)) > 5 and len(np.unique(context.channel)) > 3
    np.testing.assert_array_equal(sessions().seconds, world.videos.seconds[videos])


def test_sessions_are_the_same_whenever_they_are_drawn_and_others_each_day():
    again = feed_sessions.draw_sessions(feed().world, DAY, SESSIONS, CANDIDATES)
    jax.tree.map(np.testing.assert_array_equal, again, sessions())
    other = feed_sessions.draw_sessions(feed().world, DAY - 1, SESSIONS, CANDIDATES)
    assert (other.offers.videos != again.offers.videos).any()


def test_too_many_candidates_are_refused():
    with pytest.raises(ValueError, match="60 candidates a session do not fit"):
        feed_sessions.draw_sessions(feed().world, DAY, 3, 60)


def test_candidates_are_numbered_as_the_log_numbers_its_rows():
    shown, logged = draw_impressions(feed().world, 3, 0), draw_rows(feed(), 3, 0)
    seconds = feed().world.videos.seconds[shown.videos]
    rows = feed_sessions.as_rows(feed(), Sessions(shown, seconds[:, None]))
    np.testing.assert_array_equal(rows.ids, logged.ids)
    np.testing.assert_array_equal(rows.numeric, logged.numeric)
    assert rows.numeric.dtype == np.float32 and rows.numeric.shape[1] > 0


def test_the_view_time_to_expect_is_clicks_times_watching_times_length():
    users, videos, context = sessions().offers
    for s, c, place in [(0, 0, 0), (3, 7, 2), (SESSIONS - 1, CANDIDATES - 1, 3)]:
        n = [s * CANDIDATES + c]
        there = context._replace(position=np.array([place]))
        one = there._replace(source=context.source[n], channel=context.channel[n])
        known = truth(feed().world, users[n], videos[n], one)
        seconds = feed().world.videos.seconds[videos[n]]
        value = float((known.click * known.watch * seconds)[0])
        assert expected()[s, c, place] == pytest.approx(value, rel=1e-9)


def test_drawn_reactions_agree_with_what_is_to_be_expected():
    draws = [
        feed_sessions.drawn_view(
            feed().world, sessions(), PLACES, np.random.default_rng(seed)
        ).sum(1)  # over candidates: of the single ones too few are clicked
        for seed in range(300)
    ]
    mean, error = np.mean(draws, 0), np.std(draws, 0, ddof=1) / np.sqrt(len(draws))
    z = (mean - expected().sum(1)) / error
    assert np.abs(z).max() < 4.5 and abs(z.mean()) < 0.5


def test_one_draw_decides_over_a_candidate_at_every_place():
    drawn = feed_sessions.drawn_view(
        feed().world, sessions(), PLACES, np.random.default_rng(0)
    )
    below, above = drawn[..., 1:], drawn[..., :-1]
    assert (below > 0).any() and ((above > 0) & (below == 0)).any()
    np.testing.assert_array_equal(above[below > 0], below[below > 0])
    assert (drawn <= sessions().seconds[..., None]).all()


def test_eq_3_ranks_by_the_product_of_powers():
    ctr, cvr = np.array([0.5, 0.1, 0.4, 0.2]), np.array([0.2, 0.9, 0.5, 0.1])
    seconds = np.array([[10.0, 20.0], [30.0, 90.0]])
    product = feed_sessions.rank(ctr, cvr, seconds, Exponents(), 2)
    # .5·.2·10 = 1 < .1·.9·20 = 1.8; .4·.5·30 = 6 > .2·.1·90 = 1.8
    np.testing.assert_array_equal(product, [[1, 0], [0, 1]])
    clicks = feed_sessions.rank(ctr, cvr, seconds, Exponents(1, 0, 0), 1)
    np.testing.assert_array_equal(clicks, [[0], [0]])
    longest = feed_sessions.rank(ctr, cvr, seconds, Exponents(0, 0, 1), 1)
    np.testing.assert_array_equal(longest, [[1], [1]])


@settings(deadline=None, max_examples=20)
@given(st.floats(0.1, 10), st.integers(0, 1000))
def test_a_common_factor_of_the_exponents_changes_no_order(factor, seed):
    rng = np.random.default_rng(seed)
    ctr, cvr = rng.uniform(0.01, 1, (2, 20))
    seconds, exponents = rng.uniform(15, 600, (4, 5)), Exponents(1, 2, 0.5)
    scaled = Exponents(*(factor * e for e in exponents))
    np.testing.assert_array_equal(
        feed_sessions.rank(ctr, cvr, seconds, exponents, 5),
        feed_sessions.rank(ctr, cvr, seconds, scaled, 5),
    )


def test_the_bounds_are_those_of_all_rankings():
    view = np.random.default_rng(0).uniform(1, 9, (3, 5, 2))
    every = np.array(list(itertools.permutations(range(5), 2)))
    earned = np.array(
        [
            feed_sessions.view_time(view, np.tile(order, (3, 1)))  # of each session
            for order in every
        ]
    )
    by_hand = view[1, every[7, 0], 0] + view[1, every[7, 1], 1]
    assert earned[7, 1] == pytest.approx(by_hand)
    np.testing.assert_allclose(feed_sessions.best_view_time(view), earned.max(0))
    np.testing.assert_allclose(feed_sessions.random_view_time(view), earned.mean(0))


def test_knowing_the_truth_earns_more_than_chance_and_no_more_than_the_best():
    known = truth(feed().world, *sessions().offers)
    order = feed_sessions.rank(
        known.click, known.watch, sessions().seconds, Exponents(), PLACES
    )
    earned = feed_sessions.view_time(expected(), order).mean()
    best = feed_sessions.best_view_time(expected()).mean()
    chance = feed_sessions.random_view_time(expected()).mean()
    assert 1.3 * chance < earned <= best
