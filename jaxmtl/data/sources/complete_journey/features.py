"""Labels and features of a campaign's rows: each household × each of its coupons.

The labels see the campaign's window alone. The features see what was known
before its first day: they are given events cut off there, so that nothing
later can reach them.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from scipy import sparse

from jaxmtl.data.sources.complete_journey.tables import (
    FIRST_DAY,
    Campaign,
    Journey,
    Purchases,
    Redemptions,
    before,
    count,
    within,
)
from jaxmtl.types import PADDING


def labels(journey: Journey, campaign: Campaign) -> tuple[np.ndarray, np.ndarray]:
    """What each household did with each coupon inside the campaign's window.

    Returns:
      bool [h, c] twice: `bought` a product that the coupon covers, from the
      first day to the last, or redeemed the coupon (some redemptions have no
      matching purchase); and `redeemed` the coupon.
    """
    window = within(journey.purchases, campaign.start, campaign.end)
    bought = _baskets(journey, campaign, window) @ campaign.covers.T
    used = journey.redemptions
    mine = used.campaign == campaign.number
    shape = (journey.households, journey.coupons)
    redeemed = count(used.household[mine], used.coupon[mine], shape)
    redeemed = redeemed[campaign.households][:, campaign.coupons]
    return (bought + redeemed).toarray() > 0, redeemed.toarray() > 0


def counts(journey: Journey, campaign: Campaign) -> dict[str, np.ndarray]:
    """What was counted by the day before the campaign's first.

    Returns:
      Name -> [h, 1], [1, c], [h, c] or a number, none negative.
    """
    bought = before(journey.purchases, campaign.start)
    used = before(journey.redemptions, campaign.start)
    return {
        **_household_counts(journey, campaign, bought, used),
        **_coupon_counts(journey, campaign, bought, used),
        **_pair_counts(journey, campaign, bought),
        # The other counts grow through the year; this tells growth from taste.
        "history_days": max((campaign.start - FIRST_DAY).astype(int), 0),
    }


def _household_counts(
    journey: Journey, campaign: Campaign, bought: Purchases, used: Redemptions
) -> dict[str, np.ndarray]:
    received = np.zeros(journey.households)
    for other in journey.campaigns:
        if other.start < campaign.start:
            received[other.households] += 1
    _, first_lines = np.unique(bought.basket, return_index=True)
    total = partial(np.bincount, minlength=journey.households)
    counted = {
        "household_lines": total(bought.household),
        "household_trips": total(bought.household[first_lines]),
        "household_spend": total(bought.household, bought.spend),
        "household_campaigns": received,
        "household_redemptions": total(used.household),
    }
    return {name: n[campaign.households][:, None] for name, n in counted.items()}


def _coupon_counts(
    journey: Journey, campaign: Campaign, bought: Purchases, used: Redemptions
) -> dict[str, np.ndarray]:
    sold = np.bincount(bought.product, minlength=campaign.covers.shape[1])
    redeemed = np.bincount(used.coupon, minlength=journey.coupons)
    return {
        "coupon_products": campaign.covers.sum(axis=1)[None, :],
        "coupon_sold": (campaign.covers @ sold)[None, :],
        "coupon_redemptions": redeemed[campaign.coupons][None, :],
    }


def _pair_counts(
    journey: Journey, campaign: Campaign, bought: Purchases
) -> dict[str, np.ndarray]:
    """Purchases by household and coupon: of its products, and of their categories."""
    baskets = _baskets(journey, campaign, bought)
    category = _one_hot(journey.catalogue["product_category"])
    covered = (campaign.covers @ category).sign()
    return {
        "purchases_of_products": (baskets @ campaign.covers.T).toarray(),
        "purchases_in_categories": (baskets @ category @ covered.T).toarray(),
    }


def commonest(campaign: Campaign, codes: np.ndarray, slots: int) -> np.ndarray:
    """The codes that most of a coupon's products carry, the commonest first.

    Args:
      codes: [products], -1 where unknown.

    Returns:
      int [c, slots], padded with -1; of equally common codes the lower first.
    """
    totals = (campaign.covers @ _one_hot(codes)).toarray()
    order = np.argsort(-totals, axis=1, kind="stable")[:, :slots]
    top = np.where(np.take_along_axis(totals, order, axis=1) > 0, order, PADDING)
    return np.pad(top, ((0, 0), (0, slots - top.shape[1])), constant_values=PADDING)


def _baskets(
    journey: Journey, campaign: Campaign, purchases: Purchases
) -> sparse.csr_array:
    """How often each household of the campaign bought each product, [h, products]."""
    shape = (journey.households, campaign.covers.shape[1])
    return count(purchases.household, purchases.product, shape)[campaign.households]


def _one_hot(codes: np.ndarray) -> sparse.csr_array:
    """[products, codes], a row of zeros where the code is unknown."""
    known = np.flatnonzero(codes >= 0)
    return count(known, codes[known], (codes.size, codes.max() + 1))
