"""Figure: where does which way of sharing pay? A map over conflict and click rate.

On the simulated feed it is known how far the tasks' true preferences are apart
(`--data.feed.conflict`) and how rare clicks are. Every row is trained at each click
rate and conflict of one world, drawn from one seed: users, videos and impressions are
the same everywhere, and so are, at a click rate, all click labels. What is found in it
may be that world's alone. Methods are compared with the single task, and s-weight's
controls with s-weight: differences are paired by seed, and corrected by Holm over all
rows and settings of a metric. What a single setting is too noisy to decide, its margins
may: the same differences of means over all conflicts, by click rate, and the other way
round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from experiments.analysis import study, sweeps
from experiments.analysis.context import Context
from experiments.analysis.figures import conflict_figures
from experiments.analysis.report.rendering import grid
from experiments.analysis.statistics import holm, is_significant, paired_t
from experiments.analysis.table import RowResult, describe_environment
from experiments.lt4rec import (
    base_ctr,
    base_cvr,
    controls,
    dcrnn,
    hard_sharing,
    hard_sharing_trunk,
    mmoe,
    random_masks,
    s_neuron,
    s_weight,
    ticket_ctr,
    ticket_cvr,
)
from experiments.running.workdir import write_json
from experiments.settings import sources
from experiments.settings.ablation import Ablation
from jaxmtl.data.store import Dataset

METHODS = (
    base_ctr,
    base_cvr,
    ticket_ctr,
    ticket_cvr,
    hard_sharing,
    hard_sharing_trunk,
    mmoe,
    dcrnn,
    random_masks,
    s_weight,
    s_neuron,
)
CONTROLS = controls.VARIANTS
ROWS = tuple(dict.fromkeys((*METHODS, *CONTROLS)))
TUNED_AS = controls.TUNED_AS
CONFLICTS = (0.0, 0.25, 0.5, 0.75, 1.0)
CLICK_RATES = (0.4, 0.1, 0.04)
AXES = {"click_rate": "click rate", "conflict": "conflict"}
PAIRS = {
    "base ctr": "base",
    "base cvr": "base",
    "ticket ctr": "ticket",
    "ticket cvr": "ticket",
}
"""Rows of one task each that are one method."""
SAME = (
    "{}: users, videos, impressions and, at a click rate, all click labels are the"
    " same. Intervals and p are over seeds of the models and tell nothing of other"
    " worlds."
)


class Family(NamedTuple):
    """Rows that are compared with one of them, and corrected together.

    Attributes:
      file: name of its results, without an ending.
      reference: the method they are compared with.
      rows: their modules.
    """

    file: str
    reference: str
    rows: Sequence[ModuleType]


FAMILIES = (
    Family("conflict", "base", METHODS),
    Family("conflict_controls", "s-weight", (s_weight, *CONTROLS)),
)


def run(context: Context) -> str:
    """Trains every row in every setting; writes a JSON and figures for each family."""
    worlds = {
        (rate, conflict): _world(context, rate, conflict)
        for rate in CLICK_RATES
        for conflict in CONFLICTS
    }
    points = {
        f"{rate:g}/{conflict:g}": [
            _point(context, row, rate, conflict, data) for row in context.rows
        ]
        for (rate, conflict), data in worlds.items()
    }
    trained = sweeps.train(context, points)
    metrics = dict(context.layout.main)
    found = [
        {
            "click_rate": rate,
            "conflict": conflict,
            "oracle": _oracle(data, metrics),
            "rows": by_method(context.rows, trained[f"{rate:g}/{conflict:g}"], metrics),
        }
        for (rate, conflict), data in worlds.items()
    ]
    about = {
        **context.about,
        "environment": describe_environment(),
        "metrics": metrics,
    }
    parts = [_write(context, about, found, family) for family in FAMILIES]
    return "\n\n".join(part for part in parts if part) + "\n"


def _write(
    context: Context,
    about: Mapping[str, Any],
    worlds: Sequence[Mapping[str, Any]],
    family: Family,
) -> str:
    """A family's files; its text, empty where none of its rows was trained."""
    names = {PAIRS.get(row.ROW.name, row.ROW.name) for row in family.rows}
    mine = [
        {**w, "rows": {n: cells for n, cells in w["rows"].items() if n in names}}
        for w in worlds
    ]
    if set(mine[0]["rows"]) <= {family.reference}:
        return ""
    metrics, reference = list(about["metrics"]), family.reference
    result = {
        **about,
        "reference": reference,
        "worlds": compare(mine, metrics, reference),
        "margins": margins(mine, metrics, reference),
    }
    folder = context.workdir
    write_json(folder / f"{family.file}.json", result)
    text = to_markdown(result)
    (folder / f"{family.file}.md").write_text(text, encoding="utf-8")
    drawn = conflict_figures.draw(result, folder, family.file)
    files = ", ".join([f"{family.file}.json", f"{family.file}.md", *drawn])
    return f"{to_text(result)}\n\nwritten to {folder}: {files}, rows/"


def _world(context: Context, rate: float, conflict: float) -> Dataset:
    config = context.rows[0].config.data
    if config.name != "video_feed":
        raise ValueError(
            f"{context.name} needs a log that knows its truth, --data.name is"
            f" {config.name}; leave it at video_feed"
        )
    feed = replace(config.feed, click_rate=rate, conflict=conflict)
    return sources.load(replace(config, feed=feed), say=lambda text: None)


def _point(
    context: Context, row: Ablation, rate: float, conflict: float, data: Dataset
) -> sweeps.Point:
    name = f"{context.name}.{row.row.name}-rate{rate:g}-conflict{conflict:g}"
    return sweeps.Point(conflict, row._replace(module=name), data)


def _oracle(data: Dataset, metrics: Mapping[str, str]) -> dict[str, float | None]:
    known = study.oracle(data).metrics
    return {metric: known[metric][0].value for metric in metrics}


def by_method(
    rows: Sequence[Ablation], results: Sequence[RowResult], metrics: Mapping[str, str]
) -> dict[str, dict[str, dict[str, Any]]]:
    """Method -> metric -> mean, interval and values; both single tasks are one."""
    found: dict[str, dict[str, dict]] = {}
    for row, result in zip(rows, results, strict=True):
        mine = found.setdefault(PAIRS.get(row.row.name, row.row.name), {})
        mine |= {m: sweeps.summary(result, m) for m in metrics if m in result.metrics}
    return found


def compare(
    worlds: Sequence[Mapping[str, Any]], metrics: Sequence[str], reference: str
) -> list[dict[str, Any]]:
    """The settings with each method's values beside the reference's, Holm-corrected.

    Args:
      worlds: the feed's settings, each with `rows`, method -> metric -> {"mean",
        "values", ...}, and `oracle`, metric -> the best attainable value.
      metrics: one family of tests each, over all methods and settings.
      reference: the method that the others are compared with.

    Returns:
      The settings, each cell but the reference's with `difference`: mean, 95 %
      interval, p, p_holm, and which share of the reference's distance to the oracle it
      closes.
    """
    worlds = [
        {**w, "rows": {n: dict(cells) for n, cells in w["rows"].items()}}
        for w in worlds
    ]
    for metric in metrics:
        found = []
        for world in worlds:
            level = world["rows"][reference][metric]
            for name, cells in world["rows"].items():
                values = cells[metric]["values"]
                known = None not in [*values, *level["values"]]
                if name != reference and len(values) > 1 and known:
                    test = paired_t(values, level["values"])
                    gap = world["oracle"][metric] - level["mean"]
                    found.append((cells, test, test.difference / gap))
        corrected = holm([test.p for _, test, _ in found])
        for (cells, test, closed), p in zip(found, corrected, strict=True):
            difference = {
                "mean": test.difference,
                "ci95": [test.low, test.high],
                "p": test.p,
                "p_holm": p,
                "closed": closed,
            }
            cells[metric] = cells[metric] | {"difference": difference}
    return worlds


def margins(
    worlds: Sequence[Mapping[str, Any]], metrics: Sequence[str], reference: str
) -> dict[str, list[dict[str, Any]]]:
    """`compare` for the means over settings of one click rate, and of one conflict.

    Returns:
      Each of `AXES` -> a mean for each of its values; one family of tests a metric.
    """
    return {axis: compare(_pool(worlds, axis), metrics, reference) for axis in AXES}


def _pool(worlds: Sequence[Mapping[str, Any]], axis: str) -> list[dict[str, Any]]:
    found = []
    for value in dict.fromkeys(world[axis] for world in worlds):
        same = [world for world in worlds if world[axis] == value]
        first = same[0]
        rows = {
            name: {m: _mean([w["rows"][name][m] for w in same]) for m in cells}
            for name, cells in first["rows"].items()
        }
        oracle = {
            m: float(np.mean([w["oracle"][m] for w in same])) for m in first["oracle"]
        }
        found.append({axis: value, "oracle": oracle, "rows": rows})
    return found


def _mean(cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of some settings' values, seed by seed; undefined where one of them is."""
    values = [cell["values"] for cell in cells]
    if any(None in seeds for seeds in values):
        return {"mean": None, "values": [None] * len(values[0])}
    means = np.mean(values, axis=0)
    return {"mean": float(means.mean()), "values": means.tolist()}


def to_text(result: Mapping[str, Any], *, markdown: bool = False) -> str:
    """For each metric a grid of each margin and one of the settings.

    A row a setting, a column a method: its difference to the reference, and in brackets
    the share of the reference's distance to the oracle.
    """
    parts, reference = [], result["reference"]
    for metric, title in result["metrics"].items():
        parts.append(
            f"{title}, change to {reference} (* p < .05 after Holm's correction over"
            " a table; in brackets, the share of its distance to the oracle)"
        )
        tables = [(result["margins"][axis], (axis,)) for axis in AXES]
        for worlds, axes in (*tables, (result["worlds"], AXES)):
            columns = _columns(worlds, axes, metric, reference)
            parts.append(grid(columns, markdown=markdown))
    return "\n\n".join(parts)


def _columns(
    worlds: Sequence[Mapping], axes: Sequence[str], metric: str, reference: str
) -> list[list[str]]:
    level = (w["rows"][reference][metric]["mean"] for w in worlds)
    others = [name for name in worlds[0]["rows"] if name != reference]
    return [
        *([AXES[axis], *(f"{w[axis]:g}" for w in worlds)] for axis in axes),
        ["oracle", *(f"{w['oracle'][metric]:.4f}" for w in worlds)],
        [reference, *("–" if x is None else f"{x:.4f}" for x in level)],
        *([n, *(_cell(w["rows"][n][metric]) for w in worlds)] for n in others),
    ]


def to_markdown(result: Mapping[str, Any]) -> str:
    """The map as its Markdown file."""
    seeds = ", ".join(map(str, result["seeds"]))
    return (
        f"# {result['figure']} on {result['data']}: changes to {result['reference']}"
        f"\n\n{to_text(result, markdown=True)}"
        f"\n\n- {SAME.format(conflict_figures.extent(result))}\n- Seeds {seeds}."
        f"\n- {result['tuning']}\n- `{result['command']}`\n"
    )


def _cell(found: Mapping[str, Any]) -> str:
    test = found.get("difference")
    if test is None:  # undefined, or of a single seed
        return "–"
    star = "*" if is_significant(test["p_holm"]) else ""
    return f"{test['mean']:+.4f}{star} ({test['closed']:+.0%})"
