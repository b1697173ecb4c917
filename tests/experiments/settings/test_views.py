"""A view splits anew, corrupts and hides; it never touches the log it looks at."""

import dataclasses

import numpy as np
import pytest
from conftest import assert_same_bits, make_rows, make_schema
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.settings import views
from experiments.settings.views import View
from jaxmtl.data.store import Dataset
from jaxmtl.types import PADDING, Rows

SIZES = {"train": 3_000, "validation": 1_000, "test": 2_000}
few = settings(max_examples=15, deadline=None)


def numbered(rows: Rows, start: int) -> Rows:
    """Rows that carry their own number, and a numeric feature of some width."""
    number = np.arange(start, start + rows.num_rows)
    wide = (5 + 4 * rows.numeric).astype(np.float32)
    groups = rows.groups | {"item": number.astype(np.int32)}
    return rows._replace(numeric=wide, groups=groups)


def make_data(sizes=SIZES, **changes) -> Dataset:
    splits, start = {}, 0
    for seed, (name, n) in enumerate(sizes.items()):
        splits[name] = numbered(make_rows(n, seed), start)
        start += n
    schema = dataclasses.replace(make_schema(), **changes)
    return Dataset(schema, splits, {"read": start}, ("a note",), "0123")


DATA = make_data()


def numbers(data: Dataset) -> dict[str, np.ndarray]:
    return {name: rows.groups["item"] for name, rows in data.splits.items()}


def fields_of(rows: Rows) -> dict[str, np.ndarray]:
    """Field -> its slots."""
    schema = make_schema()
    return {
        f.name: rows.ids[:, schema.column(f.name) :][:, : f.slots]
        for f in schema.fields
    }


def test_the_default_view_is_the_log_itself():
    assert views.apply(DATA, View()) is DATA


def test_a_view_leaves_its_log_alone():
    fresh = make_data()
    seen = views.apply(fresh, View("random", 0, "all", 1.0, 0.5))
    assert_same_bits(fresh.splits, DATA.splits)
    assert seen.counts == fresh.counts and seen.notes[0] == "a note"
    assert seen.splits.keys() == fresh.splits.keys()


@few
@given(
    st.tuples(*[st.integers(1, 300)] * 3).filter(lambda sizes: sum(sizes) > 20),
    st.integers(0, 5),
)
def test_a_random_split_deals_every_row_once_in_seven_to_three(sizes, seed):
    data = make_data(dict(zip(SIZES, sizes, strict=True)))
    found = numbers(views.apply(data, View("random", seed=seed)))
    total = sum(sizes)
    np.testing.assert_array_equal(
        np.sort(np.concatenate(list(found.values()))), np.arange(total)
    )
    for name, share in {"train": 0.63, "validation": 0.07, "test": 0.3}.items():
        assert abs(len(found[name]) - share * total) <= 1, name
        assert (np.diff(found[name]) > 0).all()  # in the order of the log


def test_a_random_split_keeps_all_that_a_row_holds_together():
    every = {}
    for rows in DATA.splits.values():
        for i, number in enumerate(rows.groups["item"]):
            every[int(number)] = rows, i
    seen = views.apply(DATA, View("random")).splits["validation"]
    for at, number in enumerate(seen.groups["item"][:50]):
        rows, i = every[int(number)]
        assert_same_bits(
            [column[at] for column in (seen.ids, seen.numeric)],
            [column[i] for column in (rows.ids, rows.numeric)],
        )
        for part in ("labels", "extras", "groups"):
            mine, theirs = getattr(seen, part), getattr(rows, part)
            assert {k: c[at] for k, c in mine.items()} == {
                k: c[i] for k, c in theirs.items()
            }


def test_a_view_is_a_function_of_its_seed():
    view = View("random", 500, "all", 1.0, 0.3)
    assert_same_bits(views.apply(DATA, view).splits, views.apply(DATA, view).splits)
    other = views.apply(DATA, dataclasses.replace(view, seed=1))
    assert set(numbers(other)["test"]) != set(numbers(views.apply(DATA, view))["test"])


def test_training_rows_are_drawn_once_each_and_tests_stay_whole():
    seen = views.apply(DATA, View(train_rows=700))
    kept = numbers(seen)["train"]
    assert len(set(kept)) == 700 and set(kept) < set(numbers(DATA)["train"])
    assert (np.diff(kept) > 0).all()
    for name in ("validation", "test"):
        assert_same_bits(seen.splits[name], DATA.splits[name])
    whole = views.apply(DATA, View(train_rows=SIZES["train"]))
    assert_same_bits(whole.splits, DATA.splits)


@pytest.mark.parametrize("level", [0.5, 2.0])
def test_numeric_noise_is_as_wide_as_asked_in_deviations_of_training(level):
    """Validation and test may spread otherwise; the noise is the same on all."""
    splits = dict(DATA.splits)
    splits["test"] = splits["test"]._replace(numeric=10 * splits["test"].numeric)
    data = dataclasses.replace(DATA, splits=splits)
    seen = views.apply(data, View(numeric_noise=level))
    deviation = float(splits["train"].numeric.astype(np.float64).std())
    for name, rows in seen.splits.items():
        noise = (rows.numeric - splits[name].numeric) / deviation
        n = rows.num_rows
        assert abs(noise.std() / level - 1) < 4 / np.sqrt(2 * n), name
        assert abs(noise.mean() / level) < 4 / np.sqrt(n), name
        assert rows.numeric.dtype == np.float32
        np.testing.assert_array_equal(rows.ids, splits[name].ids)
        assert_same_bits(rows.labels, splits[name].labels)
    draws = [r.numeric[:50] - splits[k].numeric[:50] for k, r in seen.splits.items()]
    assert abs(np.corrcoef(draws[0].T, draws[2].T)[0, 1]) < 0.6


@pytest.mark.parametrize("chance", [0.1, 0.5, 1.0])
def test_categorical_noise_replaces_the_share_of_ids_asked_for(chance):
    seen = views.apply(DATA, View(categorical_noise=chance))
    for name, rows in seen.splits.items():
        before = DATA.splits[name]
        np.testing.assert_array_equal(rows.numeric, before.numeric)
        clean = fields_of(before)
        for field, ids in fields_of(rows).items():
            filled = (clean[field] != PADDING).any(axis=1)
            kinds, counts = np.unique(clean[field], axis=0, return_counts=True)
            same = ((counts / counts.sum()) ** 2).sum()  # a draw may be what it was
            changed = (ids != clean[field]).any(axis=1)
            assert not changed[~filled].any()
            expected = chance * (1 - same)
            tolerance = 4 * np.sqrt(0.25 / filled.sum()) + 0.01
            if field == "tags":  # a quarter is empty, which is no set to replace
                tolerance += 0.03
            assert abs(changed[filled].mean() - expected) < tolerance, (name, field)
            # A set stays one that occurs, with its padding.
            assert {tuple(row) for row in ids} <= {tuple(kind) for kind in kinds}


def test_fields_of_a_row_are_replaced_apart():
    seen = fields_of(views.apply(DATA, View(categorical_noise=0.5)).splits["train"])
    clean = fields_of(DATA.splits["train"])
    user, item = ((seen[name] != clean[name]).any(axis=1) for name in ("user", "item"))
    assert abs((user & item).mean() - user.mean() * item.mean()) < 0.04


def test_without_numeric_features_none_are_left_anywhere():
    seen = views.apply(DATA, View(inputs="categorical"))
    assert seen.schema.numeric == ()
    for name, rows in seen.splits.items():
        assert rows.numeric.shape == (SIZES[name], 0)
        np.testing.assert_array_equal(rows.ids, DATA.splits[name].ids)


def test_judged_by_auc_are_the_binary_tasks_alone():
    tasks = tuple(
        dataclasses.replace(task, metric="mse") for task in make_schema().tasks
    )
    seen = views.apply(make_data(tasks=tasks), View(judge="auc"))
    metrics = {task.name: task.metric for task in seen.schema.tasks}
    assert metrics == {"click": "auc", "watch": "mse", "like": "auc"}


def test_every_setting_is_another_data_set():
    settings = {
        "split": "random",
        "train_rows": 100,
        "inputs": "categorical",
        "numeric_noise": 0.5,
        "categorical_noise": 0.5,
        "judge": "auc",
        "seed": 3,
    }
    assert settings.keys() == {field.name for field in dataclasses.fields(View)}
    seen = [views.apply(DATA, View(**{k: v})) for k, v in settings.items()]
    seen.append(views.apply(DATA, View(numeric_noise=0.25)))
    seen.append(views.apply(seen[3], View(numeric_noise=0.5)))  # a view of a view
    prints = [data.fingerprint for data in seen]
    assert len({*prints, DATA.fingerprint}) == len(prints) + 1
    assert views.apply(make_data(), View("random")).fingerprint == prints[0]
    other = dataclasses.replace(DATA, fingerprint="4567")
    assert views.apply(other, View("random")).fingerprint != prints[0]


def test_what_a_view_did_is_told_wherever_results_are_shown():
    notes = views.apply(DATA, View("random", 100, "categorical", 0, 0.25)).notes
    text = " ".join(notes[1:])
    for words in ("7 : 3", "100 training rows", "Without numeric", "25% of the ids"):
        assert words in text


@pytest.mark.parametrize(
    ("view", "message"),
    [
        (View(numeric_noise=-0.1), "numeric-noise is -0.1; it is a deviation"),
        (View(numeric_noise=float("nan")), "numeric-noise is nan"),
        (View(categorical_noise=1.5), "categorical-noise is 1.5; it is a chance"),
        (View(categorical_noise=float("nan")), "categorical-noise is nan"),
        (View(train_rows=-1), "train-rows is -1"),
        (
            View(inputs="categorical", numeric_noise=1.0),
            "numeric-noise 1.0: tiny shows no numeric features",
        ),
    ],
)
def test_a_view_of_what_is_not_there_is_refused(view, message):
    with pytest.raises(ValueError, match=message):
        views.apply(DATA, view)


def test_numeric_noise_on_a_log_of_ids_alone_is_refused():
    splits = {n: r._replace(numeric=r.numeric[:, :0]) for n, r in DATA.splits.items()}
    schema = dataclasses.replace(DATA.schema, numeric=())
    data = dataclasses.replace(DATA, schema=schema, splits=splits)
    with pytest.raises(ValueError, match="shows no numeric features"):
        views.apply(data, View(numeric_noise=1.0))
    assert views.apply(data, View(categorical_noise=0.5)).splits
