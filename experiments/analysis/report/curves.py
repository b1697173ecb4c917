"""ROC curves and calibration of a study's rows, from their stored test predictions.

Averaged over seeds: a ROC curve at fixed false positive rates ("vertical averaging",
Fawcett, "An introduction to ROC analysis", 2006, section 7), calibration in bins of
equally many rows, from the least to the greatest prediction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from experiments.running.workdir import read_arrays
from experiments.settings import scores
from experiments.settings.ablation import Ablation
from jaxmtl.data.store import Dataset

RATES = np.linspace(0, 1, 101)
"""False positive rates at which ROC curves are averaged."""
BINS = 10
DIGITS = 5
"""Significant ones, kept in the file: more than a figure shows."""


def measure(
    rows: Sequence[Ablation], seeds: Sequence[int], data: Dataset, workdir: Path
) -> dict[str, Any]:
    """The curves of every row that has predictions of all seeds.

    Args:
      rows: of the study.
      seeds: to average over.
      data: the log that the rows were trained on.
      workdir: of the run.

    Returns:
      JSON-able: `rates`, and `rows`: module -> role -> `row`, its name, `n`, the test
      rows in the role's space, `roc`, true positive rates [len(rates)] (None where a
      class is missing or the label is continuous), and `calibration`: `predicted` and
      `observed`, [bins] each.
    """
    labels, found = scores.labels_of(data, "test"), {}
    for row in rows:
        folders = [workdir / "rows" / row.module / f"seed{seed}" for seed in seeds]
        files = [folder / "predictions.npz" for folder in folders]
        if all(file.exists() for file in files):
            predictions = [read_arrays(file) for file in files]
            found[row.module] = {
                scores.prefix(data.schema, name): {"row": row.row.name}
                | _measure_task(data, labels, name, [p[name] for p in predictions])
                for name in predictions[0]
            }
    return {"rates": RATES.tolist(), "rows": found}


def roc(labels: ArrayLike, predicted: ArrayLike) -> np.ndarray | None:
    """True positive rates at the false positive rates `RATES`.

    Between two thresholds the curve is a straight line, as ties are in the AUC.

    Args:
      labels: [n], 0 or 1.
      predicted: [n], finite; only their order matters.

    Returns:
      float64 [len(RATES)], from the highest rate at no false positive up to 1; None
      when a class is missing.
    """
    positive = np.asarray(labels) > 0
    if positive.all() or not positive.any():
        return None
    predicted = np.asarray(predicted)
    order = np.argsort(-predicted, kind="stable")
    is_last = np.append(np.diff(predicted[order]) != 0, True)  # of its threshold
    true = np.cumsum(positive[order])[is_last]
    false = np.cumsum(~positive[order])[is_last]
    x, y = (np.insert(count / count[-1], 0, 0.0) for count in (false, true))
    return np.interp(RATES, x, y)


def calibration(labels: ArrayLike, predicted: ArrayLike) -> tuple[np.ndarray, ...]:
    """Mean prediction and mean label in each of `BINS` bins of equally many rows.

    Args:
      labels: [n], at least one; of any kind.
      predicted: [n], finite.

    Returns:
      Two float64 arrays, [min(BINS, n)], by rising prediction.
    """
    labels, predicted = np.asarray(labels, np.float64), np.asarray(predicted)
    order = np.argsort(predicted, kind="stable")
    bins = np.array_split(order, min(BINS, len(order)))
    means = lambda column: np.array([column[rows].mean(dtype=float) for rows in bins])
    return means(predicted), means(labels)


def _measure_task(
    data: Dataset,
    labels: Mapping[str, np.ndarray],
    name: str,
    predictions: Sequence[np.ndarray],
) -> dict[str, Any]:
    task = scores.task_of(data.schema, name)
    inside = task.inside(labels)
    label = labels[name][inside]
    found: dict[str, Any] = {"n": len(label), "roc": None, "calibration": None}
    if not len(label):
        return found
    mean = lambda parts: [float(f"{x:.{DIGITS}g}") for x in np.mean(parts, axis=0)]
    if task.kind == "binary":
        curves = [roc(label, p[inside]) for p in predictions]
        if curves[0] is not None:
            found["roc"] = mean(curves)
    pairs = [calibration(label, p[inside]) for p in predictions]
    predicted, observed = map(mean, zip(*pairs, strict=True))
    found["calibration"] = {"predicted": predicted, "observed": observed}
    return found
