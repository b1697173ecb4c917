"""A bundle holds each value once, comes back to the bit, or is refused by name."""

import json
import pickle

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_same_bits, make_setup
from hypothesis import given, settings

from jaxmtl import discovery
from jaxmtl.models import Dcrnn, Esmm, SharedBottom
from jaxmtl.serving import bundle
from jaxmtl.serving.bundle import Bundle, DamagedBundle
from jaxmtl.sparsity import masks
from jaxmtl.training.train_state import init_net

OWN_DIMS = (("watch", 2),)
SETUP = make_setup(own_dims=OWN_DIMS)


def random_masks(net, densities, seed=0):
    rng = np.random.default_rng(seed)
    return {
        task: jax.tree.map(
            lambda m, density=density: rng.random(m.shape) < density,
            masks.full(net, task),
        )
        for task, density in densities.items()
    }


@pytest.fixture(scope="module")
def net():
    return jax.tree.map(np.asarray, init_net(SETUP, jax.random.key(0)))


TABLES = {"shared": np.arange(12, dtype=np.float32).reshape(6, 2)}


@pytest.fixture
def written(net, tmp_path):
    given = Bundle(net, random_masks(net, {"click": 0.2, "watch": 0.3}), TABLES)
    bundle.write(tmp_path, given)
    bundle.seal(tmp_path)
    return tmp_path, given


def test_every_task_sees_again_what_it_saw(written):
    folder, given = written
    bundle.verify(folder)
    read = bundle.read(folder)
    for task in given.masks:
        assert_same_bits(read.seen(task), jax.tree.map(jnp.asarray, given.seen(task)))
        assert_same_bits(read.masks[task], given.masks[task])
    assert_same_bits(read.tables, TABLES)


def test_only_values_that_some_task_keeps_are_stored_and_each_once(written):
    folder, given = written
    kept = masks.union(given.masks.values())
    never_pruned = sum(
        leaf.size
        for leaf, mark in zip(
            jax.tree.leaves(given.net),
            jax.tree.leaves(kept, is_leaf=lambda m: m is None),
            strict=True,
        )
        if mark is None
    )
    with np.load(folder / bundle.VALUES) as values:
        stored = sum(values[name].size for name in values.files)
    assert stored == masks.count(kept) + never_pruned
    with np.load(folder / bundle.MASKS) as bits:
        sizes = [bits[name].nbytes for name in bits.files]
    prunable = [leaf.size for leaf in jax.tree.leaves(masks.full(given.net))]
    assert sorted(sizes) == sorted(2 * [-(-size // 8) for size in prunable])


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 99), st.sampled_from([0.0, 0.3, 1.0]), st.floats(0, 1))
def test_masks_of_any_density_come_back(tmp_path_factory, seed, one, other):
    folder = tmp_path_factory.mktemp("bundle")
    net = {
        "shared": {"layer00": {"kernel": np.ones((3, 5), np.float32) * 2}},
        "tasks": {"a/b": {"head": {"kernel": np.ones((5, 1), np.float32)}}, "c": {}},
    }
    task_masks = random_masks(net, {"a/b": one, "c": other}, seed)
    bundle.write(folder, Bundle(net, task_masks, {}))
    read = bundle.read(folder)
    assert_same_bits(read.masks, task_masks)
    for task in task_masks:
        assert jax.tree.structure(read.seen(task)) == jax.tree.structure(net)
        np.testing.assert_array_equal(
            read.seen(task)["shared"]["layer00"]["kernel"],
            2 * task_masks[task]["shared"]["layer00"]["kernel"],
        )


@pytest.mark.parametrize(
    "architecture",
    [
        SharedBottom((4,), tower=(3,)),
        Esmm((4,)),
        Dcrnn(length=2, interval=1, hidden=2, tower=()),
    ],
    ids=discovery.name_of,
)
def test_a_net_without_masks_comes_back_whole(tmp_path, architecture):
    setup = make_setup(
        architecture=architecture,
        tasks=("click", "like"),
        task_losses={"click": "log", "like": "log"},
        summed=True,
        spaces=getattr(architecture, "spaces", "own"),
    )
    net = init_net(setup, jax.random.key(1))
    bundle.write(tmp_path, Bundle(net, dict.fromkeys(setup.tasks), TABLES))
    read = bundle.read(tmp_path)
    assert jax.tree.structure(read.net) == jax.tree.structure(net)
    assert_same_bits(read.net, net)
    assert read.masks == {"click": None, "like": None}


def test_masks_of_some_tasks_only_are_refused(tmp_path, net):
    some = random_masks(net, {"click": 0.5}) | {"watch": None}
    with pytest.raises(ValueError, match="some have no mask"):
        bundle.write(tmp_path, Bundle(net, some, {}))


FILES = [bundle.VALUES, bundle.MASKS, bundle.TABLES, bundle.NET, bundle.MANIFEST]


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_anywhere_is_refused_by_name(written, name):
    folder, _ = written
    content = (folder / name).read_bytes()
    for at in np.linspace(0, len(content) - 1, 25).astype(int):
        damaged = bytearray(content)
        damaged[at] ^= 4
        (folder / name).write_bytes(damaged)
        if name == bundle.MANIFEST:  # white space and the like says nothing
            with_it = (folder / name).read_text(errors="replace")
            try:
                if json.loads(with_it) == json.loads(content):
                    continue
            except ValueError:
                pass
        with pytest.raises(DamagedBundle, match=str(folder)) as caught:
            bundle.verify(folder)
        assert name in str(caught.value) or name == bundle.MANIFEST


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused_by_name(written, name):
    folder, _ = written
    (folder / name).unlink()
    with pytest.raises(DamagedBundle, match=name):
        bundle.verify(folder)


def test_what_others_leave_in_the_folder_is_neither_sealed_nor_missed(written):
    folder, _ = written
    (folder / ".DS_Store").write_text("?")
    (folder / ".snapshot").mkdir()
    bundle.seal(folder)
    (folder / ".DS_Store").unlink()
    bundle.verify(folder)


def test_a_pickle_is_never_opened(written):
    folder, _ = written

    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("it was unpickled",))

    (folder / bundle.TABLES).write_bytes(pickle.dumps(Bomb()))
    bundle.seal(folder)  # as an attacker would
    with pytest.raises(DamagedBundle, match=bundle.TABLES):
        bundle.read(folder)


def test_files_of_two_bundles_do_not_mix(written, tmp_path_factory):
    folder, given = written
    other = tmp_path_factory.mktemp("other")
    bigger = make_setup(tasks=("click", "watch", "like"), own_dims=OWN_DIMS)
    net = init_net(bigger, jax.random.key(0))
    bundle.write(
        other, Bundle(net, random_masks(net, dict.fromkeys(bigger.tasks, 0.9)), TABLES)
    )
    (folder / bundle.VALUES).write_bytes((other / bundle.VALUES).read_bytes())
    with pytest.raises(DamagedBundle, match=bundle.NET):
        bundle.read(folder)
