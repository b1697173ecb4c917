"""Trained snapshots on disk. The only file that imports Orbax."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from jaxmtl.train import Setup, Snapshot, make_init, snapshot_of
from jaxmtl.types import Mask


def save(folder: Path, snapshot: Snapshot, task_masks: dict[str, Mask]) -> None:
    """Writes a snapshot and its masks; replaces what the folder held.

    Orbax writes under a temporary name and renames, so the folder is whole.
    """
    tree = {"tables": snapshot.tables, "net": snapshot.net, "masks": task_masks}
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder.absolute(), tree, force=True)


def restore(folder: Path, setup: Setup) -> tuple[Snapshot, dict[str, Mask]]:
    """Reads what `save` wrote for a net of this setup.

    Raises:
      ValueError: the folder is missing, damaged or of another architecture.
    """
    from jaxmtl import masks

    state = jax.eval_shape(make_init(setup), jax.random.key(0))
    snapshot = jax.eval_shape(snapshot_of, state)
    full = jax.eval_shape(masks.full, state.net)
    like = {
        "tables": snapshot.tables,
        "net": snapshot.net,
        "masks": dict.fromkeys(setup.tasks, full),
    }
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            tree = checkpointer.restore(folder.absolute(), like)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"checkpoint {folder}: {error}") from error
    tree = jax.tree.map(jnp.asarray, tree)
    return Snapshot(tree["tables"], tree["net"]), tree["masks"]
