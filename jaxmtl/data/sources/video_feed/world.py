"""What users of the simulated feed would do: its truth, known in closed form.

Every task scores the same facets of a user and a video (`population`), each
with weights of its own:

    preference_t = Σ_k w_tk (user_k + ½ source_k) video_k + appeals of both sides

The tasks' weights are mixtures of four sign patterns, made orthonormal over the
log's kind of impressions: A, B, C, D have unit variance there, no correlation. With
φ = conflict · 120°,

    click  = A
    watch  = cos φ · A + sin φ · B
    like   = .8 (cos φ/2 · A + sin φ/2 · B) + .6 C
    follow = .8 (cos 3φ/4 · A + sin 3φ/4 · B) + .6 D

so the preferences of click and watch correlate by cos φ: they are one at conflict 0,
½ at .5, -½ at 1. In between some facets help both tasks and some pull them apart,
which is the case sparse sharing is made for (LT4REC, section 2.2). Circumstances act
on top: position and channel on clicks, length on clicks and watching.

A click is watched to the end with probability finish(z), else up to a fraction from
a Beta law with mean partial(z), for one logit z, hence

    E[watch | click] = finish(z) + (1 - finish(z)) · partial(z).
"""

from __future__ import annotations

import dataclasses
import numbers
from typing import NamedTuple

import jax
import numpy as np
from scipy.special import betainc, expit

from jaxmtl.data.sources.video_feed.exposure import CHANNELS, Context, expose
from jaxmtl.data.sources.video_feed.population import (
    TASTES,
    Users,
    Videos,
    draw_topics,
    draw_users,
    draw_videos,
)

BETA = 2.7
"""Concentration of the watch ratio of those who leave early."""
MEAN_WATCH, LIKE_RATE, FOLLOW_RATE = 0.82, 0.08, 0.03  # all on clicks

_SOURCE = 0.5  # how much of the source's facets joins the user's for the moment
_APPEAL = 0.8  # an appeal's scale next to a taste's
_GAIN = np.array([1.25, 1.6, 1.1, 1.1])  # of a unit preference, in logits
_POSITION, _CHANNEL = 0.5, 0.35  # click logits
_LONG = np.array([-0.12, -0.6, 0.0, 0.0])  # logits, for one unit of `_longness`
_PATTERNS = np.array([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]])
_SAMPLE_DAYS, _SAMPLE_ROWS = 5, 10_000
_RANGES = {
    "users": (10, 10**8),
    "videos": (10, 10**8),
    "impressions": (100, 10**12),
    "days": (3, 10**4),
    "click_rate": (0.001, 0.999),
    "conflict": (0.0, 1.0),
    "noise": (0.1, 10.0),
    "valid_play": (0.0, 1.0),
    "history": (0, 10**9),
    "seed": (0, 2**63 - 1),
}


@dataclasses.dataclass(frozen=True)
class FeedConfig:
    """A simulated feed, down to the bit; the defaults make a demonstration.

    Attributes:
      users: how many can appear, 10 … 10⁸.
      videos: how many can appear, 10 … 10⁸.
      impressions: rows of the log, 100 … 10¹² and at least one a day.
      days: 3 … 10⁴, of which the last is the test split and the one before it
        validation.
      click_rate: mean of p(click) over the log, .001 … .999.
      conflict: 0 … 1, how far apart clicking and watching are: their preferences
        correlate by cos(conflict · 120°).
      noise: chance beside preference, .1 … 10: all effects on logits are divided by
        it, so at .1 clicks are nearly certain and at 10 nearly random.
      valid_play: 0 … 1, the watch ratio from which a click is a valid play, a binary
        task that then plays the CVR; 0: no such task.
      history: 0 … 10⁹, impressions of an earlier log whose statistics of users and
        videos become numeric features (`history`); 0: none.
      seed: 0 … 2⁶³ - 1. Users, videos and impressions depend on it and on the sizes
        alone, so feeds that differ in conflict show the same videos to the same users.

    Raises:
      ValueError: a field outside its range; names it and the range.
    """

    users: int = 2_000
    videos: int = 2_000
    impressions: int = 80_000
    days: int = 10
    click_rate: float = 0.39
    conflict: float = 0.5
    noise: float = 1.0
    valid_play: float = 0.0
    history: int = 0
    seed: int = 0

    def __post_init__(self):
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            whole = isinstance(low, int)
            if not isinstance(value, numbers.Integral if whole else numbers.Real):
                raise ValueError(
                    f"feed: {name}={value!r} must be a {'whole ' * whole}number in"
                    f" {low:g} … {high:g}"
                )
            if not low <= value <= high:
                raise ValueError(
                    f"feed: {name}={value!r} lies outside its range {low:g} … {high:g}"
                )
        if self.impressions < self.days:
            raise ValueError(
                f"feed: impressions={self.impressions} leave some of days={self.days}"
                " empty; ask for at least one a day"
            )


class World(NamedTuple):
    """All that decides the truth.

    Attributes:
      config: what the world was made from.
      users: who can appear.
      videos: what can be shown.
      weights: float64 [TASTES + 2·APPEALS, 4], of the facets for click, watch,
        like and follow, in logits.
      channel: float64 [CHANNELS], click logits.
      intercepts: float64 [4], which put the mean labels where they belong.
    """

    config: FeedConfig
    users: Users
    videos: Videos
    weights: np.ndarray
    channel: np.ndarray
    intercepts: np.ndarray


class Truth(NamedTuple):
    """Expected labels, float64 [n]; all but `click` given a click."""

    click: np.ndarray
    watch: np.ndarray
    like: np.ndarray
    follow: np.ndarray


def make_rng(config: FeedConfig, *stream: int) -> np.random.Generator:
    """The generator of one stream of a feed; streams are independent."""
    return np.random.default_rng(np.random.SeedSequence(config.seed, spawn_key=stream))


def make_world(config: FeedConfig) -> World:
    """Draws users and videos and calibrates the truth to the mean labels asked for.

    Calibration looks at 50,000 impressions drawn as the log draws its own, over
    evenly spaced days, not at the log: a longer log has the same truth.

    Returns:
      A world with mean p(click) = `config.click_rate`, and on clicks mean watch
      ratio .82, likes .08 and follows .03.
    """
    topics = draw_topics(make_rng(config, 0))
    users = draw_users(make_rng(config, 1), config.users, config.days, topics)
    videos = draw_videos(make_rng(config, 2), config.videos, config.days, topics)
    channel = _CHANNEL * make_rng(config, 3).standard_normal(CHANNELS)
    rng = make_rng(config, 4)
    days = np.linspace(0, config.days - 1, _SAMPLE_DAYS).astype(int)
    parts = [expose(rng, users, videos, day, _SAMPLE_ROWS) for day in days]
    sample = jax.tree.map(lambda *columns: np.concatenate(columns), *parts)
    weights = _task_weights(_facets(users, videos, *sample), config.conflict)
    world = World(config, users, videos, weights, channel, np.zeros(4))
    return world._replace(intercepts=_intercepts(logits(world, *sample), config))


def truth(world: World, users, videos, context: Context) -> Truth:
    """What to expect of any user before any video in any circumstances.

    Args:
      world: from `make_world`.
      users: int [n], world ids 0 … users - 1.
      videos: int [n], world ids 0 … videos - 1.
      context: three of int [n].

    Returns:
      The expected labels; births are ignored.
    """
    click, watch, like, follow = logits(world, users, videos, context).T
    return Truth(expit(click), mean_watch(watch), expit(like), expit(follow))


def logits(world: World, users, videos, context: Context) -> np.ndarray:
    """The four tasks' logits, float64 [n, 4]; arguments as for `truth`."""
    facets = _facets(world.users, world.videos, users, videos, context)
    scores = facets @ world.weights
    scores += _longness(world.videos.seconds[videos])[:, None] * _LONG
    scores[:, 0] += world.channel[context.channel]
    scores[:, 0] -= _POSITION * np.log1p(context.position)
    return world.intercepts + scores / world.config.noise


def watch_mixture(logit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """P(watched to the end) and the mean ratio of those who leave earlier."""
    return expit(logit), 0.05 + 0.9 * expit(0.85 + 0.35 * logit)


def valid_play(logit: np.ndarray, ratio: float) -> np.ndarray:
    """P(watch ratio >= `ratio` | click) for a watch logit, 0 < ratio <= 1."""
    finish, partial = watch_mixture(logit)
    left_early = betainc(BETA * partial, BETA * (1 - partial), ratio)
    return 1 - (1 - finish) * left_early


def mean_watch(logit: np.ndarray) -> np.ndarray:
    """E[watch | click] for a watch logit."""
    finish, partial = watch_mixture(logit)
    return finish + (1 - finish) * partial


def _facets(users: Users, videos: Videos, user, video, context) -> np.ndarray:
    """What the tasks weigh, float32 [n, TASTES + 2·APPEALS]."""
    left = users.facets[user]
    right = videos.facets[video]
    taste = left[:, :TASTES] + _SOURCE * videos.facets[context.source, :TASTES]
    appeals = (_APPEAL * right[:, TASTES:], _APPEAL * left[:, TASTES:])
    return np.concatenate([taste * right[:, :TASTES], *appeals], axis=1)


def _longness(seconds: np.ndarray) -> np.ndarray:
    """Logarithm of the length, 0 at the median of 78 s and about unit variance."""
    return (np.log(seconds) - np.log(78)) / 0.7


def _task_weights(facets: np.ndarray, conflict: float) -> np.ndarray:
    """Mixtures of patterns that are orthonormal over the sample's facets."""
    patterns = np.tile(_PATTERNS, facets.shape[1] // 4).T
    covariance = np.cov(facets.astype(np.float64) @ patterns, rowvar=False)
    # With Σ = L Lᵀ, patterns · L⁻ᵀ is Gram–Schmidt in the order A, B, C, D.
    orthonormal = np.linalg.solve(np.linalg.cholesky(covariance), patterns.T).T
    angle = conflict * np.radians(120) * np.array([0, 1, 1 / 2, 3 / 4])
    along = np.array([1, 1, 0.8, 0.8])
    own = np.array([[0, 0, 0.6, 0], [0, 0, 0, 0.6]])
    mix = np.stack([along * np.cos(angle), along * np.sin(angle), *own])
    return orthonormal @ mix * _GAIN


def _intercepts(scores: np.ndarray, config: FeedConfig) -> np.ndarray:
    """Solves for the intercepts that give the mean labels, task by task."""
    click, watch, like, follow = scores.T

    def solve(label, score, target, weights=None):
        excess = lambda b: np.average(label(b + score), weights=weights) - target
        from scipy.optimize import brentq  # half a second, which a help text can spare

        return brentq(excess, -1e3, 1e3)

    intercept = solve(expit, click, config.click_rate)
    clicked = expit(intercept + click)
    return np.array(
        [
            intercept,
            solve(mean_watch, watch, MEAN_WATCH, clicked),
            solve(expit, like, LIKE_RATE, clicked),
            solve(expit, follow, FOLLOW_RATE, clicked),
        ]
    )
