"""Cells and runs of CRNN against equations written in plain NumPy, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_close, assert_same_bits
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxmtl.layers.crnn import CELLS, crnn_layer, init_cell, run
from jaxmtl.types import Features

KINDS = tuple(CELLS)
BATCH, WIDTH, HIDDEN = 5, 4, 3


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm_oracle(cell, x, state):
    """torch.nn.LSTM's equations, gates i, f, g, o."""
    h, c = state if state else (0.0, 0.0)
    recurrent = h @ cell["recurrent"]["kernel"] if state else 0.0
    gates = x @ cell["input"]["kernel"] + cell["input"]["bias"] + recurrent
    i, f, g, o = np.split(gates, 4, axis=1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def gru_oracle(cell, x, state):
    """torch.nn.GRU's equations, gates r, z, n; b_hr and b_hz are zero."""
    width = cell["recurrent"]["kernel"].shape[0]
    h = state[0] if state else np.zeros((len(x), width))
    entering = x @ cell["input"]["kernel"] + cell["input"]["bias"]
    x_r, x_z, x_n = np.split(entering, 3, axis=1)
    h_r, h_z, h_n = np.split(h @ cell["recurrent"]["kernel"], 3, axis=1)
    r, z = sigmoid(x_r + h_r), sigmoid(x_z + h_z)
    n = np.tanh(x_n + r * (h_n + cell["recurrent"]["bias"]))
    return ((1 - z) * n + z * h,)


def run_oracle(kind, cells, sequence):
    """H_1 … H_L over inputs that are really there, projected at each step."""
    step = {"lstm": lstm_oracle, "gru": gru_oracle}[kind]
    state, outputs = None, []
    for cell, x in zip(cells, sequence, strict=True):
        cell = jax.tree.map(lambda w: np.asarray(w, np.float64), cell)
        state = step(cell, np.asarray(x, np.float64), state)
        outputs.append(state[0])
    return outputs


def draw_cell(kind, seed, width=WIDTH, hidden=HIDDEN):
    """A cell none of whose parameters is zero."""
    rng = np.random.default_rng(seed)
    cell = init_cell(jax.random.key(seed), kind, width, hidden)
    return jax.tree.map(lambda w: w + rng.normal(0, 0.3, w.shape).astype("f4"), cell)


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def fast(kind, cells, x, adaptation):
    products = [x @ cell["input"]["kernel"] for cell in cells]
    return run(kind, cells, products, adaptation)


def constant_cell(kind, kernel, recurrent, bias):
    """A cell of width 1 on inputs of width 1."""
    cell = init_cell(jax.random.key(0), kind, 1, 1)
    row = lambda *values: jnp.asarray([values], jnp.float32)
    cell["input"] = {"kernel": row(*kernel), "bias": row(*bias)[0]}
    cell["recurrent"] |= {"kernel": row(*recurrent)}
    return cell


def test_lstm_by_hand():
    # Gates at σ(0) = 1/2 but for the value, tanh(atanh(x)) = x.
    cell = constant_cell("lstm", (0, 0, 1, 0), (0, 0, 0, 0), (0, 0, 0, 0))
    x = jnp.arctanh(jnp.asarray([[0.5]]))
    first, second = fast("lstm", [cell] * 2, x, None)
    np.testing.assert_allclose(first, [[0.5 * np.tanh(0.25)]], rtol=1e-6)
    np.testing.assert_allclose(second, [[0.5 * np.tanh(0.375)]], rtol=1e-6)


def test_gru_by_hand():
    cell = constant_cell("gru", (0, 0, 1), (0, 0, 2), (0, 0, 0))
    first, second = fast("gru", [cell] * 2, jnp.asarray([[1.0]]), None)
    one = 0.5 * np.tanh(1.0)
    np.testing.assert_allclose(first, [[one]], rtol=1e-6)
    # The reset gate, 1/2, acts after the recurrent product, 2·H_1.
    np.testing.assert_allclose(
        second, [[0.5 * np.tanh(1 + one) + 0.5 * one]], rtol=1e-6
    )


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=8, deadline=None)
@given(
    length=st.integers(1, 4),
    shared=st.booleans(),
    adapted=st.booleans(),
    seed=st.integers(0, 99),
)
def test_run_equals_a_plain_one_over_inputs_that_are_really_there(
    kind, length, shared, adapted, seed
):
    cells = [draw_cell(kind, seed if shared else seed + t) for t in range(length)]
    x, shifts = draw(BATCH, WIDTH, seed=seed), draw(length, WIDTH, seed=seed + 1)
    outputs = fast(kind, cells, x, shifts if adapted else None)
    sequence = [x + shifts[t] * adapted for t in range(length)]
    assert_close(outputs, run_oracle(kind, cells, sequence), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_compiled_run_and_its_gradient_equal_the_eager_and_the_plain_one(kind):
    cells = [draw_cell(kind, seed) for seed in range(3)]
    x, shifts = draw(BATCH, WIDTH), draw(3, WIDTH, seed=1)

    def plain(cells, x, shifts):
        """The same cells, each fed X_t as a whole."""
        step, state = (
            CELLS[kind].step,
            (jnp.zeros((BATCH, HIDDEN)),) * CELLS[kind].states,
        )
        for cell, shift in zip(cells, shifts, strict=True):
            entering = (x + shift) @ cell["input"]["kernel"] + cell["input"]["bias"]
            state = step(cell, entering, state[0] @ cell["recurrent"]["kernel"], state)
        return jnp.sum(state[0] ** 2)

    total = lambda *args: jnp.sum(fast(kind, *args)[-1] ** 2)
    compiled = jax.jit(jax.value_and_grad(total, argnums=(0, 1, 2)))
    got = compiled(cells, x, shifts)
    expected = jax.value_and_grad(plain, argnums=(0, 1, 2))(cells, x, shifts)
    assert_close(got, expected, rtol=1e-4, atol=1e-5)
    assert_close(total(cells, x, shifts), got[0])


@pytest.mark.parametrize("kind", KINDS)
def test_adaptation_of_zero_equals_none_to_the_bit(kind):
    cell, x = draw_cell(kind, 0), draw(BATCH, WIDTH)
    zeros = jnp.zeros((3, WIDTH))
    assert_same_bits(fast(kind, [cell] * 3, x, zeros), fast(kind, [cell] * 3, x, None))


@pytest.mark.parametrize(("kind", "gates"), [("lstm", 4), ("gru", 3)])
def test_cells_start_as_documented(kind, gates):
    width, hidden = 60, 20
    cell = init_cell(jax.random.key(0), kind, width, hidden)
    assert all(w.dtype == jnp.float32 for w in jax.tree.leaves(cell))
    kernel, bias = cell["input"]["kernel"], cell["input"]["bias"]
    assert kernel.shape == (width, gates * hidden)
    assert np.std(kernel) == pytest.approx(width**-0.5, rel=0.05)
    for block in np.split(np.asarray(cell["recurrent"]["kernel"]), gates, axis=1):
        np.testing.assert_allclose(block.T @ block, np.eye(hidden), atol=1e-5)
    opens = np.zeros((gates, hidden), "f4")
    opens[1] = kind == "lstm"
    np.testing.assert_array_equal(bias, opens.reshape(-1))
    if kind == "gru":
        np.testing.assert_array_equal(cell["recurrent"]["bias"], np.zeros(hidden))


def draw_features():
    return Features(draw(BATCH, 2, 3), {}, draw(BATCH, 2, seed=1))


def test_crnn_layer_is_x0_with_a_gru_over_it():
    features, layer = draw_features(), crnn_layer(depth=3, hidden=HIDDEN)
    shared = layer.init(jax.random.key(0), features)
    assert list(shared) == ["crnn"]
    assert not shared["crnn"]["adaptation"].any()
    shared["crnn"] = draw_cell("gru", 0, width=8) | {"adaptation": draw(3, 8, seed=2)}
    got = layer.apply(shared, features)
    x = np.concatenate([features.shared.reshape(BATCH, -1), features.numeric], axis=1)
    cell = {part: shared["crnn"][part] for part in ("input", "recurrent")}
    sequence = [x + shift for shift in np.asarray(shared["crnn"]["adaptation"])]
    last = run_oracle("gru", [cell] * 3, sequence)[-1]
    assert_close(got, np.concatenate([x, last], axis=1), rtol=1e-4, atol=1e-5)
    assert_close(jax.jit(layer.apply)(shared, features), got)


@pytest.mark.parametrize(("depth", "hidden"), [(0, 4), (3, 0)])
def test_crnn_layer_that_crosses_nothing_is_refused(depth, hidden):
    with pytest.raises(ValueError, match=f"depth {depth} and width {hidden} crosses"):
        crnn_layer(depth, hidden)
