"""What an earlier log of the same users and videos would have counted.

Real recommenders feed statistics of the past beside ids: how often a user or a video
was seen, clicked and watched. Here they come from impressions of their own, drawn like
those of the log but never part of it, so they tell nothing about any row's label. They
are noisy as such features are: a short history counts few clicks.
"""

from __future__ import annotations

import numpy as np

from jaxmtl.data.sources.video_feed.exposure import expose
from jaxmtl.data.sources.video_feed.world import World, make_rng, truth

NUMERIC = tuple(
    f"{thing}_{name}"
    for thing in ("user", "video")
    for name in ("shown", "click_rate", "watch")
)
"""Logarithm of 1 + impressions, share clicked, mean expected watch ratio on clicks."""
PRIOR = 10
"""Impressions, or clicks, of the average thing that stand beside a thing's own."""
BLOCK = 65_536
_STREAM = 7


def statistics(world: World) -> dict[str, np.ndarray]:
    """`user` and `video` -> float32 [things, 3], standardised over the history.

    Everybody and everything is in it as on the log's first day, as long as it is
    born then; later ones have the statistics of the average thing.
    """
    config, rng = world.config, make_rng(world.config, _STREAM)
    sizes = {"user": config.users, "video": config.videos}
    sums = {thing: np.zeros((3, size)) for thing, size in sizes.items()}
    for at in range(0, config.history, BLOCK):
        rows = min(BLOCK, config.history - at)
        shown = expose(rng, world.users, world.videos, 0, rows)
        expected = truth(world, *shown)
        click = rng.random(rows) < expected.click
        columns = np.ones(rows), click, click * expected.watch
        for thing, ids in (("user", shown.users), ("video", shown.videos)):
            for total, column in zip(sums[thing], columns, strict=True):
                total += np.bincount(ids, weights=column, minlength=sizes[thing])
    return {thing: _standardised(*total) for thing, total in sums.items()}


def _standardised(shown, clicks, watched) -> np.ndarray:
    click_rate = (clicks + PRIOR * clicks.sum() / shown.sum()) / (shown + PRIOR)
    watch = (watched + PRIOR * watched.sum() / max(clicks.sum(), 1)) / (clicks + PRIOR)
    columns = np.stack([np.log1p(shown), click_rate, watch], axis=1)
    mean = np.average(columns, axis=0, weights=shown)
    deviation = np.sqrt(np.average((columns - mean) ** 2, axis=0, weights=shown))
    return ((columns - mean) / np.maximum(deviation, 1e-12)).astype(np.float32)
