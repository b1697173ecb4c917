"""Trained snapshots on disk. The only file that imports Orbax."""

from __future__ import annotations

import hashlib
import shutil
import threading
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from jaxmtl.devices import distributed
from jaxmtl.sparsity import masks
from jaxmtl.tables import portable
from jaxmtl.training.spec import Setup
from jaxmtl.training.train_state import Snapshot, init_shapes, snapshot_of
from jaxmtl.types import Mask

_turn = threading.Lock()
"""Of threads (`jaxmtl.devices.lanes`): Orbax numbers its operations in the whole
process, and two at a time take each other's signals."""


def save(folder: Path, snapshot: Snapshot, task_masks: dict[str, Mask | None]) -> str:
    """Writes a snapshot and its masks; replaces what the folder held.

    Orbax writes under a temporary name and renames, so the folder is whole. A task
    without a mask is written with one that keeps everything. Of several processes the
    first alone writes.

    Args:
      folder: where.
      snapshot: of one device, or made `portable.of`.
      task_masks: task -> mask.

    Returns:
      A digest of all that was written, by which `restore` knows it again.

    Raises:
      ValueError: the tables are split over a mesh, in another order than that of ids.
    """
    if any(_is_split(rows) for rows in snapshot.tables.values()):
        raise ValueError(
            "a checkpoint holds whole tables, and these are split over devices; give"
            " what portable.of makes of the snapshot"
        )
    task_masks = {
        task: masks.full(snapshot.net, task) if mask is None else mask
        for task, mask in task_masks.items()
    }
    tree = {"tables": snapshot.tables, "net": snapshot.net, "masks": task_masks}
    # What lies on a device, Orbax takes to be shared by all processes.
    tree = jax.tree.map(np.asarray, tree)
    sha256 = _sha256(tree)
    digest = sha256.tobytes().hex()
    if not distributed.is_first():
        return digest
    for left in folder.parent.glob(f"{folder.name}.orbax-checkpoint-tmp*"):
        shutil.rmtree(left)  # by a run that was killed here
    with _turn, _checkpointer() as checkpointer:
        saved = {"tree": tree, "sha256": sha256}
        checkpointer.save(folder.absolute(), saved, force=True)
    return digest


def restore(
    folder: Path, setup: Setup, digest: str | None = None
) -> tuple[Snapshot, dict[str, Mask]]:
    """Reads what `save` wrote for a net of this setup, onto the setup's devices.

    Args:
      folder: of the checkpoint.
      setup: of the training.
      digest: what `save` returned, to be sure that it is this checkpoint.

    Raises:
      ValueError: the folder is missing, damaged, of another architecture or another
        checkpoint.
    """
    state = init_shapes(setup.on(None))
    snapshot = jax.eval_shape(snapshot_of, state)
    full = jax.eval_shape(
        lambda net: {task: masks.full(net, task) for task in setup.tasks}, state.net
    )
    like = {"tables": snapshot.tables, "net": snapshot.net, "masks": full}
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    like = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), like
    )
    try:
        with _turn, _checkpointer() as checkpointer:
            saved = checkpointer.restore(
                folder.absolute(), {"tree": like, "sha256": _sha256({})}
            )
    except Exception as error:  # what Orbax raises where it cannot read an array
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"checkpoint {folder} cannot be read for a net of this setup: {reason}"
        ) from error
    tree = saved["tree"]
    if not np.array_equal(saved["sha256"], _sha256(tree)):
        raise ValueError(
            f"checkpoint {folder} is damaged: its arrays are not those that were saved;"
            " move it away and train again"
        )
    if digest is not None and np.asarray(saved["sha256"]).tobytes().hex() != digest:
        raise ValueError(
            f"checkpoint {folder} is not the one that this training left, but another"
            " one's; put back what was there, or delete it and train again"
        )
    snapshot = Snapshot(tree["tables"], tree["net"])
    task_masks = jax.tree.map(jnp.asarray, tree["masks"])
    return portable.placed(setup.mesh, setup.table_layout, snapshot), task_masks


def _is_split(rows: Any) -> bool:
    return isinstance(rows, jax.Array) and not rows.is_fully_replicated


def read_unverified(folder: Path) -> dict[str, np.ndarray]:
    """Path in the tree -> array, of anything that Orbax saved; checks nothing."""
    with _turn, ocp.PyTreeCheckpointer() as checkpointer, warnings.catch_warnings():
        # That it takes the devices from the file, as nothing else says them.
        warnings.filterwarnings("ignore", "Sharding info not provided")
        tree = checkpointer.restore(folder.absolute())
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {masks.path_name(path): np.asarray(leaf) for path, leaf in leaves}


def _checkpointer() -> ocp.StandardCheckpointer:
    """One that waits for no other process: each reads for itself, the first writes."""
    process = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=process,
        active_processes={process},
        barrier_sync_key_prefix=f"process{process}",
    )
    if jax.process_count() == 1:
        return ocp.StandardCheckpointer()
    return ocp.StandardCheckpointer(multiprocessing_options=alone)


def _sha256(tree: Any) -> np.ndarray:
    """Of all leaves' bytes in tree order; Orbax restores flipped bits in silence."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        digest.update(np.ascontiguousarray(leaf))
    return np.frombuffer(digest.digest(), np.uint8)
