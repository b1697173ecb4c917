"""What a row or a ticket search keeps of a training that is not finished."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from tqdm import tqdm

from experiments.running import stopping
from experiments.running.workdir import write_arrays
from experiments.settings.config import Config
from jaxmtl.spaces import JOINT
from jaxmtl.training.fit import EpochRecord
from jaxmtl.training.guard import NonFiniteLoss
from jaxmtl.training.inference import predict_all
from jaxmtl.training.resume import Folder
from jaxmtl.training.spec import Setup
from jaxmtl.training.train_state import Snapshot
from jaxmtl.types import Mask, Rows


def keep(where: Path, setup: Setup, config: Config) -> Folder:
    """Where a training's progress is kept, saved as the configuration says."""
    return Folder(
        where,
        setup,
        every=config.checkpoint.every,
        wants_stop=stopping.requested,
        say=say,
    )


def say(text: str) -> None:
    """Writes a line above the progress bar."""
    tqdm.write(text, file=sys.stderr)


@contextlib.contextmanager
def bad_batch_kept(where: Path, train: Rows) -> Iterator[None]:
    """Writes the batch of a loss that is not finite to `bad_batch.npz`, for replay.

    Args:
      where: the folder of the training.
      train: the training split.
    """
    try:
        yield
    except NonFiniteLoss as error:
        if error.batch is None:
            raise
        rows, path = error.batch.rows, where / "bad_batch.npz"
        arrays = {
            "step": np.asarray(error.batch.step),
            "task": np.asarray(error.batch.task),
            "rows": rows,
            "ids": train.ids[rows],
            "numeric": train.numeric[rows],
        }
        labels = {f"label/{n}": column[rows] for n, column in train.labels.items()}
        write_arrays(path, arrays | labels)
        raise NonFiniteLoss(f"{error}, kept in {path}", error.batch) from error


class OwnBest:
    """Test predictions at each task's own best epoch, beside the shared snapshot's."""

    def __init__(
        self,
        setup: Setup,
        task_masks: Mapping[str, Mask],
        test: Rows,
        kept: dict[str, np.ndarray],
    ):
        """Begins, or goes on with what `kept` holds.

        Args:
          setup: of the training.
          task_masks: task -> mask.
          test: test rows on the device.
          kept: where smallest regrets and predictions are put, by name.
        """
        self._setup, self._masks, self._test = setup, task_masks, test
        self._kept = kept

    def after_epoch(self, record: EpochRecord, snapshot: Snapshot) -> None:
        """Predicts anew for the tasks whose regret has never been smaller."""
        better = {
            task: part
            for task, part in record.regrets.items()
            if part < self._kept.get(f"regret/{task}", np.inf)
        }
        if not better:
            return
        predicted = predict_all(self._setup, snapshot, self._masks, self._test)
        for task, part in better.items():
            self._kept[f"regret/{task}"] = np.asarray(part)
            for name in {task, JOINT + task} & set(predicted):
                self._kept[f"predicted/{name}"] = predicted[name]

    @property
    def predictions(self) -> dict[str, np.ndarray]:
        """Task, joint ones too -> float32 predictions for every test row."""
        names = [name for name in self._kept if name.startswith("predicted/")]
        return {name.removeprefix("predicted/"): self._kept[name] for name in names}
