"""CRNN: features crossed by a recurrent net that reads the same input at each step.

DCRNN (Zhou and Yu), section "Modeling Cross network by RNN" and equation 7:

    X_t = X_0 + A_t,    H_t = φ(X_t·W_t + H_{t-1}·U_t + b_t)

As X_0 is common to all steps, X_t·W = X_0·W + A_t·W: the product with the whole
batch is computed once for each distinct W, not once for each step, and the feature
adaptive function costs one product of a vector a step. That turns the L(D + H)
multiply-adds of a run's plain form into D + L·H, for each row and unit of a gate.

The steps are unrolled and each run has products of its own. One scan over all
tasks' runs stacked, fed by one product with all W side by side, is no faster on a
CPU (`experiments.benchmarks.crnn`), and it would compute every task where a step
trains, or a mask serves, only one: XLA can leave out a product, not a slice of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxmtl.keys import named
from jaxmtl.layers.mlp import FeatureLayer
from jaxmtl.types import Array, Features, Key, Params

State = tuple[Array, ...]
"""What a cell carries: H_t, [batch, hidden], first."""


class Cell(NamedTuple):
    """The function φ of equation 7, with the equations of torch's layer of its name.

    Attributes:
      gates: how many blocks of `hidden` columns its kernels have.
      states: how many arrays it carries from step to step.
      bias: hidden -> {part: {"bias": initial values}}.
      step: (parameters, X_t·W_t + b_t, H_{t-1}·U_t, state) -> state.
    """

    gates: int
    states: int
    bias: Callable[[int], dict[str, dict[str, Array]]]
    step: Callable[[Params, Array, Array, State], State]


def _lstm_bias(hidden: int) -> dict[str, dict[str, Array]]:
    # A forget gate that starts open lets gradients reach the first steps
    # (Jozefowicz et al., 2015, "An Empirical Exploration of Recurrent Network
    # Architectures").
    return {"input": {"bias": jnp.zeros((4, hidden)).at[1].set(1.0).reshape(-1)}}


def _lstm_step(cell: Params, entering: Array, carried: Array, state: State) -> State:
    """Hochreiter and Schmidhuber (1997) with a forget gate, as `torch.nn.LSTM`."""
    del cell  # it has no parameter besides kernels and the input's bias
    _, memory = state
    write, forget, value, read = jnp.split(entering + carried, 4, axis=-1)
    memory = jax.nn.sigmoid(forget) * memory + jax.nn.sigmoid(write) * jnp.tanh(value)
    return jax.nn.sigmoid(read) * jnp.tanh(memory), memory


def _gru_bias(hidden: int) -> dict[str, dict[str, Array]]:
    return {
        "input": {"bias": jnp.zeros(3 * hidden)},
        "recurrent": {"bias": jnp.zeros(hidden)},
    }


def _gru_step(cell: Params, entering: Array, carried: Array, state: State) -> State:
    """Cho et al. (2014), the reset gate after the product, as `torch.nn.GRU`.

    The candidate alone has a second bias, inside the reset gate's reach; a second
    one for the gates themselves, as cuDNN has, would only be added to the first.
    """
    (last,) = state
    reset_in, update_in, value_in = jnp.split(entering, 3, axis=-1)
    reset_last, update_last, value_last = jnp.split(carried, 3, axis=-1)
    reset = jax.nn.sigmoid(reset_in + reset_last)
    update = jax.nn.sigmoid(update_in + update_last)
    value = jnp.tanh(value_in + reset * (value_last + cell["recurrent"]["bias"]))
    return ((1 - update) * value + update * last,)


CELLS = {
    "lstm": Cell(4, 2, _lstm_bias, _lstm_step),
    "gru": Cell(3, 1, _gru_bias, _gru_step),
}
"""Blocks of an LSTM's kernels: input, forget, value, output; of a GRU's: reset,
update, value. Transposed they are torch's `weight_ih` and `weight_hh`."""


def init_cell(key: Key, kind: str, width: int, hidden: int) -> Params:
    """Initial parameters of a cell.

    Input kernels are LeCun normal, recurrent ones orthogonal within each gate,
    biases zero but for the LSTM's forget gate, which starts at one.

    Args:
      key: of this cell.
      kind: a name in `CELLS`.
      width: of X_0 (D).
      hidden: of H_t (H).

    Returns:
      {"input": {"kernel": [D, gates·H], "bias": [gates·H]}, "recurrent":
      {"kernel": [H, gates·H]}}; a GRU's recurrent part has a "bias" [H] as well.
    """
    gates, bias = CELLS[kind].gates, CELLS[kind].bias(hidden)
    draw = jax.nn.initializers.orthogonal()
    square = lambda key: draw(key, (hidden, hidden))
    blocks = jax.vmap(square)(jax.random.split(named(key, "recurrent"), gates))
    kernels = {
        "input": jax.nn.initializers.lecun_normal()(
            named(key, "input"), (width, gates * hidden)
        ),
        "recurrent": jnp.concatenate(list(blocks), axis=1),
    }
    return {name: {"kernel": w} | bias.get(name, {}) for name, w in kernels.items()}


def run(
    kind: str,
    cells: Sequence[Params],
    products: Sequence[Array],
    adaptation: Sequence[Array] | None,
) -> list[Array]:
    """A recurrent net over a sequence built from one input (eq. 7, Algorithm 2).

    Args:
      kind: a name in `CELLS`.
      cells: parameters of each step's cell, in the order of the steps; often the
        same ones.
      products: of each step X_0·W_t, [batch, gates·hidden], computed by the caller
        once for each distinct W.
      adaptation: of each step A_t, [width of X_0], or None for X_t = X_0.

    Returns:
      H_1 … H_L, each [batch, hidden].
    """
    gates, states, _, step = CELLS[kind]
    batch, hidden = products[0].shape[0], products[0].shape[1] // gates
    start = jnp.zeros((batch, hidden), products[0].dtype)
    state, outputs = (start,) * states, []
    shifts = _shifts(cells, adaptation)
    for t, (cell, product) in enumerate(zip(cells, products, strict=True)):
        # H_0 = 0: a product with it would be zeros, and cost as much as any other.
        last = state[0] @ cell["recurrent"]["kernel"] if t else jnp.zeros_like(product)
        state = step(cell, product + shifts[t], last, state)
        outputs.append(state[0])
    return outputs


def _shifts(
    cells: Sequence[Params], adaptation: Sequence[Array] | None
) -> Sequence[Array]:
    """Of each step A_t·W_t + b_t, [gates·hidden]; one product where cells are one."""
    biases = [cell["input"]["bias"] for cell in cells]
    if adaptation is None:
        return biases
    first = cells[0]["input"]["kernel"]
    if all(cell["input"]["kernel"] is first for cell in cells):
        moved = jnp.stack([*adaptation]) @ first
    else:
        each = zip(cells, adaptation, strict=True)
        moved = [a @ cell["input"]["kernel"] for cell, a in each]
    return [bias + part for bias, part in zip(biases, moved, strict=True)]


def crnn_layer(depth: int, hidden: int) -> FeatureLayer:
    """CRNN as a feature layer for any model, beside DCN and CIN (eq. 6 and 7).

    One GRU (the smaller cell; DCRNN's Table 1 decides for neither) of `depth`
    steps, whose weights all steps share, with the feature adaptive function. X_0 is
    the flattened embeddings with the numeric features behind.

    Args:
      depth: number of steps, at least 1; the degree of the crosses grows with it.
      hidden: width of H_t, at least 1.

    Returns:
      A layer to [X_0, H_depth], [batch, D + hidden]; its parameters stand under
      "crnn": a cell and "adaptation" [depth, D].

    Raises:
      ValueError: depth or hidden is below 1.
    """
    if depth < 1 or hidden < 1:
        raise ValueError(
            f"a crnn layer of depth {depth} and width {hidden} crosses nothing; both"
            " must be at least 1"
        )

    def init(key: Key, features: Features) -> dict[str, Params]:
        width = _flat(features).shape[1]
        cell = init_cell(named(key, "crnn"), "gru", width, hidden)
        return {"crnn": cell | {"adaptation": jnp.zeros((depth, width))}}

    def apply(shared: Params, features: Features) -> Array:
        cell, x = shared["crnn"], _flat(features)
        product = x @ cell["input"]["kernel"]
        steps = run("gru", [cell] * depth, [product] * depth, cell["adaptation"])
        return jnp.concatenate([x, steps[-1]], axis=1)

    return FeatureLayer(init, apply)


def _flat(features: Features) -> Array:
    vectors = features.shared.reshape(features.shared.shape[0], -1)
    return jnp.concatenate([vectors, features.numeric], axis=1)
