"""The simulated feed as a log: the LT4REC authors' fields, four labels, the truth.

The 20 fields are those of the authors' public sample
(https://github.com/aunusualman/LT4REC), without their prefix `FEA_`. A request
shows videos below a source video (`exposure`); users react as `world` says
they would. This file draws the reactions, numbers the ids and splits by day. What a
block of rows holds depends on the configuration, its day and its place in the day
alone, so blocks are made when they are read and the log is never held in memory.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from jaxmtl.data.log import Log
from jaxmtl.data.reading.vocabulary import look_up
from jaxmtl.data.sources.video_feed.exposure import (
    CHANNELS,
    POSITIONS,
    Impressions,
    expose,
)
from jaxmtl.data.sources.video_feed.history import NUMERIC, statistics
from jaxmtl.data.sources.video_feed.world import (
    BETA,
    FeedConfig,
    World,
    logits,
    make_rng,
    make_world,
    truth,
    valid_play,
    watch_mixture,
)
from jaxmtl.types import PADDING, Field, Rows, Schema, Task, Vocabulary

BLOCK_ROWS = 65_536
_EXPOSURE, _REACTION = 5, 6  # streams of randomness beside the world's

_TASKS = (
    Task("click"),
    Task("watch", "continuous", space="click", metric="mse"),
    Task("like", space="click"),
    Task("follow", space="click"),
)
# Field, what it tells of, its vocabulary; in the order of `Rows.ids`.
_FIELDS = (
    ("uid", "user", "user"),
    ("age", "user", "age"),
    ("ugroup", "user", "group"),
    ("ucat", "user", "subcategory"),
    ("vid", "video", "video"),
    ("cp", "video", "publisher"),
    ("icat1", "video", "category"),
    ("icat2", "video", "subcategory"),
    ("ikeyword", "video", "keyword"),
    ("ixftag", "video", "tag"),
    ("duration", "video", "duration"),
    ("coverquality", "video", "cover"),
    ("svid", "source", "video"),
    ("scp", "source", "publisher"),
    ("sicat1", "source", "category"),
    ("sicat2", "source", "subcategory"),
    ("sikeyword", "source", "tag"),
    ("stag", "source", "tag"),
    ("algid", "channel", "channel"),
    ("order", "position", "position"),
)


class Feed(NamedTuple):
    """A world with the ids its log uses.

    Attributes:
      world: the truth, in world ids.
      schema: what the log's rows hold.
      tables: `user`, `video`, `source`, `channel`, `position` -> int32
        [things, slots], the log's ids of everything the world holds; `UNKNOWN`
        where the training days do not show it.
      numeric: `user`, `video` -> float32 [things, numerics of each]; empty without
        a history.
    """

    world: World
    schema: Schema
    tables: dict[str, np.ndarray]
    numeric: dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class FeedBlocks:
    """The rows of some days, drawn again each time they are read, in time order."""

    feed: Feed
    days: range

    def __iter__(self) -> Iterator[Rows]:
        config = self.feed.world.config
        for day in self.days:
            for place in range(num_blocks(config, day)):
                yield draw_rows(self.feed, day, place)

    def __len__(self) -> int:
        return sum(num_blocks(self.feed.world.config, day) for day in self.days)


def read(config: FeedConfig) -> Log:
    """Simulates a log.

    Returns:
      The log: the last day is `test`, the one before it `validation`, the days
      before that `train`. Labels off-click are 0, as in the authors' sample.
    """
    feed = make_feed(config)
    last = config.days - 1
    splits = {
        "train": FeedBlocks(feed, range(last - 1)),
        "validation": FeedBlocks(feed, range(last - 1, last)),
        "test": FeedBlocks(feed, range(last, last + 1)),
    }
    notes = (
        f"simulated from a seed, no real users: {config}",
        "truth.* hold the expected labels: no prediction can be better on average",
    )
    counts = {"read": config.impressions, "kept": config.impressions}
    return Log(feed.schema, splits, counts, notes)


def make_feed(config: FeedConfig) -> Feed:
    """Makes a world and numbers what its training days show.

    Takes one pass over the impressions of the training days, without reactions.
    """
    world = make_world(config)
    columns = _world_ids(world)
    seen = {part: np.zeros(len(columns[name]), bool) for name, part, _ in _FIELDS}
    for day in range(config.days - 2):
        for place in range(num_blocks(config, day)):
            for part, things in _things(draw_impressions(world, day, place)).items():
                seen[part][things] = True
    found: dict[str, list[np.ndarray]] = {}
    for name, part, vocabulary in _FIELDS:
        found.setdefault(vocabulary, []).append(columns[name][seen[part]].ravel())
    known = {
        v: np.setdiff1d(np.concatenate(ids), [PADDING]) for v, ids in found.items()
    }
    tables = {
        part: np.concatenate(
            [
                look_up(columns[name], known[vocabulary])
                for name, owner, vocabulary in _FIELDS
                if owner == part
            ],
            axis=1,
        )
        for part in seen
    }
    tasks = _TASKS + (Task("valid_play", space="click"),) * (config.valid_play > 0)
    schema = Schema(
        name="video_feed",
        fields=tuple(Field(n, v, columns[n].shape[1]) for n, _, v in _FIELDS),
        vocabularies=tuple(Vocabulary(v, 1 + len(ids)) for v, ids in known.items()),
        tasks=tasks,
        ctr="click",
        cvr="valid_play" if config.valid_play else "watch",
        user="uid",
        item="vid",
        numeric=NUMERIC if config.history else (),
        extras=("duration", "day", *(f"truth.{task.name}" for task in tasks)),
    )
    return Feed(world, schema, tables, statistics(world) if config.history else {})


def encode_rows(feed: Feed, impressions: Impressions) -> np.ndarray:
    """`Rows.ids` of any impressions, int32 [n, slots], whether the log has them."""
    things = _things(impressions)
    return np.concatenate([feed.tables[p][things[p]] for p in feed.tables], axis=1)


def num_blocks(config: FeedConfig, day: int) -> int:
    """How many blocks a day has."""
    return -(-_rows_of_day(config, day) // BLOCK_ROWS)


def draw_impressions(world: World, day: int, place: int) -> Impressions:
    """Who sees what in the block `place` of a day, in world ids."""
    rows = _rows_of_day(world.config, day) - place * BLOCK_ROWS
    rng = make_rng(world.config, _EXPOSURE, day, place)
    return expose(rng, world.users, world.videos, day, min(rows, BLOCK_ROWS))


def draw_rows(feed: Feed, day: int, place: int) -> Rows:
    """Block `place` of a day: the same bits whatever was drawn before it.

    Args:
      feed: from `make_feed`.
      day: 0 … days - 1.
      place: 0 … `num_blocks(config, day)` - 1.
    """
    world = feed.world
    impressions = draw_impressions(world, day, place)
    rng = make_rng(world.config, _REACTION, day, place)
    rows = len(impressions.users)
    expected = truth(world, *impressions)
    # Clicks first, in all rows: they stay what they are at any conflict.
    click, like, follow = (
        rng.random(rows) < p for p in (expected.click, expected.like, expected.follow)
    )
    logit = logits(world, *impressions)[:, 1]
    watch = draw_watch(rng, logit)
    labels = {"click": click, "watch": watch, "like": like, "follow": follow}
    truths = expected._asdict()
    if ratio := world.config.valid_play:
        labels["valid_play"] = watch >= ratio
        truths["valid_play"] = valid_play(logit, ratio)
    extras = {
        "duration": world.videos.seconds[impressions.videos],
        "day": np.full(rows, day),
        **{f"truth.{name}": p for name, p in truths.items()},
    }
    return Rows(
        ids=encode_rows(feed, impressions),
        numeric=_numeric(feed, impressions),
        labels={n: (click * label).astype(np.float32) for n, label in labels.items()},
        extras={n: column.astype(np.float32) for n, column in extras.items()},
        groups={
            "user": impressions.users.astype(np.int32),
            "item": impressions.videos.astype(np.int32),
        },
    )


def _numeric(feed: Feed, impressions: Impressions) -> np.ndarray:
    if not feed.numeric:
        return np.zeros((len(impressions.users), 0), np.float32)
    things = _things(impressions)
    return np.concatenate([feed.numeric[p][things[p]] for p in feed.numeric], axis=1)


def draw_watch(rng: np.random.Generator, logit: np.ndarray) -> np.ndarray:
    """Watch ratios [n] of clicked videos, given their logits [n]."""
    finish, partial = watch_mixture(logit)
    ends = rng.random(len(logit)) < finish
    return np.where(ends, 1.0, rng.beta(BETA * partial, BETA * (1 - partial)))


def _rows_of_day(config: FeedConfig, day: int) -> int:
    first, end = (config.impressions * d // config.days for d in (day, day + 1))
    return end - first


def _things(impressions: Impressions) -> dict[str, np.ndarray]:
    users, videos, context = impressions
    return {"user": users, "video": videos, **context._asdict()}


def _world_ids(world: World) -> dict[str, np.ndarray]:
    """Field -> int32 [things, slots], the world's ids of all it tells of."""
    users, videos = world.users, world.videos
    columns = {
        "uid": np.arange(len(users.birth)),
        "age": users.age,
        "ugroup": users.group,
        "ucat": users.favourites,
        "vid": np.arange(len(videos.birth)),
        "cp": videos.publisher,
        "icat1": videos.category,
        "icat2": videos.subcategory,
        "ikeyword": videos.keywords,
        "ixftag": videos.tags,
        "duration": videos.duration,
        "coverquality": videos.cover,
        "sikeyword": videos.source_keywords,
        "stag": videos.source_tags,
        "algid": np.arange(CHANNELS),
        "order": np.arange(POSITIONS),
    }
    for field in ("vid", "cp", "icat1", "icat2"):
        columns["s" + field] = columns[field]
    return {n: c if c.ndim == 2 else c[:, None] for n, c in columns.items()}
