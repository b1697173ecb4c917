"""What a paper found, at the level found here, and the chance to find it again.

The papers' logs are private or larger, so their changes are compared and not their
levels: errors in percent of the baseline, AUCs in points, as they count themselves.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from experiments.analysis.statistics import LEVEL, SIGNIFICANCE, power
from experiments.analysis.table import Table, row_role


def effect(metric: str, papers: Sequence[float | None], against: float) -> float | None:
    """The paper's difference between two rows, as much as it would be here.

    Args:
      metric: `cvr.mse`, `ctr.auc`, ….
      papers: its numbers for the row and for the baseline; None = not published.
      against: mean of the baseline here.

    Returns:
      The difference; None where a number is missing.
    """
    if None in papers:
        return None
    row, baseline = papers
    if metric.endswith("mse"):
        return float((row - baseline) / baseline * against)
    return float(row - baseline)


def powers(table: Table, metric: str, baseline: str) -> dict[str, float | None]:
    """Row -> the chance that its test against a baseline finds the paper's change.

    It is that of the first step of Holm's correction, where nothing is decided yet.

    Args:
      table: content of `table.json`.
      metric: of the tests.
      baseline: name of one of the layout's.

    Returns:
      Of each row that was tested; None where the paper lacks a number.
    """
    by_role = {row_role(row["row"], row["module"]): row for row in table["rows"]}
    role = table["layout"]["baselines"][baseline]
    theirs = by_role.get(role.format(task=metric.split(".")[0]))
    tested = {
        row["row"]: (row, test)
        for row in table["rows"]
        if (test := row["tests"].get(metric, {}).get(f"vs_{baseline}"))
        and test["p"] is not None
    }
    found: dict[str, float | None] = {}
    for name, (row, test) in tested.items():
        papers = [r["paper"].get(metric) for r in (row, theirs)]
        counts = {len(r["metrics"][metric]["values"]) for r in (row, theirs)}
        seeds = len(table["seeds"])
        if counts != {seeds}:  # they share fewer seeds than each has
            found[name] = None
            continue
        half = (test["ci95"][1] - test["ci95"][0]) / 2
        error = half / stats.t.ppf((1 + LEVEL) / 2, seeds - 1)
        sought = effect(metric, papers, theirs["metrics"][metric]["mean"])
        level = SIGNIFICANCE / len(tested)
        found[name] = power(sought, error * np.sqrt(seeds), seeds, level)
    return found
