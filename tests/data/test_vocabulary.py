"""Raw columns as ids: counted on training rows alone."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxmtl.data.reading.vocabulary import encode, look_up
from jaxmtl.types import PADDING, UNKNOWN, Field, Vocabulary

FIELDS = (
    Field("seen", "video"),
    Field("history", "video", slots=2),
    Field("age", "age"),
)


def test_a_case_checked_by_hand():
    columns = {
        "seen": np.array(["b", "a", "z"]),
        "history": np.array([["a", ""], ["c", "b"], ["c", "y"]]),
        "age": np.array([30, 20, 30]),
    }
    vocabularies, ids = encode(FIELDS, columns, np.array([True, True, False]))
    assert vocabularies == (Vocabulary("video", 4), Vocabulary("age", 3))
    # a, b, c are 1, 2, 3 in both fields of the shared vocabulary
    expected = [[2, 1, PADDING, 2], [1, 3, 2, 1], [UNKNOWN, 3, UNKNOWN, 2]]
    np.testing.assert_array_equal(ids, expected)
    assert ids.dtype == np.int32


def test_rare_values_are_unknown_in_training_too():
    columns = {"age": np.array([7, 7, 8, 7])}
    fields = (Field("age", "age"),)
    vocabularies, ids = encode(fields, columns, np.ones(4, bool), min_count=2)
    assert vocabularies == (Vocabulary("age", 2),)
    np.testing.assert_array_equal(ids[:, 0], [1, 1, UNKNOWN, 1])


def test_without_any_frequent_value_all_are_unknown():
    columns = {"age": np.array([7, 8])}
    _, ids = encode((Field("age", "age"),), columns, np.ones(2, bool), min_count=2)
    np.testing.assert_array_equal(ids[:, 0], [UNKNOWN, UNKNOWN])


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.booleans(), *[st.sampled_from("abcde")] * 2, st.integers(-1, 5)),
        min_size=1,
        max_size=30,
    ),
    st.integers(1, 3),
)
def test_agrees_with_a_dictionary(table, min_count):
    is_train, first, second, third = (np.array(c) for c in zip(*table, strict=True))
    fields = (Field("x", "letter"), Field("y", "letter"), Field("z", "digit", 1))
    columns = {"x": first, "y": second, "z": third}
    vocabularies, ids = encode(fields, columns, is_train, min_count=min_count)

    def oracle(names):
        counter = Counter(
            value
            for name in names
            for value, train in zip(columns[name], is_train, strict=True)
            if train and value != PADDING
        )
        known = sorted(value for value, n in counter.items() if n >= min_count)
        return {value: 1 + at for at, value in enumerate(known)}

    for vocabulary, names in zip(vocabularies, (("x", "y"), ("z",)), strict=True):
        known = oracle(names)
        assert vocabulary.size == 1 + len(known)
        for name in names:
            expected = [
                PADDING if value == PADDING else known.get(value, UNKNOWN)
                for value in columns[name]
            ]
            np.testing.assert_array_equal(ids[:, "xyz".index(name)], expected)


def test_later_rows_and_the_order_of_rows_change_no_id():
    rng = np.random.default_rng(0)
    fields = (Field("age", "age"),)
    ages, is_train = rng.integers(0, 50, 200), np.arange(200) < 150
    vocabularies, ids = encode(fields, {"age": ages}, is_train)
    other = np.where(is_train, ages, rng.integers(0, 99, 200))
    assert encode(fields, {"age": other}, is_train)[0] == vocabularies
    order = rng.permutation(200)
    _, shuffled = encode(fields, {"age": ages[order]}, is_train[order])
    np.testing.assert_array_equal(shuffled, ids[order])


def test_a_column_with_too_many_slots_is_refused_by_name():
    with pytest.raises(ValueError, match=r"'age' has shape \(2, 3\); expected 1"):
        encode((Field("age", "age"),), {"age": np.ones((2, 3), int)}, np.ones(2, bool))


def test_look_up_by_hand():
    values = np.array([[7, PADDING], [3, 9], [8, 100]])
    ids = look_up(values, np.array([3, 7, 9]))
    np.testing.assert_array_equal(ids, [[2, PADDING], [1, 3], [UNKNOWN, UNKNOWN]])
    assert ids.dtype == np.int32


@settings(max_examples=20, deadline=None)
@given(
    values=st.lists(st.integers(-1, 30), min_size=1, max_size=20),
    known=st.sets(st.integers(0, 30)),
)
def test_look_up_agrees_with_a_dictionary(values, known):
    table = {v: i for i, v in enumerate(sorted(known), start=1)} | {PADDING: PADDING}
    expected = [table.get(v, UNKNOWN) for v in values]
    got = look_up(np.array(values), np.array(sorted(known), int))
    np.testing.assert_array_equal(got, expected)
