"""A snapshot comes back as it was saved, or not at all."""

import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_same_bits, make_setup

from jaxmtl.models import HardSharing, SharedTrunk
from jaxmtl.sparsity import masks
from jaxmtl.training import checkpoint, train_state

OWN_DIMS = (("watch", 2),)
SETUP = make_setup(own_dims=OWN_DIMS)
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited"),
]


@pytest.fixture(scope="module", autouse=True)
def collect_failed_reads():
    """Orbax leaves the reads under way when one fails to the garbage collector.

    Its warnings then fall in this file, whose marks ignore them.
    """
    yield
    gc.collect()


@pytest.fixture(scope="module")
def trained():
    """A snapshot and masks of different densities."""
    snapshot = train_state.snapshot_of(train_state.make_init(SETUP)(jax.random.key(0)))
    rng, full = np.random.default_rng(0), masks.full(snapshot.net)
    draw = lambda rate: jax.tree.map(
        lambda m: jnp.asarray(rng.random(m.shape) < rate), full
    )
    return snapshot, {"click": draw(0.5), "watch": draw(0.2)}


def test_snapshot_and_masks_come_back(tmp_path, trained):
    """Where nothing is pruned the mask is None, saved and restored."""
    checkpoint.save(tmp_path / "new" / "kept", *trained)
    restored = checkpoint.restore(tmp_path / "new" / "kept", SETUP)
    assert jax.tree.structure(restored) == jax.tree.structure(trained)
    assert_same_bits(restored, trained)
    assert restored[1]["click"]["shared"]["layer00"]["bias"] is None
    assert restored[1]["click"]["tasks"]["watch"]["head"]["kernel"] is None


def test_net_without_shared_layers_comes_back(tmp_path):
    setup = make_setup(architecture=HardSharing((8, 6)))
    snapshot = train_state.snapshot_of(train_state.make_init(setup)(jax.random.key(0)))
    dense = train_state.dense_masks(setup, snapshot.net)
    checkpoint.save(tmp_path / "kept", snapshot, dense)
    restored = checkpoint.restore(tmp_path / "kept", setup)
    assert restored[0].net["shared"] == {}
    assert_same_bits(restored, (snapshot, dense))


def test_lanes_may_save_and_restore_at_once(tmp_path, trained):
    """As the seeds of a study in one program do, which are threads."""
    lanes, start = 4, threading.Barrier(4)

    def keep(lane):
        start.wait()
        for time in range(3):
            folder = tmp_path / f"lane{lane}" / f"time{time}"
            checkpoint.save(folder, *trained)
            assert_same_bits(checkpoint.restore(folder, SETUP), trained)

    with ThreadPoolExecutor(lanes) as pool:
        list(pool.map(keep, range(lanes)))


def test_saving_again_replaces(tmp_path, trained):
    snapshot, task_masks = trained
    checkpoint.save(tmp_path / "kept", *trained)
    other = jax.tree.map(lambda x: x + 1, snapshot)
    checkpoint.save(tmp_path / "kept", other, task_masks)
    assert_same_bits(checkpoint.restore(tmp_path / "kept", SETUP)[0], other)


def test_a_checkpoint_in_the_place_of_another_is_refused(tmp_path, trained):
    snapshot, task_masks = trained
    digest = checkpoint.save(tmp_path / "kept", *trained)
    checkpoint.restore(tmp_path / "kept", SETUP, digest)
    other = task_masks | {"click": task_masks["watch"]}
    assert checkpoint.save(tmp_path / "kept", snapshot, other) != digest
    with pytest.raises(ValueError, match="kept is not the one that this training left"):
        checkpoint.restore(tmp_path / "kept", SETUP, digest)


def test_what_others_leave_in_the_folder_is_passed_over(tmp_path, trained):
    checkpoint.save(tmp_path / "kept", *trained)
    for folder in [tmp_path / "kept", *filter(Path.is_dir, tmp_path.rglob("*"))]:
        for name in (".DS_Store", ".nfs0000000001"):
            (folder / name).write_text("?")
    assert_same_bits(checkpoint.restore(tmp_path / "kept", SETUP)[0], trained[0])


def test_saving_clears_away_what_a_killed_save_left(tmp_path, trained):
    left = tmp_path / "kept.orbax-checkpoint-tmp-7"
    left.mkdir()
    (left / "half").write_bytes(b"written")
    checkpoint.save(tmp_path / "kept", *trained)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_missing_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="checkpoint .*nowhere cannot be read.*not fo"):
        checkpoint.restore(tmp_path / "nowhere", SETUP)


@pytest.mark.parametrize(
    "change",
    [
        {"architecture": SharedTrunk((8, 7))},
        {"dim": 5},
        {"own_dims": ()},
        {"tasks": ("watch",)},
        {"architecture": HardSharing((8, 6)), "own_dims": ()},
    ],
    ids=str,
)
def test_checkpoint_of_another_net_is_refused(tmp_path, trained, change):
    checkpoint.save(tmp_path / "kept", *trained)
    other = make_setup(**{"own_dims": OWN_DIMS} | change)
    with pytest.raises(ValueError, match="kept cannot be read for a net of this setup"):
        checkpoint.restore(tmp_path / "kept", other)


def test_damage_never_passes_for_what_was_saved(tmp_path):
    """Orbax alone returns other numbers for most flipped bits of a large array."""
    setup = make_setup(dim=64)
    snapshot = train_state.snapshot_of(train_state.make_init(setup)(jax.random.key(0)))
    saved = snapshot, train_state.dense_masks(setup, snapshot.net)
    checkpoint.save(tmp_path / "kept", *saved)
    largest = max(tmp_path.rglob("*"), key=lambda path: path.stat().st_size)
    content, refused = largest.read_bytes(), 0
    for at in np.linspace(0, len(content) - 1, 8).astype(int):
        damaged = bytearray(content)
        damaged[at] ^= 16
        largest.write_bytes(damaged)
        try:
            assert_same_bits(checkpoint.restore(tmp_path / "kept", setup), saved)
        except ValueError as error:
            assert "kept" in str(error)
            refused += 1
    assert refused > 4
