"""Who is shown what in the simulated feed: requests, their source, their videos.

A request is what the LT4REC authors' sample shows: a user who watches a *source*
video gets up to ten more below it, each placed by an algorithm, its *channel*. The
source is one the user picked among a few popular videos, so it tells of the user's
taste; a channel takes popular videos, those of the user's favourite subcategories,
or those of the source's. Nothing here depends on earlier clicks: any stretch of the
log can be drawn alone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jaxmtl.data.sources.video_feed.population import TASTES, Users, Videos, power_law

POSITIONS = 10
SOURCE_CHOICES = 4
_USER_SKEW, _VIDEO_SKEW = 1.5, 1.6
# Shares of the requests that show so many videos.
_REQUEST_LENGTHS = {3: 0.03, 4: 0.07, 5: 0.04, 6: 0.07, 7: 0.06, 9: 0.03, 10: 0.7}
_POPULAR, _FAVOURITE, _RELATED = 0, 1, 2
# (share of the impressions, where the channel takes its videos from)
_CHANNELS = (
    (0.322, _POPULAR),
    (0.308, _POPULAR),
    (0.167, _FAVOURITE),
    (0.073, _RELATED),
    (0.053, _POPULAR),
    (0.037, _FAVOURITE),
    (0.020, _RELATED),
    (0.010, _POPULAR),
    (0.006, _FAVOURITE),
    (0.004, _RELATED),
)
CHANNELS = len(_CHANNELS)


class Context(NamedTuple):
    """The circumstances of impressions, each int [n].

    Attributes:
      source: the video the user was watching.
      channel: the algorithm that placed the video, 0 … CHANNELS - 1.
      position: place in the request, 0 (top) … POSITIONS - 1.
    """

    source: np.ndarray
    channel: np.ndarray
    position: np.ndarray


class Impressions(NamedTuple):
    """Rows of the log before anyone reacts: users and videos, each int [n]."""

    users: np.ndarray
    videos: np.ndarray
    context: Context


def expose(
    rng: np.random.Generator, users: Users, videos: Videos, day: int, rows: int
) -> Impressions:
    """Draws the next `rows` impressions of a day, request by request.

    Args:
      rng: decides everything; the same state gives the same rows.
      users: those born by `day` make requests, the popular ones most.
      videos: those born by `day` are shown, the popular ones most.
      day: 0 … days - 1.
      rows: how many; the last request ends where they do.

    Returns:
      Impressions in time order; the rows of a request follow each other.
    """
    request, position = _requests(rng, rows)
    alive_users = np.flatnonzero(users.birth <= day)
    alive = np.flatnonzero(videos.birth <= day)
    requests = request[-1] + 1
    visitor = alive_users[power_law(rng, len(alive_users), _USER_SKEW, requests)]
    source = _pick_source(rng, users, videos, alive, visitor)[request]
    who = visitor[request]

    channel = rng.choice(CHANNELS, rows, p=[share for share, _ in _CHANNELS])
    supply = np.array([kind for _, kind in _CHANNELS])[channel]
    lists = users.favourites[who]
    slot = power_law(rng, (lists >= 0).sum(1), 1.0, rows)
    favourite = lists[np.arange(rows), slot]
    topic = np.where(supply == _FAVOURITE, favourite, videos.subcategory[source])
    shown = _draw_videos(rng, videos, alive, topic, supply == _POPULAR)
    return Impressions(who, shown, Context(source, channel, position))


def _requests(rng, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Number of the request and position in it, each int [rows]."""
    shortest = min(_REQUEST_LENGTHS)
    lengths = rng.choice(
        list(_REQUEST_LENGTHS), rows // shortest + 1, p=list(_REQUEST_LENGTHS.values())
    )
    request = np.repeat(np.arange(len(lengths)), lengths)[:rows]
    start = np.cumsum(lengths) - lengths
    return request, np.arange(rows) - start[request]


def _pick_source(rng, users, videos, alive, visitor) -> np.ndarray:
    """One of a few popular videos a request, by the visitor's taste (softmax)."""
    size = (len(visitor), SOURCE_CHOICES)
    offers = alive[power_law(rng, len(alive), _VIDEO_SKEW, size)]
    taste = np.einsum(
        "nk,nck->nc",
        users.facets[visitor, :TASTES],
        videos.facets[offers, :TASTES],
    )
    choice = np.argmax(taste / np.sqrt(TASTES) + rng.gumbel(size=size), axis=1)
    return offers[np.arange(len(visitor)), choice]


def _draw_videos(rng, videos, alive, topic, popular) -> np.ndarray:
    """A video a row: of its topic, or of all where `popular` or the topic is empty."""
    # int16 keeps the stable sort a radix sort, linear in the videos alive.
    by_topic = alive[
        np.argsort(videos.subcategory[alive].astype(np.int16), kind="stable")
    ]
    topics = videos.subcategory[by_topic]
    first = np.searchsorted(topics, topic)
    count = np.searchsorted(topics, topic, side="right") - first
    popular = popular | (count == 0)
    rank = power_law(rng, np.where(popular, len(alive), count), _VIDEO_SKEW, len(topic))
    at = np.where(popular, 0, first) + rank
    return np.where(popular, alive[np.where(popular, rank, 0)], by_topic[at])
