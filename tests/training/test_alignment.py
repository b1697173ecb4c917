"""The cosine of two tasks' gradients, against finite differences in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import make_rows, make_setup
from oracles import mlp

from jaxmtl import models
from jaxmtl.layers.crossing import Crossing
from jaxmtl.models.shared_trunk import SharedTrunk
from jaxmtl.sparsity import masks, sharing
from jaxmtl.training.alignment import make_alignment
from jaxmtl.training.train_state import make_init, snapshot_of

PAIR = ("click", "watch")
SIZE = 24
SETUP = make_setup(crossing=Crossing("none"), dim=3, architecture=SharedTrunk((5, 4)))


@pytest.fixture(scope="module")
def snapshot():
    """The start, with biases: at 0, where a neuron without inputs lies, ReLU bends."""
    start = snapshot_of(make_init(SETUP)(jax.random.key(0)))
    random = np.random.default_rng(6)
    draw = lambda leaf: jnp.asarray(
        random.normal(scale=0.3, size=leaf.shape), leaf.dtype
    )
    net = jax.tree.map(lambda leaf: draw(leaf) if leaf.ndim == 1 else leaf, start.net)
    return start._replace(net=net)


@pytest.fixture(scope="module")
def task_masks(snapshot):
    random = np.random.default_rng(5)
    full = masks.full(snapshot.net)
    draw = lambda leaf: jnp.asarray(random.random(leaf.shape) < 0.6)
    return {task: jax.tree.map(draw, full) for task in PAIR}


@pytest.fixture(scope="module")
def measured(snapshot, task_masks):
    """Two batches, the last slots of the second empty: region -> cosines."""
    index = np.arange(2 * SIZE, dtype=np.int32).reshape(2, SIZE)
    index[1, -5:] = -1
    rows = jax.tree.map(jnp.asarray, make_rows(2 * SIZE, seed=9))
    regions = sharing.regions(task_masks)
    found = make_alignment(SETUP, PAIR)(snapshot, task_masks, regions, rows, index)
    return jax.tree.map(np.asarray, found)


def loss(task, table, layers, head, rows):
    """The task's mean loss over the rows, in float64."""
    ids, fields = rows.ids, []
    for at, slots, first in ((0, 1, 0), (1, 1, 21), (2, 3, 52), (5, 1, 21)):
        part = ids[:, at : at + slots]
        filled = part >= 0
        vectors = np.where(filled[..., None], table[np.maximum(part, 0) + first], 0)
        counted = np.maximum(filled.sum(axis=1), 1)
        fields.append(vectors.sum(axis=1) / counted[:, None])
    x = np.concatenate([*fields, np.asarray(rows.numeric, np.float64)], axis=1)
    logit = (mlp(x, layers) @ head["kernel"] + head["bias"])[:, 0]
    p = 1 / (1 + np.exp(-logit))
    label = np.asarray(rows.labels[task], np.float64)
    if task == "click":
        return -np.mean(label * np.log(p) + (1 - label) * np.log(1 - p))
    inside = rows.labels["click"] > 0
    return np.mean((p - label)[inside] ** 2)


def slopes(value, array):
    """Central differences of value() over an array changed in place."""
    found = np.zeros_like(array)
    for at in np.ndindex(array.shape):
        kept, ends = array[at], []
        for step in (1e-6, -1e-6):
            array[at] = kept + step
            ends.append(value())
        array[at] = kept
        found[at] = (ends[0] - ends[1]) / 2e-6
    return found


def cosine(a, b):
    return a @ b / np.sqrt((a @ a) * (b @ b))


@pytest.fixture(scope="module")
def expected(snapshot, task_masks):
    rows = make_rows(2 * SIZE, seed=9)
    batches = [slice(0, SIZE), slice(SIZE, 2 * SIZE - 5)]
    where = sharing.regions(task_masks)
    found = {"overlap": [], "outside": [], "embeddings": []}
    for part in batches:
        batch = jax.tree.map(lambda column, part=part: column[part], rows)
        kernels, tables = [], []
        for task in PAIR:
            f64 = lambda leaf: np.array(leaf, np.float64)
            net = jax.tree.map(f64, masks.apply(snapshot.net, task_masks[task]))
            table, layers = f64(snapshot.tables["shared"]), net["shared"]
            head = net["tasks"][task]["head"]
            value = lambda t=task, ta=table, la=layers, h=head, b=batch: loss(
                t, ta, la, h, b
            )
            kernels.append([slopes(value, layers[n]["kernel"]) for n in sorted(layers)])
            tables.append(slopes(value, table).ravel())
        found["embeddings"].append(cosine(*tables))
        for region in ("overlap", "outside"):
            marks = [where[region]["shared"][n]["kernel"] for n in sorted(layers)]
            flat = lambda kernel, marks=marks: np.concatenate(
                [k[np.asarray(m)] for k, m in zip(kernel, marks, strict=True)]
            )
            found[region].append(cosine(*map(flat, kernels)))
    return found


@pytest.mark.parametrize("region", ["overlap", "outside", "embeddings"])
def test_cosines_are_those_of_finite_differences(measured, expected, region):
    np.testing.assert_allclose(measured[region], expected[region], atol=2e-4)
    assert np.abs(measured[region]).max() < 0.999


def test_a_tasks_gradient_agrees_with_itself(snapshot, task_masks):
    rows = jax.tree.map(jnp.asarray, make_rows(SIZE, seed=9))
    index = np.arange(SIZE, dtype=np.int32)[None]
    nothing = jax.tree.map(jnp.zeros_like, sharing.regions(task_masks)["overlap"])
    regions = sharing.regions(task_masks) | {"nothing": nothing}
    measure = make_alignment(SETUP, ("click", "click"))
    found = measure(snapshot, task_masks, regions, rows, index)
    for region in ("overlap", "outside", "embeddings"):
        assert found[region] == pytest.approx(1, abs=1e-5)
    assert np.isnan(found["nothing"]).all()  # no gradient is there to agree


def test_a_batch_without_rows_of_a_task_has_no_cosine(snapshot, task_masks):
    rows = make_rows(SIZE, seed=9)
    rows.labels["click"][:] = 0
    index = np.arange(SIZE, dtype=np.int32)[None]
    regions = sharing.regions(task_masks)
    measure = make_alignment(SETUP, PAIR)
    rows = jax.tree.map(jnp.asarray, rows)
    found = measure(snapshot, task_masks, regions, rows, index)
    assert all(np.isnan(cosines).all() for cosines in found.values())


def test_a_task_the_net_does_not_train_is_refused():
    with pytest.raises(ValueError, match=r"\['like'\] are not among the tasks"):
        make_alignment(SETUP, ("click", "like"))


def test_tasks_that_learn_through_one_another_have_no_gradient_each():
    funnel = make_setup(
        tasks=("click", "like"),
        task_losses={"click": "log", "like": "log"},
        architecture=models.Esmm((4,)),
        spaces="product",
        summed=True,
        masked=False,
    )
    with pytest.raises(ValueError, match="esmm learns a task through those before it"):
        make_alignment(funnel, ("click", "like"))
