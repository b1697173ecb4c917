"""A training that is stopped anywhere and restored ends with the same bits."""

import errno
import os
import shutil
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_close, assert_same_bits, make_rows, make_setup

from jaxmtl import sealed
from jaxmtl.data.batches import Plan
from jaxmtl.tables.layout import TPU
from jaxmtl.training import resume, train_state
from jaxmtl.training.fit import fit

SETUP = make_setup(moving="per_task", own_dims=(("watch", 2),))
TRAIN, VALIDATION = (make_rows(n, seed=n) for n in (64, 60))


def run(keeper=None, on_epoch=lambda record, snapshot: None, setup=SETUP):
    """Two epochs of two chunks, a step each."""
    state = train_state.make_init(setup)(jax.random.key(0))
    return fit(
        setup,
        state,
        train_state.dense_masks(setup, state.net),
        plan=Plan(TRAIN, setup.learned, 32),
        train=jax.tree.map(jnp.asarray, TRAIN),
        validation=jax.tree.map(jnp.asarray, VALIDATION),
        seed=0,
        epochs=2,
        patience=2,
        on_epoch=on_epoch,
        keeper=keeper,
        chunk=1,
    )


@pytest.fixture(scope="module")
def undisturbed():
    return run()


def assert_same(result, expected):
    assert_same_bits(result.best, expected.best)
    assert result.history == expected.history
    assert result.best_epoch == expected.best_epoch
    assert result.own_best_epoch == expected.own_best_epoch


def stop_after(chunks: int):
    left = iter([False] * (chunks - 1))
    return lambda: next(left, True)


def test_a_training_stopped_after_every_chunk_ends_with_the_same_bits(
    tmp_path, undisturbed
):
    epochs, stops = [], 0
    while True:
        keeper = resume.Folder(tmp_path / "kept", SETUP, wants_stop=stop_after(1))
        try:
            result = run(keeper, lambda record, _: epochs.append(record.epoch))
        except resume.Stopped:
            stops += 1
            continue
        break
    assert (stops, epochs) == (4, [1, 2])  # each epoch is reported once
    assert_same(result, undisturbed)


@pytest.mark.parametrize("chunks", [1, 2, 3])
def test_a_training_that_is_killed_goes_on_from_the_last_save(
    tmp_path, undisturbed, chunks
):
    """An exception where nothing is prepared for one, as a kill would be."""

    class Killed(BaseException):
        pass

    def kill():
        if not next(left, False):
            raise Killed
        return False

    left = iter([True] * chunks)
    keeper = resume.Folder(tmp_path / "kept", SETUP, every=0, wants_stop=kill)
    with pytest.raises(Killed):
        run(keeper)
    keeper.wait()
    again = resume.Folder(tmp_path / "kept", SETUP, every=0)
    assert_same(run(again), undisturbed)


def test_two_saves_are_kept_and_none_once_discarded(tmp_path):
    keeper = resume.Folder(tmp_path / "kept", SETUP, every=0)
    run(keeper)
    keeper.wait()
    names = sorted(path.name for path in (tmp_path / "kept").iterdir())
    assert names == ["000003", "000004"]
    keeper.discard()
    assert not (tmp_path / "kept").exists()


def test_nothing_is_saved_before_it_is_time_to(tmp_path):
    keeper = resume.Folder(tmp_path / "kept", SETUP, every=3600)
    run(keeper)
    keeper.wait()
    assert not (tmp_path / "kept").exists()


@pytest.fixture
def stopped(tmp_path):
    """The folder of a training stopped after three chunks; both saves are there."""
    folder = tmp_path / "kept"
    keeper = resume.Folder(folder, SETUP, every=0, wants_stop=stop_after(3))
    keeper.aside["predicted/click"] = np.arange(3.0)
    with pytest.raises(resume.Stopped):
        run(keeper)
    return folder


def test_a_training_goes_on_where_tables_lie_in_another_way(stopped, undisturbed):
    """As on another platform: what is saved are rows and slots, and no lines."""
    setup = SETUP.with_net(layout=TPU)
    keeper = resume.Folder(stopped, setup)
    assert keeper.restore().state.tables["shared"].packed.shape == (60, 128)
    result = run(resume.Folder(stopped, setup), setup=setup)
    assert_close(result.best, undisturbed.best, rtol=1e-4)
    assert result.best_epoch == undisturbed.best_epoch


def test_progress_holds_rows_and_slots_in_the_order_of_ids(stopped):
    saved = sealed.read(stopped / "000003")
    table = "state.tables['shared']"
    assert {name: x.shape for name, x in saved.items() if table in name} == {
        f"{table}.rows": (60, 4),
        f"{table}.slots['count']": (60, 1),
        f"{table}.slots['mean']": (60, 4),
        f"{table}.slots['square']": (60, 4),
        f"{table}.updates": (),
    }


def test_what_was_put_aside_and_the_time_taken_come_back(stopped):
    keeper = resume.Folder(stopped, SETUP)
    keeper._started -= 1000
    keeper.restore()
    np.testing.assert_array_equal(keeper.aside["predicted/click"], np.arange(3.0))
    assert keeper.seconds > 1000


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def empty(path):
    path.write_bytes(b"")


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [truncate, empty, flip_a_bit, os.unlink])
def test_a_damaged_save_is_left_for_the_one_before_and_said_so(
    stopped, undisturbed, damage
):
    damage(stopped / "000003" / sealed.ARRAYS)
    said = []
    progress = resume.Folder(stopped, SETUP, say=said.append).restore()
    assert (progress.epoch, progress.taken) == (2, 0)  # after the first epoch
    (line,) = said
    assert "000003" in line and line.endswith(f"going on from {stopped / '000002'}")
    assert_same(run(resume.Folder(stopped, SETUP)), undisturbed)


def test_a_save_that_the_system_refuses_to_read_is_kept(stopped, monkeypatch):
    """It may be sound: nothing of it is deleted, and nothing begins anew."""

    def refuse(*args, **kwargs):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    before, said = sorted(stopped.rglob("*")), []
    with monkeypatch.context() as patch:
        patch.setattr(sealed, "digest", refuse)
        with pytest.raises(sealed.Unreadable, match="cannot be read: Input/output err"):
            resume.Folder(stopped, SETUP, say=said.append).restore()
    assert sorted(stopped.rglob("*")) == before and said == []


def test_what_others_leave_beside_the_saves_is_passed_over(stopped, undisturbed):
    for name in (".DS_Store", "000003 copy", "000003.orig"):
        (stopped / name).write_text("?")
    assert_same(run(resume.Folder(stopped, SETUP)), undisturbed)


def test_where_both_saves_are_damaged_the_training_begins_anew(stopped, undisturbed):
    for name in ("000002", "000003"):
        flip_a_bit(stopped / name / sealed.ARRAYS)
    said = []
    assert_same(run(resume.Folder(stopped, SETUP, say=said.append)), undisturbed)
    assert len(said) == 2 and said[1].endswith("going on from the beginning")


def test_the_progress_of_another_net_is_refused_by_file_and_array(stopped):
    said, saves = [], sorted(stopped.iterdir(), reverse=True)
    keeper = resume.Folder(stopped, make_setup(dim=5), say=said.append)
    assert keeper.restore() is None
    for line, path in zip(said, saves, strict=True):
        assert line.startswith(f"{path}: the progress saved has no")
        assert "of ShapeDtypeStruct" in line


def test_a_disk_that_fills_up_is_said_and_the_training_goes_on(
    tmp_path, monkeypatch, undisturbed
):
    """The first save fits, the others do not; it stays as it was."""
    fits, said = iter([True, True]), []

    def full(descriptor):
        if not next(fits, False):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    keeper = resume.Folder(tmp_path / "kept", SETUP, every=0, say=said.append)
    assert_same(run(keeper), undisturbed)
    keeper.wait()
    assert len(said) == 3 and all("No space left on device" in line for line in said)
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["000001"]
    monkeypatch.undo()
    assert_same(run(resume.Folder(tmp_path / "kept", SETUP)), undisturbed)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(mount, check=False).returncode:
        pytest.skip("mounting a small file system takes more rights than these")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_is_really_full_keeps_the_last_good_save(small_disk, undisturbed):
    keeper = resume.Folder(small_disk / "kept", SETUP, wants_stop=stop_after(1))
    with pytest.raises(resume.Stopped):
        run(keeper)
    free = shutil.disk_usage(small_disk).free
    (small_disk / "other").write_bytes(bytes(free - 8192))
    said = []
    keeper = resume.Folder(small_disk / "kept", SETUP, every=0, say=said.append)
    assert_same(run(keeper), undisturbed)
    keeper.wait()
    assert said and all("No space left on device" in line for line in said)
    assert [path.name for path in (small_disk / "kept").iterdir()] == ["000001"]
    assert sealed.read(small_disk / "kept" / "000001")
