"""Schemas refuse what they cannot mean, and rows that break them."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from conftest import make_rows, make_schema

from jaxmtl.data.store.checks import check_rows
from jaxmtl.types import Schema, Task, Vocabulary

NAN = float("nan")


def test_task_counts_where_its_label_is_known_and_its_space_positive():
    labels = {
        "click": np.array([1, 0, NAN, 1, 1], np.float32),
        "watch": np.array([0.5, 0.5, 0.5, NAN, 0], np.float32),
    }
    watch = Task("watch", "continuous", space="click", metric="mse")
    expected = [True, False, False, False, True]
    np.testing.assert_array_equal(watch.inside(labels), expected)
    on_device = {name: jnp.asarray(column) for name, column in labels.items()}
    np.testing.assert_array_equal(watch.inside(on_device), expected)
    np.testing.assert_array_equal(
        Task("click").inside(labels), [True, True, False, True, True]
    )


def test_task_names_the_label_it_misses():
    with pytest.raises(ValueError, match=r"needs labels \['click'\]; given.*watch"):
        Task("watch", space="click").inside({"watch": np.ones(2)})


def test_amounts_are_no_probabilities():
    assert Task("click").is_probability
    assert Task("watch", "continuous", metric="mse").is_probability
    assert not Task("spend", "continuous", high=500, metric="mse").is_probability


def test_continuous_task_cannot_be_judged_by_auc():
    with pytest.raises(ValueError, match=r"watch.*AUC needs labels 0 and 1.*mse"):
        Task("watch", "continuous")


def test_schema_finds_tasks_and_columns_by_name():
    schema = make_schema()
    assert schema.slots == 6
    columns = [schema.column(field.name) for field in schema.fields]
    assert columns == [0, 1, 2, 5]
    assert schema.task("like") == Task("like", space="click")
    with pytest.raises(ValueError, match="no task 'lik'; it has.*'like'"):
        schema.task("lik")
    with pytest.raises(ValueError, match="no field 'tag'; it has.*'tags'"):
        schema.column("tag")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ctr": "clik"}, "'clik' plays a role but is no task"),
        ({"user": "users"}, "'users' groups rows but is no single-valued field"),
        ({"item": "tags"}, "'tags' groups rows but is no single-valued field"),
        (
            {"vocabularies": (Vocabulary("users", 21), Vocabulary("items", 31))},
            "field 'tags' indexes vocabulary 'tags'",
        ),
        (
            {"tasks": (Task("click"), Task("watch", space="clik"))},
            "task 'watch' lives in space 'clik'",
        ),
        (
            {"tasks": (Task("click", space="click"), Task("watch"))},
            "task 'click' lives in space 'click'",
        ),
        (
            {
                "tasks": (
                    Task("click"),
                    Task("watch", space="a"),
                    Task("a", space="watch"),
                )
            },
            "spaces of .* form a circle",
        ),
        (
            {"tasks": (Task("click"), Task("watch"), Task("click"))},
            "a name stands twice",
        ),
        ({"fields": make_schema().fields * 2}, "a name stands twice"),
    ],
)
def test_schema_refuses_what_it_cannot_mean(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(make_schema(), **change)


def test_schema_survives_json():
    schema = dataclasses.replace(make_schema(), segments=("b", "c"))
    assert Schema.from_json(schema.to_json()) == schema


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        make_schema().to_json().replace('"slots"', '"slotz"'),
        make_schema().to_json().replace('"ctr"', '"crt"'),
    ],
)
def test_text_that_is_no_schema_is_refused(text):
    with pytest.raises(ValueError):
        Schema.from_json(text)


def test_rows_that_fit_pass_with_missing_labels_and_empty_fields():
    rows = make_rows(20, seed=0)
    rows.labels["watch"][3] = NAN
    rows.ids[4, 2:5] = -1
    check_rows(make_schema(), rows, "train")


def without(columns, name):
    return {key: column for key, column in columns.items() if key != name}


def put(column, place, value):
    changed = column.copy()
    changed[place] = value
    return changed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda r: r._replace(
                labels=r.labels | {"click": put(r.labels["click"], 7, 0.5)}
            ),
            r"train, row 7: label click=0\.5 lies outside \{0, 1\}",
        ),
        (
            lambda r: r._replace(
                labels=r.labels | {"watch": put(r.labels["watch"], 2, 1.5)}
            ),
            r"train, row 2: label watch=1\.5 lies outside \[0, 1\]",
        ),
        (
            lambda r: r._replace(ids=put(r.ids, (5, 1), 31)),
            r"train, row 5: field 'item' holds id 31.*'items' of 31 rows.*0 … 30",
        ),
        (
            lambda r: r._replace(ids=put(r.ids, (6, 0), -1)),
            "train, row 6: field 'user' holds id -1",
        ),
        (
            lambda r: r._replace(ids=put(r.ids, (6, 3), -2)),
            r"train, row 6: field 'tags' holds id -2.*-1 … 7",
        ),
        (
            lambda r: r._replace(numeric=put(r.numeric, (9, 0), np.inf)),
            "train, row 9: numeric feature 'hour' is inf",
        ),
        (
            lambda r: r._replace(labels=r.labels | {"buy": r.labels["like"]}),
            r"train: labels are .* unknown: \['buy'\]",
        ),
        (
            lambda r: r._replace(labels=without(r.labels, "watch")),
            r"train: labels are .* missing: \['watch'\]",
        ),
        (
            lambda r: r._replace(extras=without(r.extras, "duration")),
            r"train: extras are .* missing: \['duration'\]",
        ),
        (
            lambda r: r._replace(groups=without(r.groups, "user")),
            r"train: groups are .* missing: \['user'\]",
        ),
        (
            lambda r: r._replace(ids=r.ids.astype(np.float32)),
            r"train: ids is float32 \(20, 6\), schema tiny asks for int32 \(20, 6\)",
        ),
        (
            lambda r: r._replace(numeric=r.numeric[:, :0]),
            r"train: numeric is float32 \(20, 0\), schema tiny asks for.*\(20, 1\)",
        ),
    ],
)
def test_rows_that_break_their_schema_are_refused(change, message):
    rows = change(make_rows(20, seed=0))
    with pytest.raises(ValueError, match=message):
        check_rows(make_schema(), rows, "train")


def test_every_field_has_its_own_bounds():
    """The last id of a vocabulary fits, the next one does not, in each field."""
    schema, rows = make_schema(), make_rows(20, seed=0)
    sizes = {v.name: v.size for v in schema.vocabularies}
    for field in schema.fields:
        place, size = (0, schema.column(field.name)), sizes[field.vocabulary]
        check_rows(schema, rows._replace(ids=put(rows.ids, place, size - 1)), "train")
        with pytest.raises(ValueError, match=f"field '{field.name}' holds id {size}"):
            check_rows(schema, rows._replace(ids=put(rows.ids, place, size)), "train")
