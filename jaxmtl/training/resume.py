"""A training's progress on disk, so that one which is killed goes on to the same bits.

Progress is copied to the host between two chunks of steps and written by a thread,
so training waits for a copy and not for the disk. The two newest are kept: where one
is damaged the training goes on from the other, and says so. What is written is the same
whatever the devices (`jaxmtl.tables.portable`), so a training may go on with another
number of them, or on another platform.
"""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxmtl import sealed
from jaxmtl.devices import distributed
from jaxmtl.tables import embedding, portable
from jaxmtl.training.fit import EpochRecord, Progress
from jaxmtl.training.spec import Setup
from jaxmtl.training.train_state import init_shapes, snapshot_of

KEPT = 2
"""Versions on disk: the newest may turn out to be damaged."""


class Stopped(Exception):
    """A training was asked to stop; its progress is saved."""


class OtherNumbers(ValueError):
    """The progress saved is of a training with other rates or weights."""


class Folder:
    """Keeps the progress of one training, and small arrays beside it.

    Attributes:
      aside: name -> array; what the caller wants saved and restored with the
        progress. Replace its arrays, never write into them.
      seconds: time that the training has taken, all attempts together.
    """

    def __init__(
        self,
        folder: Path,
        setup: Setup,
        *,
        every: float = 60.0,
        wants_stop: Callable[[], bool] = lambda: False,
        say: Callable[[str], None] = print,
    ):
        """Finds what earlier attempts left.

        Args:
          folder: of this training alone; made with the first save.
          setup: of the training; what is restored must fit it.
          every: seconds from one save to the next; 0 = after every chunk.
          wants_stop: asked after every chunk; True saves at once and raises.
          say: receives what went wrong.
        """
        self.aside: dict[str, np.ndarray] = {}
        self._folder, self._setup, self._every = folder, setup, every
        self._wants_stop, self._say = wants_stop, say
        self._started = self._saved = time.monotonic()
        self._writer: threading.Thread | None = None
        self._version = max(self._versions(), default=0)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    def restore(self, like: Progress | None = None) -> Progress | None:
        """The newest progress that is whole; None where there is none.

        Args:
          like: where the training would begin, for the shapes of `state.extra` and of
            masks that a hook moves; by default there are neither.

        Raises:
          sealed.Unreadable: the system refuses to read it.
          OtherNumbers: it is of other rates or weights, which a state holds too.
        """
        versions = self._versions()
        while versions:
            path = self._path(versions.pop())
            try:
                return self._read(path, like)
            except (sealed.Unreadable, OtherNumbers):
                raise  # it may be sound
            except ValueError as error:
                before = self._path(versions[-1]) if versions else "the beginning"
                self._say(f"{error}; going on from {before}")
                shutil.rmtree(path)
        return None

    def save(self, progress: Progress) -> None:
        """Copies and writes the progress, where it is time to.

        Raises:
          Stopped: asked to stop; the progress is on disk, or `say` was told why not.
        """
        is_time = time.monotonic() - self._saved >= self._every
        # Tables split over processes take all of them to save.
        must_stop, is_time = distributed.any_of_all(self._wants_stop(), is_time)
        if must_stop or is_time:
            self._saved = time.monotonic()
            self.wait()
            # Copies: the state is donated to the next chunk while they are written.
            arrays = jax.tree.map(np.array, self._pack(progress))
            self._version += 1
            version = self._version
            self._writer = threading.Thread(target=self._write, args=(version, arrays))
            self._writer.start()
        if must_stop:
            self.wait()
            raise Stopped

    def wait(self) -> None:
        """Returns when nothing is being written any more."""
        if self._writer is not None:
            self._writer.join()

    def discard(self) -> None:
        """Deletes the progress: what came of the training is kept elsewhere."""
        self.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _path(self, version: int) -> Path:
        return self._folder / f"{version:06}"

    def _versions(self) -> list[int]:
        names = [path.name for path in self._folder.glob("[0-9]*")]
        return sorted(int(name) for name in names if name.isdigit())

    def _write(self, version: int, arrays: dict[str, np.ndarray]) -> None:
        try:
            sealed.write(self._path(version), arrays)
            for old in self._versions()[:-KEPT]:
                shutil.rmtree(self._path(old))
        except OSError as error:
            self._say(
                f"progress could not be saved in {self._folder}: {error}; the training"
                " goes on, and what was saved before stays"
            )

    def _pack(self, progress: Progress) -> dict[str, Any]:
        about = {
            "history": [record._asdict() for record in progress.history],
            "seconds": self.seconds,
            "numbers": _numbers(self._setup),
        }
        rows = embedding.vocabulary_rows(self._setup.schema)
        whole = lambda tree: portable.of(self._setup.mesh, tree, rows)
        best = {} if progress.best is None else _named("best", whole(progress.best))
        return {
            "about": np.frombuffer(json.dumps(about).encode(), np.uint8),
            **_named("state", whole(progress.state)),
            **best,
            **_named("masks", progress.masks),
            **_named("best_masks", progress.best_masks),
            **{f"losses/{task}": column for task, column in progress.losses.items()},
            **{f"aside/{name}": array for name, array in self.aside.items()},
        }

    def _read(self, path: Path, begun: Progress | None) -> Progress:
        arrays = sealed.read(path)  # names the path itself
        try:
            return self._unpack(arrays, begun)
        except OtherNumbers as error:
            raise OtherNumbers(f"{path}: {error}") from error
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def _unpack(
        self, arrays: Mapping[str, np.ndarray], begun: Progress | None
    ) -> Progress:
        like = init_shapes(self._setup.on(None))
        if begun is not None:
            like = like._replace(extra=begun.state.extra)
        masks = None if begun is None else begun.masks
        try:
            about = json.loads(arrays["about"].tobytes())
            history = tuple(EpochRecord(**record) for record in about["history"])
            saved = about["numbers"]
        except (KeyError, TypeError) as error:
            raise ValueError(f"progress of another version: {error}") from error
        _check_numbers(saved, _numbers(self._setup))
        best = jax.eval_shape(snapshot_of, like)
        on_device = lambda name, like: portable.placed(
            self._setup.mesh,
            self._setup.table_layout,
            _filled(name, portable.shapes(like), arrays),
        )
        progress = Progress(
            on_device("state", like),
            on_device("best", best) if history else None,
            _below("losses/", arrays),
            history,
            _filled("masks", masks, arrays),
            _filled("best_masks", masks, arrays) if history else None,
        )
        self.aside.update(_below("aside/", arrays))
        self._started -= about["seconds"]
        return progress


def _numbers(setup: Setup) -> dict[str, Any]:
    """Rates and weights by name: those of losses, and those that a state begins with.

    Some of them lie in the state, which would go on with them whatever the setup says.
    """
    trees = setup.numbers._asdict() | setup.start._asdict()
    return {name: jax.tree.map(float, tree) for name, tree in trees.items()}


def _check_numbers(saved: dict[str, Any], given: dict[str, Any]) -> None:
    for name, value in given.items():
        if saved.get(name) != value:
            raise OtherNumbers(
                f"the progress saved is of a training whose {name} is"
                f" {saved.get(name)}, here it is {value}; continue with the number"
                " saved, or keep this training in another folder"
            )


def _named(name: str, tree: Any) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {name + jax.tree_util.keystr(path): leaf for path, leaf in leaves}


def _filled(name: str, like: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """A tree like `like` of the arrays that `_named` called so."""

    def leaf(path, expected):
        key = name + jax.tree_util.keystr(path)
        found = arrays.get(key)
        if found is None or (found.shape, found.dtype) != (
            expected.shape,
            expected.dtype,
        ):
            raise ValueError(f"the progress saved has no {key} of {expected}")
        return found

    return jax.tree_util.tree_map_with_path(leaf, like)


def _below(prefix: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {
        n.removeprefix(prefix): x for n, x in arrays.items() if n.startswith(prefix)
    }
