"""Trainings that `test_sharding` compares, to be run in processes of their own.

python mesh_training.py devices FOLDER   on 1, 2 and 8 devices of one process
python mesh_training.py host FOLDER PORT NUMBER   as one of two hosts of 2 devices
"""

import dataclasses
import re
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from conftest import make_rows, make_setup

from jaxmtl.balancing.methods.gradnorm import GradNorm
from jaxmtl.balancing.methods.pcgrad import PCGrad
from jaxmtl.data.batches import Plan
from jaxmtl.devices import distributed, sharding
from jaxmtl.models import Dcrnn
from jaxmtl.optim.optimisers.adam import Adam
from jaxmtl.sparsity import masks
from jaxmtl.tables import embedding, portable
from jaxmtl.training import checkpoint
from jaxmtl.training.fit import Progress
from jaxmtl.training.inference import predict_all
from jaxmtl.training.resume import Folder
from jaxmtl.training.train import epoch_program, make_epoch
from jaxmtl.training.train_state import (
    Snapshot,
    init_net,
    make_gates,
    make_init,
    snapshot_of,
)
from jaxmtl.types import Vocabulary

ROWS = make_rows(300, seed=0)
SEED = 0
SCHEMA = dataclasses.replace(
    make_setup().schema,
    vocabularies=(
        Vocabulary("users", 1021),
        Vocabulary("items", 31),
        Vocabulary("tags", 8),
    ),
)
TABLE_ROWS = 1060
"""Which 8 does not divide."""
ADAM = Adam(eps=1e-5)
"""Its steps do not blow the rounding noise of a gradient near 0 up to full length."""
LT4REC = make_setup(schema=SCHEMA, optimiser=ADAM)
"""LT4REC's s-weight: alternating tasks, each by its mask."""
DCRNN = make_setup(
    schema=SCHEMA,
    optimiser=ADAM,
    architecture=Dcrnn(length=2, interval=1, hidden=3, bidirectional=False, tower=(3,)),
    masked=False,
    summed=True,
    tables="adam",
)

BALANCED = {
    name: LT4REC.with_step(summed=True, balancer=balancer)
    for name, balancer in {"pcgrad": PCGrad(), "gradnorm": GradNorm()}.items()
}
"""Norms and inner products over all that tasks share; drawn orders; learned weights."""


def on_mesh(setup, devices):
    return setup.on(sharding.make_mesh(devices))


def world(setup, steps):
    """Plan, rows where the setup reads them, masks and gates."""
    net = jax.eval_shape(lambda: init_net(setup, jax.random.key(SEED)))
    task_masks, rng = dict.fromkeys(setup.tasks), np.random.default_rng(0)
    if setup.masked:
        draw = lambda mask: jnp.asarray(rng.random(mask.shape) < 0.6)
        task_masks = {t: jax.tree.map(draw, masks.full(net)) for t in setup.tasks}
    gates = make_gates(setup, net, task_masks)
    size = -(-ROWS.num_rows // steps)
    plan = Plan(ROWS, setup.learned, size, summed=setup.summed)
    assert plan.steps == steps
    rows = ROWS if setup.mesh else jax.tree.map(jnp.asarray, ROWS)
    return plan, rows, task_masks, gates


def whole(setup, tree):
    rows = embedding.vocabulary_rows(setup.schema)
    return portable.of(setup.mesh, tree, rows)


def arrays(setup, state, losses):
    """What two trainings must agree on, by name."""
    tree = {"state": whole(setup, state), "losses": losses}
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def start(setup):
    """The initial state of one device on those of the setup: compiled but once."""
    alone = setup.on(None)
    state = whole(alone, make_init(alone)(jax.random.key(SEED)))
    return portable.placed(setup.mesh, setup.table_layout, state)


def train(setup, steps, state=None, epochs=(1, 2), after=lambda state, losses: None):
    """Two epochs, or the second alone; `after` sees the state and losses of each."""
    plan, rows, task_masks, gates = world(setup, steps)
    state, epoch = state or start(setup), make_epoch(setup)
    for number in epochs:
        orders = plan.orders(0, number)
        state, losses = epoch(state, task_masks, gates, rows, orders)
        losses = jax.device_get(losses)
        after(state, losses)
    return state, losses


def predictions(setup, snapshot, task_masks):
    rows = world(setup, 50)[1]
    return predict_all(setup, snapshot, task_masks, rows, chunk=100)


def write(path, found):
    np.savez(path, **found)


def shapes(setup):
    """The shapes of all arrays in the compiled epoch of one device of the mesh."""
    plan, rows, task_masks, gates = world(setup, 10)
    program = epoch_program(setup.spec).lower(
        setup.numbers,
        start(setup),
        *sharding.copy_to_all(setup.mesh, (task_masks, gates)),
        None,
        sharding.split_epoch(setup.mesh, rows, plan.orders(0, 1)),
    )
    found = re.findall(r"\b[a-z]+\d*\[([\d,]+)\]", program.compile().as_text())
    return np.unique([int(size) for shape in found for size in shape.split(",")])


def train_on_devices(folder):
    trainings = (
        ("lt4rec", LT4REC, 32, 10, (1, 8)),
        ("lt4rec", LT4REC, 64, 50, (1, 2, 8)),
        ("dcrnn", DCRNN, 64, 50, (1, 2, 8)),
        *((name, setup, 64, 10, (1, 8)) for name, setup in BALANCED.items()),
    )
    for name, setup, bits, steps, counts in trainings:
        jax.config.update("jax_enable_x64", bits == 64)
        for devices in counts:
            there = on_mesh(setup, devices)
            found = arrays(there, *train(there, steps))
            write(folder / f"{name}-float{bits}-{devices}.npz", found)
    for devices in (1, 8):
        setup = on_mesh(LT4REC, devices)
        progress = Folder(folder / "progress", setup).restore()
        found = arrays(setup, *train(setup, 50, progress.state, epochs=(2,)))
        write(folder / f"resumed-{devices}.npz", found)
        snapshot, task_masks = checkpoint.restore(folder / "checkpoint", setup)
        write(folder / f"restored-{devices}.npz", whole(setup, snapshot).tables)
        found = predictions(setup, snapshot, task_masks)
        write(folder / f"predicted-{devices}.npz", found)
    write(folder / "shapes.npz", {"sizes": shapes(on_mesh(LT4REC, 8))})
    made = {devices: on_mesh(LT4REC, devices) for devices in (1, 8)}
    for devices, setup in made.items():
        state = make_init(setup)(jax.random.key(SEED))
        write(folder / f"start-{devices}.npz", arrays(setup, state, {}))
    try:  # of 8 devices, whose rows are in another order than that of ids
        tables = {stack: table.packed for stack, table in state.tables.items()}
        checkpoint.save(folder / "split", Snapshot(tables, {}), {})
    except ValueError as error:
        write(folder / "refused.npz", {"says": np.array(str(error))})


def train_as_host(folder, port, number):
    distributed.start(f"localhost:{port}", 2, number)
    jax.config.update("jax_enable_x64", True)
    setup = on_mesh(LT4REC, 0)
    assert setup.mesh.size == 4
    mine = folder if distributed.is_first() else folder / "other"
    keeper = Folder(mine / "progress", setup, every=0)

    def save(state, losses):
        if not keeper.aside:
            keeper.aside["saved"] = np.ones(())
            keeper.save(Progress(state, None, losses, ()))
            keeper.wait()

    state, losses = train(setup, 50, after=save)
    write(mine / "hosts.npz", arrays(setup, state, losses))
    snapshot, task_masks = snapshot_of(state), world(setup, 50)[2]
    kept = whole(setup, snapshot)
    checkpoint.save(mine / "checkpoint", kept, task_masks)


if __name__ == "__main__":
    what, where, *rest = sys.argv[1:]
    if what == "devices":
        train_on_devices(Path(where))
    else:
        train_as_host(Path(where), *map(int, rest))
