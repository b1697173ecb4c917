"""Tables split over 8 devices, 2 of them or 1: what `test_routing` compares.

python mesh_tables.py FOLDER
"""

import itertools
import sys
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from jaxmtl.devices import sharding
from jaxmtl.tables import embedding, portable, row_optim, table_shards
from jaxmtl.tables.layout import CPU, GPU, TPU

SIZE, DIM, IDS = 1061, 3, 512
"""Rows, which no number of devices divides; ids of a batch on all devices together."""
OPTIMISERS = ("sgd", "adagrad", "rowwise_adagrad", "lazy_adam", "adam")
DEVICES = (1, 2, 8)
OWNED = np.arange(3, SIZE, 8)
"""All of one owner, with 2 devices too."""


class Tree(NamedTuple):
    tables: dict


def draws():
    """Name -> int32 [IDS]."""
    rng = np.random.default_rng(0)
    few = rng.random(IDS) < 0.1
    return {
        "uniform": rng.integers(0, SIZE, IDS),
        "equal": np.full(IDS, 17),
        "one owner": rng.choice(OWNED, IDS),
        "one owner, sorted": np.sort(rng.choice(OWNED, IDS)),
        "zipf": np.minimum(rng.zipf(1.2, IDS), SIZE) - 1,
        "few": np.where(few, rng.integers(0, SIZE, IDS), embedding.NOWHERE),
        "empty": np.full(IDS, embedding.NOWHERE),
    }


def make_tables(optimiser):
    """A table as it is saved, with slots as of some training."""
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(SIZE, DIM)).astype(np.float32)
    start = portable.of(
        None, Tree({"a": embedding.make_table(optimiser, jnp.asarray(rows))}), SIZE
    )
    table = start.tables["a"]
    slots = {
        name: rng.uniform(1, 2, slot.shape).astype(np.float32)
        for name, slot in table.slots.items()
    }
    return Tree({"a": table._replace(slots=slots, updates=np.int32(7))})


def split(mesh, x):
    return sharding.put(NamedSharding(mesh, sharding.SPLIT), x) if mesh else x


def train(name, devices):
    """Of each draw: rows looked up in two steps, and the table after them."""
    optimiser = row_optim.make(name, b1=0.9, b2=0.999, eps=1e-8)
    mesh, start = sharding.make_mesh(devices), make_tables(optimiser)
    gradients = np.random.default_rng(2).normal(size=(2, IDS, DIM)).astype(np.float32)
    rate = 0.1

    @jax.jit
    def step(table, ids, gradients):
        block = table_shards.read(mesh, optimiser, table, ids, rate)
        given = mesh, optimiser, table, ids, block, gradients, rate
        return block.rows, table_shards.update(*given)

    settle = jax.jit(lambda table: table_shards.settle(mesh, optimiser, table, rate))
    found = {}
    for draw, ids in draws().items():
        # Owners that sort what they are sent, too.
        layout = TPU if devices == 2 else CPU
        table = portable.placed(mesh, layout, start).tables["a"]
        for number in range(2):
            given = np.roll(ids, number).astype(np.int32), gradients[number]
            rows, table = step(table, *(split(mesh, x) for x in given))
            found[f"{draw}/rows{number}"] = rows
        table = portable.of(mesh, Tree({"a": settle(table)}), SIZE).tables["a"]
        after = table.slots | {"rows": table.rows, "updates": table.updates}
        found |= {f"{draw}/{part}": x for part, x in after.items()}
    return jax.device_get(found)


def rounds(devices):
    mesh = sharding.make_mesh(devices)
    return {
        draw: np.array(
            table_shards.rounds(mesh, split(mesh, ids.astype(np.int32)), SIZE)
        )
        for draw, ids in draws().items()
    }


def round_trips():
    """What comes back of a table saved by some devices in a layout, of all pairs."""
    optimiser = row_optim.lazy_adam()
    saved = make_tables(optimiser)
    saved = saved._replace(tables=saved.tables | {"rows": saved.tables["a"].rows})
    ways = list(itertools.product((1, 4, 8), (CPU, GPU, TPU)))
    for (devices, layout), (others, other) in zip(
        ways, ways[4:] + ways[:4], strict=True
    ):
        for there, how in ((devices, layout), (others, other)):
            mesh = sharding.make_mesh(there)
            tables = portable.placed(mesh, how, saved)
            assert tables.tables["a"].packed.shape[1] == how.width(3 * DIM + 1)
            back = portable.of(mesh, tables, SIZE)
            jax.tree.map(np.testing.assert_array_equal, back, saved)
            saved = back


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    round_trips()
    for name, devices in itertools.product(OPTIMISERS, DEVICES):
        if devices != 2 or name == "lazy_adam":
            np.savez(folder / f"{name}-{devices}.npz", **train(name, devices))
    for devices in DEVICES[1:]:
        np.savez(folder / f"rounds-{devices}.npz", **rounds(devices))
