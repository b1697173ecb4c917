"""Who exists in the simulated feed: its users and videos, and what they are like.

Everything a task may depend on is a vector of *facets*, one for each user and each
video. The first `TASTES` facets of a video are what it is about and those of a user
how much it cares; the last `APPEALS` please or displease whoever the other side is.
A facet is a sum of parts, most of which belong to something with many rows: a
category, a tag, a publisher, a group. What is learnt of those carries over between
videos, users and tasks; the `own` part must be learnt from one id's few rows.

Shares and shapes (list lengths, Zipf-like popularity, durations) follow the sample
the LT4REC authors published, https://github.com/aunusualman/LT4REC.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jaxmtl.types import PADDING

TASTES = 4
APPEALS = 4
FACETS = TASTES + APPEALS

NONE = 0
"""Stands in a list that has no entries, as the sample's `-1` does: a plain id."""
GROUPS = 100  # the sample has 267; fewer leave each group enough rows
AGES = 53  # age 0 is `not told`
CATEGORIES = 30
SUBCATEGORIES = 100
COVERS = 4
SHORTEST, LONGEST = 15.0, 600.0  # seconds
BUCKETS_AN_OCTAVE = 4
DURATIONS = int(BUCKETS_AN_OCTAVE * np.log2(LONGEST / SHORTEST)) + 1

_AGE_TOLD = 0.28
_COVER_SHARES = (0.845, 0.062, 0.057, 0.036)
_OLD_USERS, _OLD_VIDEOS = 0.85, 0.7  # those that exist before the log begins
_OWN_TOPIC = 0.7  # the rest of a video's words come from other subcategories
_NO_FAVOURITES, _NO_SOURCE_TAGS = 0.20, 0.21
# Shares of the lists that hold 1, 2, … entries.
_LENGTHS = {
    "favourites": (0.16, 0.09, 0.11, 0.075, 0.05, 0.515),
    "keywords": (0.0, 0.0, 0.004, 0.018, 0.03, 0.06, 0.087, 0.801),
    "tags": (0.0, 0.008, 0.034, 0.065, 0.105, 0.788),
    "source_keywords": (0.008, 0.006, 0.031, 0.037, 0.052, 0.066, 0.065, 0.735),
    "source_tags": (0.064, 0.02, 0.025, 0.103, 0.086, 0.702),
}
# What share of a facet's variance each part carries.
_USER_PARTS = {"group": 0.4, "age": 0.1, "favourites": 0.4, "own": 0.1}
_VIDEO_PARTS = {
    "subcategory": 0.5,
    "tags": 0.2,
    "publisher": 0.15,
    "cover": 0.03,
    "own": 0.12,
}


class Users(NamedTuple):
    """Users by popularity: id 0 is the most active one.

    Attributes:
      birth: int32 [users], first day on which the user can appear.
      age: int32 [users], 0 = not told.
      group: int32 [users].
      favourites: int32 [users, 6], subcategories, padded; may repeat.
      facets: float32 [users, FACETS].
    """

    birth: np.ndarray
    age: np.ndarray
    group: np.ndarray
    favourites: np.ndarray
    facets: np.ndarray


class Videos(NamedTuple):
    """Videos by popularity: id 0 is the most shown one.

    Attributes:
      birth: int32 [videos], first day on which the video can appear.
      publisher: int32 [videos].
      category: int32 [videos], the one its subcategory lies in.
      subcategory: int32 [videos].
      keywords: int32 [videos, 8], padded; a vocabulary of their own.
      tags: int32 [videos, 6], padded.
      source_keywords: int32 [videos, 8], padded; tags, as told of a source video.
      source_tags: int32 [videos, 6], padded; tags, as told of a source video.
      seconds: float32 [videos], SHORTEST … LONGEST.
      duration: int32 [videos], bucket of the seconds, 0 … DURATIONS - 1.
      cover: int32 [videos], grade of the cover picture.
      facets: float32 [videos, FACETS].
    """

    birth: np.ndarray
    publisher: np.ndarray
    category: np.ndarray
    subcategory: np.ndarray
    keywords: np.ndarray
    tags: np.ndarray
    source_keywords: np.ndarray
    source_tags: np.ndarray
    seconds: np.ndarray
    duration: np.ndarray
    cover: np.ndarray
    facets: np.ndarray


class Topics(NamedTuple):
    """Subcategories 1 … SUBCATEGORIES; row 0 is `NONE`.

    Attributes:
      category: int32 [1 + SUBCATEGORIES], the category each lies in.
      facets: float32 [1 + SUBCATEGORIES, FACETS]; zero for `NONE`.
    """

    category: np.ndarray
    facets: np.ndarray


def power_law(rng: np.random.Generator, count, skew: float, size) -> np.ndarray:
    """Draws ranks 0 … count - 1 with P(rank < r) = (r / count) ** (1 / skew).

    A Zipf-like law of exponent 1 - 1 / skew, drawn without a table; skew 1 is
    uniform. `count` may be an array that broadcasts to `size`.
    """
    return (count * rng.random(size) ** skew).astype(np.int32)


def draw_topics(rng: np.random.Generator) -> Topics:
    """Subcategories, each half like its category and half like nothing else."""
    first = np.arange(CATEGORIES)  # so that no category stands empty
    rest = power_law(rng, CATEGORIES, 2.0, SUBCATEGORIES - CATEGORIES)
    category = 1 + np.concatenate([first, rest])
    shared = rng.standard_normal((1 + CATEGORIES, FACETS), np.float32)
    own = rng.standard_normal((SUBCATEGORIES, FACETS), np.float32)
    facets = (shared[category] + own) / np.float32(np.sqrt(2))
    none = np.zeros((1, FACETS), np.float32)
    return Topics(
        category=np.concatenate([[NONE], category]).astype(np.int32),
        facets=np.concatenate([none, facets]),
    )


def draw_users(
    rng: np.random.Generator, count: int, days: int, topics: Topics
) -> Users:
    """Draws `count` users of a log of `days` days."""
    group = power_law(rng, GROUPS, 3.15, count)
    age = rng.integers(1, AGES, count, dtype=np.int32)
    age[rng.random(count) >= _AGE_TOLD] = 0
    favourites = 1 + power_law(rng, SUBCATEGORIES, 2.2, (count, 6))
    favourites = _cut(rng, "favourites", favourites, missing=_NO_FAVOURITES)
    facets = _blend(
        _USER_PARTS,
        group=_facets_of(rng, GROUPS)[group],
        age=_facets_of(rng, AGES)[age],
        favourites=_sum_of_list(topics.facets, favourites),
        own=_facets_of(rng, count),
    )
    return Users(_births(rng, count, days, _OLD_USERS), age, group, favourites, facets)


def draw_videos(
    rng: np.random.Generator, count: int, days: int, topics: Topics
) -> Videos:
    """Draws `count` videos of a log of `days` days, with the words that tag them."""
    # Few enough that the demonstration's 64,000 training rows show each tag often.
    publishers, num_tags, num_keywords = 10 + count // 4, 200 + count // 2, 300 + count
    subcategory = 1 + power_law(rng, SUBCATEGORIES, 3.3, count)
    publisher = power_law(rng, publishers, 1.7, count)
    words = _draw_words(rng, num_tags, subcategory)
    keywords = _draw_words(rng, num_keywords, subcategory)
    tags = _cut(rng, "tags", words[:, :6])
    cover = rng.choice(COVERS, count, p=_COVER_SHARES).astype(np.int32)
    seconds = 20 + np.exp(np.log(58) + 0.9 * rng.standard_normal(count))
    seconds = np.clip(seconds, SHORTEST, LONGEST)
    octaves = np.log2(seconds / SHORTEST)
    facets = _blend(
        _VIDEO_PARTS,
        subcategory=topics.facets[subcategory],
        tags=_sum_of_list(_facets_of(rng, 1 + num_tags), tags),
        publisher=_facets_of(rng, publishers)[publisher],
        cover=_facets_of(rng, COVERS)[cover],
        own=_facets_of(rng, count),
    )
    return Videos(
        birth=_births(rng, count, days, _OLD_VIDEOS),
        publisher=publisher,
        category=topics.category[subcategory],
        subcategory=subcategory,
        keywords=_cut(rng, "keywords", keywords),
        tags=tags,
        source_keywords=_cut(rng, "source_keywords", words),
        source_tags=_cut(rng, "source_tags", words[:, :6], missing=_NO_SOURCE_TAGS),
        seconds=seconds.astype(np.float32),
        duration=(BUCKETS_AN_OCTAVE * octaves).astype(np.int32),
        cover=cover,
        facets=facets,
    )


def _births(rng, count: int, days: int, old: float) -> np.ndarray:
    birth = rng.integers(1, days, count, dtype=np.int32)
    birth[rng.random(count) < old] = 0
    birth[0] = 0  # whatever is drawn, the first day has somebody to show
    return birth


def _draw_words(rng, count: int, subcategory: np.ndarray) -> np.ndarray:
    """Eight words a video, int32 [videos, 8] in 1 … count; most of its own topic."""
    spare = power_law(rng, SUBCATEGORIES, 3.3, count - SUBCATEGORIES)
    topic_of_word = np.sort(np.concatenate([np.arange(SUBCATEGORIES), spare]))
    start = np.searchsorted(topic_of_word, np.arange(SUBCATEGORIES + 1))
    shape = (len(subcategory), 8)
    topic = np.broadcast_to(subcategory[:, None] - 1, shape)
    other = power_law(rng, SUBCATEGORIES, 3.3, shape)
    topic = np.where(rng.random(shape) < _OWN_TOPIC, topic, other)
    rank = power_law(rng, (start[1:] - start[:-1])[topic], 2.5, shape)
    return (1 + start[topic] + rank).astype(np.int32)


def _cut(rng, name: str, lists: np.ndarray, missing: float = 0.0) -> np.ndarray:
    """Pads lists behind a drawn length; the missing ones hold `NONE` alone."""
    count, slots = lists.shape
    lengths = rng.choice(np.arange(1, slots + 1), count, p=_LENGTHS[name])
    absent = rng.random(count) < missing
    lengths[absent] = 1
    cut = np.where(np.arange(slots) < lengths[:, None], lists, PADDING)
    cut[absent, 0] = NONE
    return cut.astype(np.int32)


def _facets_of(rng, count: int) -> np.ndarray:
    return rng.standard_normal((count, FACETS), np.float32)


def _sum_of_list(facets: np.ndarray, lists: np.ndarray) -> np.ndarray:
    """Sum of a list's facets over the root of its length: unit variance again."""
    total = np.zeros((len(lists), facets.shape[1]), np.float32)
    for slot in lists.T:  # a slot at a time: all at once is six times the memory
        total += np.where((slot != PADDING)[:, None], facets[slot], 0)
    return total / np.sqrt((lists != PADDING).sum(1, dtype=np.float32))[:, None]


def _blend(shares: dict[str, float], **parts: np.ndarray) -> np.ndarray:
    """Sums unit-variance parts so that each carries its share of the variance."""
    return sum(np.float32(np.sqrt(shares[name])) * parts[name] for name in shares)
