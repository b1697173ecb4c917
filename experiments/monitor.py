"""What a person watches while a study runs: bar, `metrics.jsonl`, TensorBoard."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from tensorboardX import SummaryWriter
from tqdm import tqdm

from jaxmtl.fit import EpochRecord

OnEpoch = Callable[[EpochRecord], None]


class Monitor:
    """Counts trainings (a ticket's rounds and joint training alike).

    Every epoch becomes a line of `metrics.jsonl` and TensorBoard scalars under
    `events/`.
    """

    def __init__(self, workdir: Path):
        self._events = workdir / "events"
        self._log = (workdir / "metrics.jsonl").open("a", encoding="utf-8")
        self._bar: tqdm | None = None

    def expect(self, trainings: int) -> None:
        """Announces work, for the time left; where there is none, no bar appears."""
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
          phase: what of it, such as `round 2` or `joint`.
        """
        name = f"{run}/seed{seed}/{phase.replace(' ', '')}"
        self._bar.set_description(f"{run} seed {seed} {phase}")
        with SummaryWriter(str(self._events / name), write_to_disk=True) as writer:

            def on_epoch(record: EpochRecord) -> None:
                line = {"run": run, "seed": seed, "phase": phase, **record._asdict()}
                self._log.write(json.dumps(line, allow_nan=False) + "\n")
                self._log.flush()
                scalars = {f"loss/{t}": x for t, x in record.losses.items()}
                scalars |= {f"validation/{t}": x for t, x in record.validation.items()}
                for tag, value in scalars.items():
                    if value is not None:
                        writer.add_scalar(tag, value, record.epoch)
                self._bar.set_postfix_str(f"epoch {record.epoch}")

            yield on_epoch
        self._bar.update(1)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.set_postfix_str("", refresh=False)
            if self._bar.n == self._bar.total:
                self._bar.set_description("done", refresh=False)
            self._bar.close()
        self._log.close()
