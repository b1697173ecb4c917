"""Sparse forms of a chain say what the dense ones do, and time alone decides."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from jaxmtl.serving import sparse
from jaxmtl.serving.compact import Chain, Layer


def make_chain(seed, widths=(6, 5, 4), density=0.3):
    rng = np.random.default_rng(seed)
    layers = []
    for before, after in zip(widths, [*widths[1:], 1], strict=True):
        kernel = rng.integers(-3, 4, (before, after))
        kernel = np.where(rng.random(kernel.shape) < density, kernel, 0)
        bias = rng.integers(-3, 4, after)
        layers.append(Layer(kernel.astype(np.float32), bias.astype(np.float32)))
    return Chain(np.arange(widths[0]) + 1, tuple(layers))


def forward(chain, vector):
    x = vector[:, chain.inputs].astype(np.float64)
    for kernel, bias in chain.layers[:-1]:
        x = np.maximum(x @ kernel + bias, 0)
    return (x @ chain.layers[-1].kernel + chain.layers[-1].bias)[:, 0]


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.tuples(*[st.sampled_from(sparse.FORMS)] * 3),
    st.sampled_from([0.0, 0.3, 1.0]),
)
def test_every_mixture_of_forms_is_exact_on_whole_numbers(seed, forms, density):
    chain = make_chain(seed, density=density)
    rng = np.random.default_rng(seed)
    vector = rng.integers(-3, 4, (5, 8)).astype(np.float32)
    got = sparse.make_host(chain, forms)(vector)
    np.testing.assert_array_equal(got, forward(chain, vector))


@pytest.mark.parametrize("faster", sparse.FORMS)
def test_the_faster_form_is_chosen(faster):
    """A clock by which one form's calls take 1 second and the other's 2."""
    now, calls = 0.0, 0

    def clock():
        nonlocal now, calls
        form = sparse.FORMS[calls // 2 % 2]
        now += (1 if form == faster else 2) * (calls % 2)
        calls += 1
        return now

    chain = make_chain(0)
    assert sparse.choose(chain, 4, repeats=2, clock=clock) == (faster,) * 3


def test_bytes_are_those_of_values_and_indices():
    kernel = np.array([[0, 2, 0], [1, 0, 0]], np.float32)
    chain = Chain(
        np.arange(2, dtype=np.int32), (Layer(kernel, np.zeros(3, np.float32)),)
    )
    biases_and_inputs = 3 * 4 + 2 * 4
    assert sparse.stored_bytes(chain, ["dense"]) == 6 * 4 + biases_and_inputs
    # Two values, a column for each, and where each of the three rows begins and ends.
    assert sparse.stored_bytes(chain, ["csr"]) == (2 + 2 + 4) * 4 + biases_and_inputs
