"""A ticket search on disk: its finished rounds, and the search once it is finished.

A round's mask is written before the round is trained. That is also what commits the
round before: with a mask and the outcomes of all rounds up to it a search goes on. A
mask that training has moved is written beside that which it began as.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from experiments.running.workdir import read_arrays, read_json, write_arrays, write_json
from jaxmtl import sealed
from jaxmtl.sparsity import masks
from jaxmtl.sparsity.tickets import Round
from jaxmtl.training.fit import Fit
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
    write_arrays(_begun_file(where, len(before)), masks.pack(mask))
    write_json(where / ROUNDS, [outcome._asdict() for outcome in before])
    if before:
        shutil.rmtree(progress(where, len(before) - 1), ignore_errors=True)


def end_round(where: Path, number: int, mask: Mask) -> None:
    """Writes the mask that a round ended with, where training moves it."""
    write_arrays(_moved_file(where, number), masks.pack(mask))


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
        ended = [_mask(_mask_file(where, n), like) for n in range(len(outcomes))]
        begun = _mask(_begun_file(where, len(outcomes)), like)
        return [*ended, begun], outcomes
    except sealed.Unreadable:
        raise  # it may be sound
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
    seals = [sealed.digest(_mask_file(where, n)) for n in range(len(rounds))]
    write_json(where / DONE, about | {"rounds": listed, "sha256": seals})
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


def read(where: Path, like: Mask, about: dict) -> tuple[Round, ...]:
    """The rounds of a finished search.

    Args:
      where: its folder.
      like: structure and shapes of its masks.
      about: JSON-able; what `finish` must have been told, among other things.

    Raises:
      ValueError: a file is damaged or of another search; names it.
    """
    record = read_record(where)
    for key, value in about.items():
        if record.get(key) != value:
            raise ValueError(
                f"{where / DONE} is of another search: its {key} differs; put back what"
                f" was there, or delete {where} to search again"
            )
    for number, seal in enumerate(record["sha256"]):
        file = _mask_file(where, number)
        if file.is_file() and sealed.digest(file) != seal:
            raise ValueError(
                f"{file} is not the mask that this search found; put back what was"
                f" there, or delete {where} to search again"
            )
    listed = enumerate(record["rounds"])
    return tuple(Round(_mask(_mask_file(where, n), like), **r) for n, r in listed)


def _mask(file: Path, like: Mask) -> Mask:
    return masks.unpack(read_arrays(file), like)


def _mask_file(where: Path, number: int) -> Path:
    """Of the mask that a finished round ended with."""
    moved = _moved_file(where, number)
    return moved if moved.exists() else _begun_file(where, number)


def _begun_file(where: Path, number: int) -> Path:
    return where / f"round{number}.npz"


def _moved_file(where: Path, number: int) -> Path:
    return where / f"round{number}-moved.npz"
