"""Sessions on the simulated feed: videos to rank, and the view time a ranking earns.

LT4REC ranks candidates by pCTR^a · pCVR^b · length^c (eq. 3) and judges a pair of
models by view time (Table 3). The feed knows its truth in closed form, so the view
time to expect of any ranking is a sum, with no reaction drawn:

    view(ranking) = Σ_place P(click | video, place) · E[watch | click] · seconds.

Everything about a session is drawn before any policy ranks it, so policies differ in
nothing but their order of the same videos before the same user.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment

from jaxmtl.data.sources.video_feed import Feed, draw_watch, encode_rows
from jaxmtl.data.sources.video_feed.exposure import POSITIONS, Impressions, expose
from jaxmtl.data.sources.video_feed.world import World, logits, make_rng, truth
from jaxmtl.types import Rows

_STREAM = 100
"""Of randomness, beside those of the world and its log."""
_TINY = 1e-12
"""A prediction of zero has a logarithm all the same."""


class Exponents(NamedTuple):
    """a, b and c of eq. 3: of pCTR, of pCVR and of the length."""

    ctr: float = 1.0
    cvr: float = 1.0
    length: float = 1.0


class Sessions(NamedTuple):
    """Users, and the videos that a policy may show each of them.

    Attributes:
      offers: candidates as impressions at the top place, session by session, each
        field int [sessions · candidates].
      seconds: float64 [sessions, candidates], the videos' lengths.
    """

    offers: Impressions
    seconds: np.ndarray

    @property
    def users(self) -> np.ndarray:
        """int [sessions], world ids."""
        return self.offers.users.reshape(self.seconds.shape)[:, 0]


def draw_sessions(world: World, day: int, sessions: int, candidates: int) -> Sessions:
    """Sessions of a day, by users as active as those of the log.

    What is offered is what the feed's own channels would place in several requests of
    that user: popular videos, those of the user's favourite subcategories, and those
    related to what the user was watching. The source, part of the circumstances, is
    the video that the first of those requests began at.

    Args:
      world: the feed's.
      day: 0 … days - 1; users and videos born later do not exist.
      sessions: how many, at least 1.
      candidates: distinct videos a session, at most half of those that exist.

    Raises:
      ValueError: the day has too few videos to choose from.
    """
    alive = int(np.count_nonzero(world.videos.birth <= day))
    if not 1 <= candidates <= alive // 2:
        raise ValueError(
            f"{candidates} candidates a session do not fit {alive} videos on day {day};"
            f" use 1 … {alive // 2}, or more --data.feed.videos"
        )
    rng = make_rng(world.config, _STREAM, day)
    visits = expose(rng, world.users, world.videos, day, POSITIONS * sessions)
    starts = visits.context.position == 0  # each request has one
    parts = [
        _offers(rng, world, day, user, candidates)
        for user in visits.users[starts][:sessions]
    ]
    offers = jax.tree.map(lambda *columns: np.concatenate(columns), *parts)
    seconds = world.videos.seconds[offers.videos].astype(np.float64)
    return Sessions(offers, seconds.reshape(len(parts), candidates))


def _offers(
    rng: np.random.Generator, world: World, day: int, user: int, candidates: int
) -> Impressions:
    """The first distinct videos in requests that this user alone makes."""
    alone = jax.tree.map(lambda column: column[user : user + 1], world.users)
    rows, kept = 2 * candidates, np.zeros(0, int)
    while len(kept) < candidates:
        drawn = expose(rng, alone, world.videos, day, rows)
        _, first = np.unique(drawn.videos, return_index=True)
        kept, rows = np.sort(first)[:candidates], 2 * rows
    context = drawn.context
    same = np.zeros(candidates, np.int32)
    return Impressions(
        same + user,
        drawn.videos[kept],
        context._replace(
            source=same + context.source[0],
            channel=context.channel[kept],
            position=same,
        ),
    )


def as_rows(feed: Feed, sessions: Sessions) -> Rows:
    """The candidates with the ids of the feed's log, as if at the top place.

    A policy ranks before it knows where a video will stand, so it asks for all of them
    at one place.
    """
    offers = sessions.offers
    things = {"user": offers.users, "video": offers.videos}
    columns = [feed.numeric[part][things[part]] for part in feed.numeric]
    numeric = np.concatenate(
        [np.zeros((len(offers.users), 0), np.float32), *columns], 1
    )
    return Rows(encode_rows(feed, offers), numeric, labels={}, extras={}, groups={})


def expected_view(world: World, sessions: Sessions, places: int) -> np.ndarray:
    """Seconds to expect of a candidate at a place: [sessions, candidates, places]."""
    clicks, watch = _click_and_watch(world, sessions, places)
    return clicks * (watch * sessions.seconds)[..., None]


def drawn_view(
    world: World, sessions: Sessions, places: int, rng: np.random.Generator
) -> np.ndarray:
    """Seconds that were viewed, drawn once: [sessions, candidates, places].

    One draw decides over a candidate at every place: whoever clicks a video far down
    would have clicked it further up, and watches it as long (common random numbers).
    """
    clicks, _ = _click_and_watch(world, sessions, places)
    shape = sessions.seconds.shape
    clicked = rng.random(shape)[..., None] < clicks
    ratio = draw_watch(rng, logits(world, *sessions.offers)[:, 1])
    return clicked * (ratio.reshape(shape) * sessions.seconds)[..., None]


def _click_and_watch(
    world: World, sessions: Sessions, places: int
) -> tuple[np.ndarray, np.ndarray]:
    """P(click) [sessions, candidates, places] and E[watch | click] without places."""
    users, videos, context = sessions.offers
    at = lambda place: context._replace(position=np.full_like(users, place))
    known = [truth(world, users, videos, at(place)) for place in range(places)]
    shape = sessions.seconds.shape
    clicks = np.stack([t.click.reshape(shape) for t in known], axis=-1)
    return clicks, known[0].watch.reshape(shape)


def rank(
    ctr: ArrayLike,
    cvr: ArrayLike,
    seconds: np.ndarray,
    exponents: Exponents,
    places: int,
) -> np.ndarray:
    """The candidates with the highest score of eq. 3, best first.

    Args:
      ctr: predicted P(click), as many as `seconds`.
      cvr: the predicted CVR, the same.
      seconds: float [sessions, candidates].
      exponents: of eq. 3; one factor for all three changes nothing.
      places: how many are shown, at most the candidates.

    Returns:
      int [sessions, places], numbers of candidates; of equal ones the first.
    """
    a, b, c = exponents
    log = lambda x: np.log(np.maximum(np.asarray(x, np.float64), _TINY))
    score = a * log(ctr) + b * log(cvr) + c * log(np.ravel(seconds))
    order = np.argsort(-score.reshape(seconds.shape), axis=1, kind="stable")
    return order[:, :places]


def view_time(view: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Seconds that a ranking earns, float64 [sessions].

    Args:
      view: from `expected_view` or `drawn_view`.
      order: from `rank`.
    """
    sessions, places = order.shape
    return view[np.arange(sessions)[:, None], order, np.arange(places)].sum(1)


def best_view_time(view: np.ndarray) -> np.ndarray:
    """What no ranking can beat, float64 [sessions]: the best video for every place."""
    best = [linear_sum_assignment(one, maximize=True) for one in view]
    return np.array([one[at].sum() for one, at in zip(view, best, strict=True)])


def random_view_time(view: np.ndarray) -> np.ndarray:
    """What a ranking drawn by lot earns on average, float64 [sessions]."""
    return view.mean(1).sum(1)
