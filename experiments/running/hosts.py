"""A run on several devices or hosts: flags, start-up, and who writes.

All processes of a run take the same steps, as they see the same files: the first one's
work directory, of which the others work on private copies that are deleted at the end.
So the first alone writes where the user looks.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import jax

from experiments.settings.config import MeshConfig
from jaxmtl.devices import distributed

NUMBERS = {
    "jax_enable_x64": False,
    "jax_default_prng_impl": "threefry2x32",
    "jax_threefry_partitionable": True,
}
"""Settings of JAX that change what is drawn or computed -> how they are here."""


def start(config: MeshConfig) -> None:
    """Joins the other processes, where there are any.

    Raises:
      ValueError: the flags contradict each other, or the processes cannot meet.
    """
    if not config.spans_processes:
        return
    if config.devices != 0:
        raise ValueError(
            f"--mesh.devices is {config.devices}, but the processes of a run train on"
            " all of their devices; give --mesh.devices 0"
        )
    if config.cluster and config.coordinator is not None:
        raise ValueError(
            "--mesh.cluster and --mesh.coordinator both say where the processes meet;"
            " give one of them"
        )
    distributed.start(config.coordinator, config.processes, config.process)


def check_jax() -> None:
    """Looks at what the environment makes of JAX; after `start`.

    Raises:
      ValueError: it has no device, or a variable asks for other numbers than those of
        every other run.
    """
    for name, value in NUMBERS.items():
        variable = name.upper()
        if variable in os.environ and getattr(jax.config, name) != value:
            raise ValueError(
                f"the environment's {variable} is {os.environ[variable]!r}, with which"
                " JAX draws or computes other numbers and nothing tells that they"
                " are; unset it"
            )
    distributed.check_devices()


@contextlib.contextmanager
def claimed(
    workdir: Path, claim: Callable[[], AbstractContextManager]
) -> Iterator[Path]:
    """The folder this process works in: the run's, or a copy of it.

    Args:
      workdir: of the run, on a file system that all processes see if it holds
        anything yet.
      claim: makes it this run's alone; the first process calls it.
    """
    if distributed.is_first():
        with claim():
            distributed.wait_for_all("claimed")
            distributed.wait_for_all("copied")
            yield workdir
        return
    distributed.wait_for_all("claimed")
    with (
        tempfile.TemporaryDirectory() as temporary,
        open(os.devnull, "w", encoding="utf-8") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        copy = Path(temporary) / workdir.name
        if workdir.exists():
            shutil.copytree(workdir, copy, ignore=shutil.ignore_patterns("events"))
        copy.mkdir(exist_ok=True)
        distributed.wait_for_all("copied")
        yield copy
