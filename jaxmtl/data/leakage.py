"""Features that are labels in disguise.

The classic: the label of "clicked and bought" is left among the features, and the
conversion model reaches an AUC of 1. Other disguises are an amount that is known
only after a purchase, a time of order, an id that only orders have, a tag that the
system adds once an item is sold.

Every feature is asked alone to predict every task, on the rows of the task's own
label space, and its *concordance* is measured: the chance that of two rows with
different labels the one with the larger label scores higher, a tie counting half.
For binary labels that is the AUC; for others it is (1 + Somers' D) / 2 (Somers, "A
New Asymmetric Measure of Association for Ordinal Variables", 1962).

- Ids score by the mean label of their rows in one half of the sample, and are
  judged on the other half, so an id of its own for every row predicts nothing. A
  row with several ids scores by the sum of their log odds, as naive Bayes would; no
  id at all is an id too, since an empty list can tell as much.
- Numbers score by their size, up or down; and by their distinct values as ids, so
  that "zero", "missing" or a code tells what it tells.

One strong feature is no leak: honest ones stay well below .95 alone, since people
hesitate. A verdict needs the score and enough rows behind it, see `verdict`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Literal, NamedTuple

import numpy as np
from scipy.stats import kendalltau

from jaxmtl.types import PADDING, Rows, Schema, Task

LEAK, SUSPICIOUS = 0.995, 0.95
"""Scores from which on a feature is called so. Noise in the records (a label that
came late, a default value) keeps real leaks a little below 1."""
FLOORS = {"leak": 0.95, "suspicious": 0.9}
"""What chance alone must not explain: see `verdict`."""
EMPTY = PADDING - 1
"""Stands for the ids of a row that has none."""
ALPHA = 1e-3
"""How unlikely chance must be. Some hundred pairs of feature and task are tried."""


class LeakedLabel(ValueError):
    """A feature gives a label away."""


class Finding(NamedTuple):
    """A feature that predicts a task too well.

    Attributes:
      task: name of the task.
      feature: name of the field or numeric column.
      score: concordance, .95 … 1; the AUC of a binary task.
      verdict: how sure it is.
    """

    task: str
    feature: str
    score: float
    verdict: Literal["leak", "suspicious"]


def check(
    schema: Schema, rows: Rows, *, sample: int = 100_000, seed: int = 0
) -> list[Finding]:
    """Looks for features that give a label away.

    Args:
      schema: of the rows.
      rows: training rows, in memory or mapped from a file.
      sample: rows to look at for each task, drawn from its label space. Of a
        binary task up to half of them are of the rarer class, however rare; the
        AUC does not depend on its share.
      seed: of the draw.

    Returns:
      What was found, the highest score first.
    """
    found = []
    for task in schema.tasks:
        # A stream of its own: labels simulated from the same seed must not decide
        # which half of the sample a row falls into.
        rng = np.random.default_rng([seed, *b"leakage"])
        at = _draw(task, rows, sample, rng)
        label = np.asarray(rows.labels[task.name][at], np.float64) / task.high
        fit = rng.random(at.size) < 0.5
        for feature, score, judged in _scores(schema, rows, at, label, fit):
            says = verdict(score, _evidence(judged))
            if says is not None:
                found.append(Finding(task.name, feature, score, says))
    return sorted(found, key=lambda finding: -finding.score)


def refuse_leaks(schema: Schema, rows: Rows, allow: Collection[str] = ()) -> list[str]:
    """Refuses a log with a feature that gives a label away.

    Args:
      schema: of the rows.
      rows: training rows.
      allow: features that may: what they say is known when a prediction is made.

    Returns:
      A line for each suspicious feature, and for each leak that is allowed.

    Raises:
      LeakedLabel: some feature gives a label away; names it, task and score.
      ValueError: `allow` names no feature.
    """
    features = [*(field.name for field in schema.fields), *schema.numeric]
    unknown = sorted(set(allow) - set(features))
    if unknown:
        raise ValueError(
            f"--data.allow-leaks names {unknown}, which schema {schema.name} does not"
            f" have; its features are {features}"
        )
    found = check(schema, rows)
    refused = [f for f in found if f.verdict == "leak" and f.feature not in allow]
    if refused:
        names = " ".join(dict.fromkeys(finding.feature for finding in refused))
        raise LeakedLabel(
            f"{schema.name}: {'; '.join(map(_say, refused))}. A feature that alone"
            " predicts a label is mostly the label in disguise, known only"
            " afterwards. Drop it from the schema; or, if it is known when a"
            f" prediction is made, allow it with --data.allow-leaks {names}"
        )
    question = "is it known when a prediction is made?"
    return [
        f"{_say(f)}: {'allowed' if f.feature in allow else f'suspicious; {question}'}"
        for f in found
    ]


def verdict(score: float, evidence: int) -> Literal["leak", "suspicious"] | None:
    """What a score says, given the rows behind it.

    A leak scores `LEAK`, and it is out of the question that a feature of true score
    .95 did so by luck (`FLOORS`); a suspicious one scores `SUSPICIOUS`, and one of
    true score .9 did not. The bound is Chernoff's for the mean of `evidence` values
    in [0, 1], the share of negatives below each positive: with a perfect score it
    takes 135 of the rarer class to refuse, and 66 to warn.

    Args:
      score: concordance, in [0, 1].
      evidence: rows of the rarer class; for other labels, rows whose label is not
        the commonest one.
    """
    for name, threshold in (("leak", LEAK), ("suspicious", SUSPICIOUS)):
        luck = np.exp(-evidence * _divergence(score, FLOORS[name]))
        if score >= threshold and luck <= ALPHA:
            return name
    return None


def concordance(labels: np.ndarray, scores: np.ndarray) -> float:
    """Chance that of two rows with different labels the larger one scores higher.

    Args:
      labels: [n], any numbers.
      scores: [n], any numbers; a tie counts half.

    Returns:
      In [0, 1]; .5 where all labels, or all scores, are equal.
    """
    by_label, by_score = _pairs(labels), _pairs(scores)
    if by_label == 0 or by_score == 0:
        return 0.5
    tau = kendalltau(labels, scores).statistic
    # Kendall's tau-b divides by the geometric mean of the pairs that differ in
    # label and those that differ in score; Somers' D by the former alone.
    return 0.5 + float(tau * np.sqrt(by_score / by_label)) / 2


def _say(finding: Finding) -> str:
    return (
        f"feature {finding.feature!r} alone predicts {finding.task!r} with a score of"
        f" {finding.score:.4f} (1 = perfectly)"
    )


def _draw(task: Task, rows: Rows, sample: int, rng: np.random.Generator) -> np.ndarray:
    """Indices of rows inside the task's space, in order: a mapped file is scanned."""
    inside = np.flatnonzero(task.inside(rows.labels))
    if inside.size <= sample:
        return inside
    if task.kind == "continuous":
        return np.sort(rng.choice(inside, sample, replace=False))
    label = rows.labels[task.name][inside]
    rare, common = sorted((inside[label > 0], inside[label == 0]), key=len)
    few = rng.permutation(rare)[: sample // 2]
    many = rng.permutation(common)[: sample - few.size]
    return np.sort(np.concatenate([few, many]))


def _scores(
    schema: Schema, rows: Rows, at: np.ndarray, label: np.ndarray, fit: np.ndarray
) -> Iterator[tuple[str, float, np.ndarray]]:
    """Yields every feature, its score, and the labels that it was judged on."""
    ids, numeric = np.asarray(rows.ids[at]), np.asarray(rows.numeric[at])
    judged = label[~fit]
    for field in schema.fields:
        first = schema.column(field.name)
        odds = _odds(ids[:, first : first + field.slots], label, fit)
        yield field.name, concordance(judged, odds[~fit]), judged
    for name, values in zip(schema.numeric, numeric.T, strict=True):
        up = concordance(label, values)
        codes = np.unique(values, return_inverse=True)[1]
        by_value = concordance(judged, _odds(codes[:, None], label, fit)[~fit])
        by_size = (name, max(up, 1 - up), label)
        yield max((name, by_value, judged), by_size, key=lambda scored: scored[1])


def _odds(ids: np.ndarray, label: np.ndarray, fit: np.ndarray) -> np.ndarray:
    """How far each row's ids move the odds of its label, by the rows of `fit`.

    Args:
      ids: int [n, slots], `PADDING` = none.
      label: [n], in [0, 1].
      fit: bool [n].

    Returns:
      [n]: the sum over ids of the log odds of their mean label, less those of the
      mean of all; 0 for an id that `fit` does not hold.
    """
    prior = label[fit].mean() if fit.any() else 0.0
    if not 0 < prior < 1:
        return np.zeros(label.size)
    ids = ids.copy()
    ids[(ids == PADDING).all(axis=1), 0] = EMPTY
    known, code = np.unique(ids, return_inverse=True)
    code = code.reshape(ids.shape)
    seen, weight = code[fit].ravel(), label[fit].repeat(ids.shape[1])
    count = np.bincount(seen, minlength=known.size)
    total = np.bincount(seen, weight, minlength=known.size)
    # One row of the prior: an id seen once says little.
    mean = (total + prior) / (count + 1)
    odds = np.log(mean / (1 - mean)) - np.log(prior / (1 - prior))
    odds[known == PADDING] = 0
    return odds[code].sum(axis=1)


def _evidence(label: np.ndarray) -> int:
    counts = np.unique(label, return_counts=True)[1]
    return label.size - int(counts.max(initial=0))


def _divergence(score: float, floor: float) -> float:
    """Kullback and Leibler's, of a coin of chance `score` from one of `floor`."""
    if score <= floor:
        return 0.0
    tail = 0.0 if score >= 1 else (1 - score) * np.log((1 - score) / (1 - floor))
    return score * np.log(score / floor) + tail


def _pairs(values: np.ndarray) -> float:
    """Pairs of rows whose values differ."""
    counts = np.unique(values, return_counts=True)[1].astype(np.float64)
    return (values.size**2 - (counts**2).sum()) / 2
