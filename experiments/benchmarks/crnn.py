"""CRNN's fast algebra against plain cells and torch, in one run on the same shapes.

    python -m experiments.benchmarks.crnn
    python -m experiments.benchmarks.crnn --dim 640 --hidden 128 --length 5

Every contender computes H_L of X_t = X_0 + A_t (DCRNN, eq. 7), and it is not timed
before it agrees with the plain cell. Forward is that; forward+backward adds the
gradient in X_0, in all A_t and in all weights. "Allowed" is what the multiply-adds
of a forward pass say: L(D + H) of the plain cell to D + L·H, for each row and unit
of a gate. torch takes part where it is installed.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import time
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import command
from experiments.benchmarks.plots import Plot
from experiments.benchmarks.results import Column, Table
from jaxmtl.layers.crnn import CELLS, init_cell, run
from jaxmtl.types import Array, Params

try:
    import torch
except ImportError:
    torch = None

OURS = "ours"
PLAIN = ("plain, scan", "plain, unrolled")
PAUSE = 0.03
"""Seconds; see `time_calls`."""
PASSES = ("forward", "forward+backward")


@dataclasses.dataclass(frozen=True)
class Options(command.Output):
    """What to time.

    Attributes:
      dim: width of X_0 (D).
      hidden: width of H_t (H).
      length: steps of a run (L).
      interval: between the windows of two tasks (I), for weights of a position.
      batch: rows.
      cells: which cells.
      repeats: timed calls of each contender, in turns; the median counts,
        compilation does not.
    """

    dim: int = 640
    hidden: int = 128
    length: int = 5
    interval: int = 2
    batch: int = 1024
    cells: tuple[str, ...] = tuple(CELLS)
    repeats: int = 20


QUICK = Options(cells=("gru",), repeats=3)
COLUMNS = (
    Column("contender", "contender"),
    *(
        column
        for name in PASSES
        for column in (
            Column(name, f"{name}, ms", ".1f", 1e3),
            Column(f"{name}_to_ours", "× ours", ".2f"),
        )
    ),
)


def fast(kind: str, cells: Sequence[Params], x: Array, shifts: Array) -> list[Array]:
    """Ours, as DCRNN calls it with `task_rnn`: a cell for each task."""
    length, outputs = len(shifts), []
    for cell in cells:
        product = x @ cell["input"]["kernel"]
        outputs.append(run(kind, [cell] * length, [product] * length, shifts)[-1])
    return outputs


def _start(kind: str, cell: Params, *batch: int) -> tuple[Array, ...]:
    hidden = cell["recurrent"]["kernel"].shape[-2]
    return (jnp.zeros((*batch, hidden)),) * CELLS[kind].states


def plain(
    kind: str, cells: Sequence[Params], x: Array, shifts: Array, *, unroll: bool
) -> list[Array]:
    """The cell as its equations stand: every X_t is projected at its step."""

    (cell,) = cells

    def step(state, shift):
        entering = (x + shift) @ cell["input"]["kernel"] + cell["input"]["bias"]
        carried = state[0] @ cell["recurrent"]["kernel"]
        return CELLS[kind].step(cell, entering, carried, state), None

    return [jax.lax.scan(step, _start(kind, cell, len(x)), shifts, unroll=unroll)[0][0]]


def batched(kind: str, cells: Sequence[Params], x: Array, shifts: Array) -> list[Array]:
    """The usual remedy: all X_t in one product, [L·batch, D]."""
    (cell,) = cells

    def step(state, entering):
        carried = state[0] @ cell["recurrent"]["kernel"]
        return CELLS[kind].step(cell, entering, carried, state), None

    kernel, bias = cell["input"]["kernel"], cell["input"]["bias"]
    entering = (x + shifts[:, None]) @ kernel + bias
    return [jax.lax.scan(step, _start(kind, cell, len(x)), entering)[0][0]]


def stacked(kind: str, cells: Sequence[Params], x: Array, shifts: Array) -> list[Array]:
    """Our algebra as one product and one scan, unrolled, over all tasks stacked."""
    cell = jax.tree.map(lambda *parts: jnp.stack(parts), *cells)
    wide = jnp.concatenate([c["input"]["kernel"] for c in cells], axis=1)
    entering = jnp.stack(jnp.split(x @ wide, len(cells), axis=1))
    bias = cell["input"]["bias"]
    offsets = jnp.einsum("ld,tdg->ltg", shifts, cell["input"]["kernel"]) + bias

    def step(state, offset):
        carried = state[0] @ cell["recurrent"]["kernel"]
        advance = jax.vmap(CELLS[kind].step)
        return advance(cell, entering + offset[:, None], carried, state), None

    start = _start(kind, cell, len(cells), len(x))
    return list(jax.lax.scan(step, start, offsets, unroll=True)[0][0])


def windowed(
    kind: str,
    cells: Sequence[Params],
    x: Array,
    shifts: Array,
    *,
    interval: int,
    wide: bool,
) -> list[Array]:
    """Two windows over positions that have a cell each, as `per_step_weights`.

    `wide` computes X_0 times all W_t side by side in one product.
    """
    kernels, length = [c["input"]["kernel"] for c in cells], len(cells) - interval
    if wide:
        products = jnp.split(x @ jnp.concatenate(kernels, 1), len(cells), axis=1)
    else:
        products = [x @ kernel for kernel in kernels]
    spans = [slice(start, start + length) for start in (0, interval)]
    return [run(kind, cells[s], products[s], shifts[s])[-1] for s in spans]


Form = Callable[..., list[Array]]
Call = Callable[[], object]


def jax_contenders(
    kind: str, forms: dict[str, Form], arguments: tuple
) -> dict[str, dict[str, Call]]:
    """Form -> pass -> a compiled call of it, which ends when its results are there."""

    def call(function: Callable) -> Call:
        compiled = jax.jit(function)
        return lambda: jax.block_until_ready(compiled(*arguments))

    def calls(form: Form) -> dict[str, Call]:
        forward = functools.partial(form, kind)
        loss = lambda *args: sum(jnp.sum(output**2) for output in forward(*args))
        backward = jax.value_and_grad(loss, argnums=(0, 1, 2))
        return dict(zip(PASSES, (call(forward), call(backward)), strict=True))

    return {name: calls(form) for name, form in forms.items()}


def torch_calls(kind: str, cell: Params, x: Array, shifts: Array) -> dict[str, Call]:
    """Pass -> torch's own layer on the same sequence and weights."""
    tensor = lambda array: torch.tensor(np.asarray(array))
    dim, hidden = x.shape[1], cell["recurrent"]["kernel"].shape[0]
    layer = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[kind](dim, hidden)
    with torch.no_grad():
        layer.weight_ih_l0.copy_(tensor(cell["input"]["kernel"].T))
        layer.weight_hh_l0.copy_(tensor(cell["recurrent"]["kernel"].T))
        layer.bias_ih_l0.copy_(tensor(cell["input"]["bias"]))
        layer.bias_hh_l0.zero_()
        if kind == "gru":
            layer.bias_hh_l0[2 * hidden :] = tensor(cell["recurrent"]["bias"])
    inputs = [tensor(x).requires_grad_(), tensor(shifts).requires_grad_()]

    def last():
        return layer(inputs[0] + inputs[1][:, None])[0][-1]

    def forward():
        with torch.no_grad():
            return [last().numpy()]

    def both():
        (last() ** 2).sum().backward()
        for leaf in (*inputs, *layer.parameters()):
            leaf.grad = None

    return {"forward": forward, "forward+backward": both}


def time_calls(
    contenders: dict[str, dict[str, Call]], repeats: int
) -> dict[str, dict[str, np.ndarray]]:
    """Pass -> contender -> seconds of each timed call.

    The calls take turns, so that a machine whose speed drifts is fair to all. A
    pause and an untimed call go before each: torch's threads spin for a while after
    their work is done, and would slow down whoever comes next.

    Raises:
      ValueError: a contender's outputs are not those of the first.
    """
    expected = next(iter(contenders.values()))["forward"]()
    for name, calls in contenders.items():
        for got, wanted in zip(calls["forward"](), expected, strict=True):
            if not np.allclose(got, wanted, atol=1e-4):
                raise ValueError(f"{name} computes another net than {OURS}")
    times = {name: {c: np.empty(repeats) for c in contenders} for name in PASSES}
    for name, repeat in itertools.product(PASSES, range(repeats)):
        for contender, calls in contenders.items():
            time.sleep(PAUSE)
            calls[name]()
            started = time.perf_counter()
            calls[name]()
            times[name][contender][repeat] = time.perf_counter() - started
    return times


def compared(times: dict[str, dict[str, np.ndarray]]) -> list[dict]:
    """A record for each contender: its medians and how often they are ours."""
    medians = {
        name: {contender: float(np.median(t)) for contender, t in part.items()}
        for name, part in times.items()
    }
    return [
        {"contender": contender}
        | {name: part[contender] for name, part in medians.items()}
        | {f"{n}_to_ours": part[contender] / part[OURS] for n, part in medians.items()}
        for contender in next(iter(medians.values()))
    ]


def one_task(options: Options, kind: str) -> Table:
    """Ours against the plain cell in its forms and against torch."""
    (cell,), x, shifts = draw(options, kind, 1, options.length)
    forms = {
        OURS: fast,
        PLAIN[0]: functools.partial(plain, unroll=False),
        PLAIN[1]: functools.partial(plain, unroll=True),
        "plain, one product of L·batch": batched,
    }
    contenders = jax_contenders(kind, forms, ([cell], x, shifts))
    if torch is not None:
        contenders[f"torch {torch.__version__}"] = torch_calls(kind, cell, x, shifts)
    times = time_calls(contenders, options.repeats)
    notes = [] if torch else ["torch is not installed: pip install torch"]
    dim, hidden, length = options.dim, options.hidden, options.length
    allowed = length * (dim + hidden) / (dim + length * hidden)
    for name, statistic in itertools.product(PASSES, (np.median, np.min)):
        part = {form: statistic(values) for form, values in times[name].items()}
        ratio = min(part[form] for form in PLAIN) / part[OURS]
        notes.append(
            f"{name}, by the {statistic.__name__}: {ratio:.2f}x the faster plain cell,"
            f" {ratio / allowed:.0%} of the {allowed:.2f}x allowed"
        )
    return _table(f"{kind.upper()}, one task", options, times, notes)


def two_tasks(options: Options, kind: str) -> Iterator[Table]:
    """Ours against the forms of the same algebra that are one product or one scan."""
    forms = {OURS: fast, "one product, one scan": stacked}
    arguments = draw(options, kind, 2, options.length)
    times = time_calls(jax_contenders(kind, forms, arguments), options.repeats)
    yield _table(f"{kind.upper()}, two tasks, a cell each", options, times)
    positions = options.length + options.interval
    form = functools.partial(windowed, interval=options.interval)
    forms = {
        OURS: functools.partial(form, wide=False),
        "one product": functools.partial(form, wide=True),
    }
    arguments = draw(options, kind, positions, positions)
    times = time_calls(jax_contenders(kind, forms, arguments), options.repeats)
    title = f"{kind.upper()}, two tasks over {positions} positions, a cell each"
    yield _table(title, options, times)


def _table(title: str, options: Options, times: dict, notes: Sequence = ()) -> Table:
    return Table(
        title,
        COLUMNS,
        compared(times),
        lead=f"D {options.dim}, H {options.hidden}, L {options.length}, batch"
        f" {options.batch:,}; median of {options.repeats}.",
        notes=notes,
        plot=Plot(PASSES[1], f"seconds, {PASSES[1]}", "contender"),
    )


def draw(
    options: Options, kind: str, cells: int, steps: int
) -> tuple[list[Params], Array, Array]:
    """Cells, X_0 and one A_t for each step."""
    keys = jax.random.split(jax.random.key(0), cells)
    rng = np.random.default_rng(0)
    normal = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    return (
        [init_cell(key, kind, options.dim, options.hidden) for key in keys],
        normal(options.batch, options.dim),
        0.1 * normal(steps, options.dim),
    )


def measure(options: Options) -> Iterator[Table]:
    """Yields three tables for each cell."""
    for kind in options.cells:
        yield one_task(options, kind)
        yield from two_tasks(options, kind)


if __name__ == "__main__":
    command.main("crnn", measure, Options)
