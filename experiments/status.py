"""What a study has done, what it is doing, and what is left, with times.

python -m experiments.status runs/lt4rec.table2-video_feed-demo [MORE …]

Reads a work directory and changes nothing in it; a study may be at work there.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.analysis.report.rendering import grid
from experiments.running.monitor import PLAN
from experiments.running.workdir import CONFIG, holder, read_json
from jaxmtl import console


class Status(NamedTuple):
    """Of one work directory.

    Attributes:
      name: of the study.
      rows: module -> how many of its trainings are finished, and their seconds.
      kind: what is counted, seeds of a study or trainings of a tuning.
      searches: ticket searches finished.
      plan: what its last process announced: `trainings`, `done`, `now`, `seeds`,
        `started`, `updated`; empty before it announced anything.
      holder: who is at work in it, or None.
    """

    name: str
    rows: dict[str, tuple[int, float]]
    kind: str
    searches: int
    plan: dict[str, Any]
    holder: str | None


def read(folder: Path) -> Status:
    """The status of a work directory.

    Raises:
      ValueError: it is none, or a file in it is damaged.
    """
    if not (folder / CONFIG).exists():
        raise ValueError(f"{folder}: no {CONFIG} in it, so it is no work directory")
    config = read_json(folder / CONFIG)
    is_study = "name" in config
    files = (
        "rows/*/seed*/seed.json" if is_study else "trials/*/trial*/anchor*/seed*.json"
    )
    seconds: dict[str, list[float]] = {module: [] for module in config["rows"]}
    for path in sorted(folder.glob(files)):
        module = path.relative_to(folder).parts[1]
        seconds.setdefault(module, []).append(read_json(path)["seconds"])
    rows = {module: (len(spent), sum(spent)) for module, spent in seconds.items()}
    plan = read_json(folder / PLAN) if (folder / PLAN).exists() else {}
    searches = len(list(folder.glob("tickets/*/seed*/ticket.json")))
    name, kind = (config["name"], "seeds") if is_study else ("tuning", "trainings")
    return Status(name, rows, kind, searches, plan, holder(folder))


def to_text(status: Status, now: float) -> str:
    """The status for a terminal.

    Args:
      status: of a work directory.
      now: seconds since the epoch.
    """
    plan, total = status.plan, len(status.plan.get("seeds", []))
    of = f" of {total}" if total else ""
    columns = [
        ["row", *status.rows],
        [f"{status.kind} done", *(f"{done}{of}" for done, _ in status.rows.values())],
        ["time", *(_clock(seconds) for _, seconds in status.rows.values())],
    ]
    lines = [
        f"{status.name}: {status.searches} ticket searches kept",
        grid(columns, markdown=False),
    ]
    if plan:
        lines.append(_progress(status, now))
    elif status.holder:
        lines.append(f"{status.holder} is at work, and has announced nothing yet")
    return "\n".join(lines) + "\n"


def _progress(status: Status, now: float) -> str:
    plan = status.plan
    done, of = plan["done"], plan["trainings"]
    used = (now if status.holder else plan["updated"]) - plan["started"]
    said = f"{done} of {of} trainings in {_clock(used)}"
    if done == of:
        return f"{said}; nothing is left"
    if done:
        said += f"; about {_clock((of - done) * used / done)} left"
    if status.holder:
        return f"{said}; now {plan['now']} ({status.holder})"
    return f"{said}; nobody is at work: the same command goes on"


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the status of each work directory; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.status",
        description="Shows what a study has done, is doing and has left.",
    )
    parser.add_argument("workdir", nargs="+", type=Path)
    given = parser.parse_args(argv)
    try:
        print("\n".join(to_text(read(f), time.time()) for f in given.workdir), end="")
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(console.run(main))
