"""What a person watches while a study runs: bar, `metrics.jsonl`, TensorBoard.

And what `experiments.status` reads from another terminal: `plan.json`.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tensorboardX import SummaryWriter
from tqdm import tqdm

from experiments.running.workdir import write_json
from jaxmtl.devices.compilations import Programs
from jaxmtl.training.fit import EpochRecord

OnEpoch = Callable[[EpochRecord], None]
JOINT = "joint"
"""The phase in which a row itself is trained, whether of one task or of several."""
LOG = "metrics.jsonl"
"""A line for each epoch, in the order they ended."""
PLAN = "plan.json"
"""Trainings announced and done by the last process that ran in a work directory."""


class Monitor:
    """Counts trainings (a ticket's rounds and joint training alike).

    Every epoch becomes a line of `metrics.jsonl` and TensorBoard scalars under
    `events/`, `loss/<task>` and `validation/<task>`: a run for each row and seed,
    `<row>/seed<k>`, and one for each round of a ticket's search.

    Attributes:
      programs: that other processes needed.
    """

    def __init__(self, workdir: Path, seeds: Sequence[int] = ()):
        """Begins to watch.

        Args:
          workdir: where to write.
          seeds: that the study trains, for its status.
        """
        self._plan, self._seeds = workdir / PLAN, list(seeds)
        self._started = time.time()
        self._events = workdir / "events"
        log = workdir / LOG
        self._mend(log)
        self._log = log.open("a", encoding="utf-8")
        self._bar: tqdm | None = None
        self._turn = threading.RLock()  # several lanes may have one monitor
        self.programs = Programs()

    def _mend(self, log: Path) -> None:
        """Takes off a last line that a full disk or a kill cut short."""
        content = log.read_bytes() if log.exists() else b""
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(log, whole)

    def expect(self, trainings: int) -> None:
        """Announces work, for the time left; where there is none, no bar appears.

        Fewer than none takes back what was announced and will not be done.
        """
        with self._turn:
            self._expect(trainings)
            if trainings < 0:
                self._tell("")

    def _expect(self, trainings: int) -> None:
        if self._bar is not None:
            self._bar.total += trainings
            self._bar.refresh()
        elif trainings:
            self._bar = tqdm(
                total=trainings,
                unit="training",
                file=sys.stderr,
                dynamic_ncols=True,
                smoothing=0.1,
            )

    @contextlib.contextmanager
    def training(self, run: str, seed: int, phase: str) -> Iterator[OnEpoch]:
        """Watches one announced training; yields what to call after each epoch.

        Args:
          run: the row or ticket trained.
          seed: its seed.
          phase: what of it, `JOINT` or such as `round 2`.
        """
        name = f"{run}/seed{seed}"
        if phase != JOINT:
            name += f"/{phase.replace(' ', '')}"
        self.begin(f"{run} seed {seed} {phase}")
        with SummaryWriter(str(self._events / name), write_to_disk=True) as writer:

            def on_epoch(record: EpochRecord) -> None:
                line = {"run": run, "seed": seed, "phase": phase, **record._asdict()}
                with self._turn:
                    self._log.write(json.dumps(line, allow_nan=False) + "\n")
                    self._log.flush()
                scalars = {f"loss/{t}": x for t, x in record.losses.items()}
                scalars |= {f"validation/{t}": x for t, x in record.validation.items()}
                for tag, value in scalars.items():
                    if value is not None:
                        writer.add_scalar(tag, value, record.epoch)
                self.show(f"epoch {record.epoch}")

            yield on_epoch
        self.end()

    def begin(self, name: str) -> None:
        """Says which training is under way; of several, the one begun last."""
        with self._turn:
            self._bar.set_description(name)
            self._tell(name)

    def show(self, text: str) -> None:
        """Says how far it is."""
        with self._turn:
            self._bar.set_postfix_str(text)

    def end(self) -> None:
        """Counts a training as done."""
        with self._turn:
            self._bar.update(1)
            self._tell("")

    def compiled(self, programs: Programs) -> None:
        """Counts programs that another process needed."""
        self.programs += programs

    def _tell(self, now: str) -> None:
        write_json(
            self._plan,
            {
                "trainings": self._bar.total,
                "done": self._bar.n,
                "now": now,
                "seeds": self._seeds,
                "started": self._started,
                "updated": time.time(),
            },
        )

    def close(self) -> None:
        if self._bar is not None:
            self._bar.set_postfix_str("", refresh=False)
            if self._bar.n == self._bar.total:
                self._bar.set_description("done", refresh=False)
            self._bar.close()
        self._log.close()


class Told(NamedTuple):
    """What a monitor in another process says: a method of `Monitor` to call."""

    method: str
    args: tuple


class Remote(Monitor):
    """The monitor of a process that works for a run: the run's own has the bar."""

    def __init__(self, workdir: Path, send: Callable[[Told], None]):
        """Writes the same files as the run's; `send` carries the rest there."""
        super().__init__(workdir)
        for method in ("expect", "begin", "show", "end", "compiled"):
            tell = lambda *args, method=method: send(Told(method, args))
            setattr(self, method, tell)

    def _mend(self, log: Path) -> None:
        """Leaves it be: what looks cut short may be a line under way."""
