"""Layouts of lines change how a table is accessed, and nothing that comes of it."""

import functools
import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_close, assert_same_bits, make_schema

from jaxmtl.tables import embedding, row_optim
from jaxmtl.tables.layout import CPU, GPU, TPU, layout_of

NAMES = ("sgd", "adagrad", "rowwise_adagrad", "lazy_adam", "adam")
SCHEMA, SIZE, DIM = make_schema(), 60, 3


def make(name):
    return row_optim.make(name, b1=0.9, b2=0.999, eps=1e-8)


def make_table(name, layout):
    return embedding.init(
        jax.random.key(0), SCHEMA, DIM, 0.5, make(name), layout=layout
    )


@functools.cache
def step_of(name):
    optimiser = make(name)

    @jax.jit
    def step(table, ids, gradients):
        block = embedding.read(optimiser, table, ids, 0.1)
        return embedding.update(optimiser, table, ids, block, gradients, 0.1)

    return step


def train(name, layout, steps=4):
    rng, table = np.random.default_rng(0), make_table(name, layout)
    for _ in range(steps):
        ids = rng.integers(0, SIZE + 1, 24)  # some of them padding
        table = step_of(name)(table, ids, rng.normal(size=(24, DIM)))
    return embedding.settle(make(name), table, 0.1)


def contents(table):
    return table.cut(table.packed), table.updates


@pytest.mark.parametrize("layout", [GPU, TPU], ids=["gpu", "tpu"])
@pytest.mark.parametrize("name", NAMES)
def test_a_training_is_the_same_in_every_layout(name, layout):
    table, expected = train(name, layout), train(name, CPU)
    assert_close(contents(table), contents(expected), rtol=1e-5, atol=1e-7)
    assert_same_bits(table.rows, table.cut(table.packed).rows)
    used = DIM + sum(dict(table.widths).values())
    assert table.packed.shape == (SIZE, layout.width(used))
    assert not table.packed[:, used:].any()


def test_lines_are_padded_to_the_layout_s_multiple():
    """Rows of 32 with both moments and a count are 97 floats."""
    assert [layout.width(97) for layout in (CPU, GPU, TPU)] == [97, 104, 128]
    assert [layout.width(128) for layout in (CPU, GPU, TPU)] == [128, 128, 128]


@pytest.mark.parametrize(
    ("platform", "layout"),
    [("cpu", CPU), ("tpu", TPU), ("gpu", GPU), ("cuda", GPU), ("rocm", GPU)],
)
def test_a_mesh_s_devices_choose_the_layout(platform, layout):
    devices = np.array([SimpleNamespace(platform=platform)])
    assert layout_of(SimpleNamespace(devices=devices)) == layout
    assert layout_of(None) == CPU


def test_lanes_train_padded_lines_too():
    """Trainings of one program, each with its own table."""
    tables = [make_table("adam", TPU) for _ in range(2)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *tables)
    ids = jnp.array([[1, 5, 1], [7, SIZE, 2]])
    gradients = jnp.arange(18.0).reshape(2, 3, DIM)
    both = jax.vmap(step_of("adam"))(stacked, ids, gradients)
    for lane, table in enumerate(tables):
        alone = step_of("adam")(table, ids[lane], gradients[lane])
        found = jax.tree.map(lambda leaf, lane=lane: leaf[lane], both)
        assert_close(contents(found), contents(alone))


@pytest.mark.parametrize(("platform", "layout"), [("tpu", TPU), ("cuda", GPU)])
@pytest.mark.parametrize("name", NAMES)
def test_an_accelerator_s_step_reads_and_writes_whole_lines(name, platform, layout):
    """It keeps what it read apart from what it writes, and writes once, in order.

    That is what compilers of both need to update in place, without a loop over ids.
    """
    table = jax.eval_shape(lambda: make_table(name, layout))
    given = table, jnp.zeros(24, jnp.int32), jnp.zeros((24, DIM))
    text = step_of(name).trace(*given).lower(lowering_platforms=(platform,)).as_text()
    size, width = table.packed.shape
    lines, whole = f"tensor<24x{width}xf32>", f"tensor<{size}x{width}xf32>"
    reads = re.findall(rf'"stablehlo.gather".* : \({whole}.*', text)
    assert reads
    for read in reads:
        assert f"slice_sizes = array<i64: 1, {width}>" in read and read.endswith(lines)
    barriers = re.findall(rf"optimization_barrier %\d+ : {lines}", text)
    assert len(barriers) == len(reads)
    (written,) = re.findall(
        rf"\n[^\n]*stablehlo.scatter[^\n]*(?:\n[^\n]*){{2}}\n *\}}\) : \({whole}.*",
        text,
    )
    assert "indices_are_sorted = true" in written and "unique_indices = true" in written
    assert lines in written
    assert f"tensor<{size}x" not in text.replace(whole, "")
