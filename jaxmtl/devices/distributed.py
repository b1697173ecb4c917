"""One training by several processes, each with devices of its own.

After `start`, `jax.devices()` are those of all processes, and a mesh spans them
(`jaxmtl.devices.sharding`). Every process runs the same program on the same arguments
and must take the same decisions: where a clock or a signal decides, they agree first.
"""

from __future__ import annotations

import jax
import numpy as np
from jax.experimental import multihost_utils


def start(
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
) -> None:
    """Joins the other processes; before anything else that asks for a device.

    Without arguments all three come from the environment of the launcher: SLURM, Open
    MPI, Kubernetes, a TPU pod (`jax.distributed.initialize`).

    Args:
      coordinator: `host:port` at which process 0 can be reached.
      processes: how many there are.
      process: the number of this one, from 0.

    Raises:
      ValueError: some of the three are missing or out of range, the environment does
        not tell them, or the others cannot be reached.
    """
    given = (coordinator, processes, process)
    if any(x is None for x in given) and any(x is not None for x in given):
        raise ValueError(
            f"coordinator {coordinator}, processes {processes}, process {process}: give"
            " all three, or none of them under a launcher that tells them"
        )
    if processes is not None and not 0 <= process < processes:
        raise ValueError(
            f"process {process} of {processes}; processes are numbered from 0 to"
            f" {processes - 1}"
        )
    try:
        jax.distributed.initialize(coordinator, processes, process)
    except (ValueError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"the processes of this training could not meet: {reason}. Give"
            " coordinator, processes and process where no launcher tells them, and"
            " start all processes within five minutes"
        ) from error


def check_devices() -> None:
    """Makes JAX look for its devices; after `start`, where there is one.

    Raises:
      ValueError: JAX_PLATFORMS names a platform that is not there.
    """
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # the latter of JAX, for CUDA
        reason = str(error).partition(" (set JAX_PLATFORMS")[0].rstrip(".")
        raise ValueError(
            "JAX has no device to compute on; JAX_PLATFORMS is"
            f" {jax.config.jax_platforms!r}{reason and ': '}{reason}. Unset it, or"
            " install what it asks for (pip install 'jaxmtl[cuda]', 'jaxmtl[tpu]')"
        ) from error


def is_first() -> bool:
    """Whether this is the process that writes for all."""
    return jax.process_index() == 0


def any_of_all(*flags: bool) -> tuple[bool, ...]:
    """Of each flag, whether it is set in any process; all processes must ask."""
    if jax.process_count() == 1:
        return flags
    gathered = multihost_utils.process_allgather(np.asarray(flags))
    return tuple(bool(flag) for flag in gathered.any(axis=0))


def wait_for_all(place: str) -> None:
    """Returns once every process has come to the place of this name."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(place)
