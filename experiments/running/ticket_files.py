"""A ticket search on disk: its finished rounds, and the search once it is finished.

A round's mask is written before the round is trained. That is also what commits the
round before: with a mask and the outcomes of all rounds up to it a search goes on.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from experiments.running.workdir import read_arrays, read_json, write_arrays, write_json
from jaxmtl import masks
from jaxmtl.fit import Fit
from jaxmtl.tickets import Round
from jaxmtl.types import Mask

DONE = "ticket.json"
"""Says that the search is finished, and holds what its rounds came to."""
ROUNDS = "rounds.json"
"""What the rounds of an unfinished search came to."""


class Outcome(NamedTuple):
    """What a round came to, beside its mask.

    Attributes:
      value: validation metric of the best epoch; None = undefined.
      best_epoch: counted from 1.
      skipped: steps whose loss or gradient was not finite.
      seconds: it took.
    """

    value: float | None
    best_epoch: int
    skipped: int
    seconds: float

    @classmethod
    def of(cls, result: Fit, task: str, seconds: float) -> Outcome:
        """The outcome of a round's training."""
        skipped = sum(record.skipped for record in result.history)
        return cls(result.value(task), result.best_epoch, skipped, seconds)


def begin_round(where: Path, mask: Mask, before: Sequence[Outcome]) -> None:
    """Writes the mask of the round that begins; commits the rounds before it."""
    write_arrays(where / f"round{len(before)}.npz", masks.pack(mask))
    write_json(where / ROUNDS, [outcome._asdict() for outcome in before])
    if before:
        shutil.rmtree(progress(where, len(before) - 1), ignore_errors=True)


def progress(where: Path, number: int) -> Path:
    """The folder in which a round's training keeps its progress."""
    return where / f"progress{number}"


def read_unfinished(
    where: Path, like: Mask, say: Callable[[str], None]
) -> tuple[list[Mask], list[Outcome]]:
    """Masks of the rounds begun and outcomes of those that ended, one fewer.

    Both are empty where no round was begun, or where a file is damaged: `say` is
    told, and the search begins anew.
    """
    if not (where / ROUNDS).exists():
        return [], []
    try:
        outcomes = [Outcome(**outcome) for outcome in read_json(where / ROUNDS)]
        return [_mask(where, n, like) for n in range(len(outcomes) + 1)], outcomes
    except ValueError as error:
        say(f"{error}; that search begins anew")
        shutil.rmtree(where)
        return [], []


def rounds_done(where: Path) -> int:
    """How many rounds of an unfinished search ended."""
    return len(read_json(where / ROUNDS)) if (where / ROUNDS).exists() else 0


def finish(where: Path, rounds: Sequence[Round], about: dict) -> None:
    """Commits a search and deletes what was kept to go on with it."""
    listed = [
        {"density": r.density, "value": r.value, "best_epoch": r.best_epoch}
        for r in rounds
    ]
    write_json(where / DONE, about | {"rounds": listed})
    tidy(where)


def tidy(where: Path) -> None:
    """Deletes what a finished search no longer needs."""
    (where / ROUNDS).unlink(missing_ok=True)
    for folder in where.glob("progress*"):  # another reader may be at it too
        shutil.rmtree(folder, ignore_errors=True)


def read_record(where: Path) -> dict:
    """What `finish` was told of a search, and its rounds.

    Raises:
      ValueError: the file is damaged; names it.
    """
    return read_json(where / DONE)


def read(where: Path, like: Mask) -> tuple[Round, ...]:
    """The rounds of a finished search.

    Raises:
      ValueError: a file is damaged; names it.
    """
    listed = read_record(where)["rounds"]
    return tuple(Round(_mask(where, n, like), **r) for n, r in enumerate(listed))


def _mask(where: Path, number: int, like: Mask) -> Mask:
    return masks.unpack(read_arrays(where / f"round{number}.npz"), like)
