"""Every kind of JSON that a study writes: kept, and as a section, Markdown or text.

Tables, the rounds of Figure 4, sweeps of a setting, noise on the inputs, growth of
cross networks, counts of a log and sizes of nets: told apart by their keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments.analysis.report import rendering
from experiments.analysis.report.document import (
    Grid,
    P,
    Section,
    p_text,
    section_markdown,
    section_text,
)
from experiments.running.workdir import write_json

Result = Mapping[str, Any]
"""The content of one of those files."""


def kind(result: Result) -> str | None:
    """What a file holds, or None where it is nothing of a report's."""
    keys = {
        "table": "layout",
        "sweep": "x",
        "noise": "adaptation",
        "growth": "depth",
        "counts": "splits",
        "sizes": "inputs",
        "rounds": "panels",  # those of Figure 4: noise has panels too
    }
    return next((name for name, key in keys.items() if key in result), None)


def section(result: Result) -> Section:
    """A section with the numbers of a file.

    Raises:
      ValueError: it is none that a study writes.
    """
    make = {
        "table": _table,
        "sweep": _sweep,
        "noise": _noise,
        "growth": _growth,
        "counts": _counts,
        "sizes": _sizes,
        "rounds": _rounds,
    }
    name = kind(result)
    if name is None:
        raise ValueError(f"no result of a study: it holds {sorted(result)[:8]}")
    return make[name](result)


def keep(result: Result, folder: Path, file: str) -> str:
    """Writes `<file>.json` and `<file>.md`.

    Args:
      result: of a kind that this module knows.
      folder: to write to.
      file: name of both, without an ending.

    Returns:
      The numbers as text for a terminal.
    """
    write_json(folder / f"{file}.json", result)
    (folder / f"{file}.md").write_text(to_markdown(result), encoding="utf-8")
    return section_text(section(result))


def to_markdown(result: Result) -> str:
    """The numbers of a result, with the command that made them."""
    if kind(result) == "table":
        return rendering.to_markdown(result)
    made = section(result)
    if command := result.get("command"):
        made = made._replace(notes=[*made.notes, f"`{command}`"])
    return section_markdown(made, 1) + "\n"


def tuning_notes(result: Result) -> list[str]:
    """Whether the rows were tuned, where a result says so."""
    return [result["tuning"]] if "tuning" in result else []


def _table(table: Result) -> Section:
    """The main table; tests and all other metrics folded away below it."""
    parts = [
        Section("Tests against the baselines", parts=rendering.test_sections(table)),
        Section("Every other metric", parts=rendering.metric_sections(table)),
    ]
    folded = [part._replace(is_folded=True) for part in parts if part.parts]
    return rendering.main_section(table)._replace(parts=folded)


def _rounds(result: Result) -> Section:
    """Figure 4: by round, weights kept, mean of the validation metric, chosen by."""
    grids = [rounds_grid(title, panel) for title, panel in result["panels"].items()]
    seeds = ", ".join(map(str, result["seeds"]))
    note = "Validation metric of each round of pruning; seeds " + seeds + "."
    return Section(f"Figure 4 on {result['data']}", grids=grids, notes=[note])


def rounds_grid(title: str, panel: Result) -> Grid:
    """A search's rounds as a table.

    Args:
      title: of the task.
      panel: as in `table_figures.figure4`.
    """
    columns = [
        ["round", *(str(number) for number in range(len(panel["density"])))],
        ["weights kept", *(f"{density:.1%}" for density in panel["density"])],
    ]
    values = np.array(panel["values"], float)  # None becomes NaN
    means = [
        "undefined" if np.isnan(mean) else f"{mean:.5f}" for mean in values.mean(axis=0)
    ]
    columns.append([f"mean {panel['metric']}", *means])
    times = [panel["chosen"].count(n) for n in range(len(panel["density"]))]
    columns.append(["chosen by", *(f"{n} of {len(values)}" for n in times)])
    return Grid(columns, title)


def _sweep(result: Result) -> Section:
    """A table a metric: a row a place on the axis, a column a series or a level."""
    grids = []
    for metric, title in result["metrics"].items():
        series = {
            name: {point["x"]: point for point in points}
            for name, points in result["series"].items()
            if any(metric in point["metrics"] for point in points)
        }
        places = sorted({x for points in series.values() for x in points})
        columns = [[result["x"], *(f"{x:g}" for x in places)]]
        for name, points in series.items():
            columns.append([name, *(_value(points.get(x), metric) for x in places)])
        for name, point in result["levels"].items():
            if metric in point["metrics"]:
                columns.append([name, *[_value(point, metric)] * len(places)])
        if series:
            grids.append(Grid(columns, title))
    return Section(_title(result), grids=grids, notes=_over(result))


def _noise(result: Result) -> Section:
    """Adaptation with and without, tested; then every row at every level."""
    tests = result["adaptation"]
    columns = [
        ["inputs", *(test["inputs"] for test in tests)],
        ["without", *(f"{test['without']:.4f}" for test in tests)],
        ["with Ada", *(f"{test['with']:.4f}" for test in tests)],
        ["difference", *(f"{test['difference']:+.4f}" for test in tests)],
        ["95 % over seeds", *map(_interval, tests)],
        [P, *map(p_text, tests)],
    ]
    title = result["metrics"][noise_metric(result)]
    grids = [Grid(columns, f"What adaptation changes: {title}")]
    for name, series in result["panels"].items():
        places = [point["x"] for point in next(iter(series.values()))]
        for metric, metric_title in result["metrics"].items():
            cells = [[name.replace("_", " "), *(f"{x:g}" for x in places)]]
            for row, points in series.items():
                cells.append([row, *(_value(point, metric) for point in points)])
            grids.append(Grid(cells, f"{metric_title}, {name.replace('_', ' ')}"))
    holm = (
        f"p: paired t over seeds, with Holm's correction over all {len(tests)} inputs."
    )
    return Section(_title(result), grids=grids, notes=[*_over(result), holm])


def noise_metric(result: Result) -> str:
    """The metric that is tested and drawn: the last that the log's tasks have."""
    known = {
        metric
        for series in result["panels"].values()
        for points in series.values()
        for point in points
        for metric in point["metrics"]
    }
    return [metric for metric in result["metrics"] if metric in known][-1]


def _growth(result: Result) -> Section:
    grids = []
    for name in ("fields", "depth"):
        part = result[name]
        columns = [[name, *map(str, part["x"])]]
        for crossing, sizes in part["params"].items():
            columns.append([crossing.upper(), *(f"{n:,}" for n in sizes)])
        grids.append(Grid(columns, f"Parameters by {name}, {part['at']}"))
    return Section("Parameters of the cross networks", grids=grids)


def _counts(result: Result) -> Section:
    """Users, items, impressions, clicks and conversions of the log, by split."""
    whole = next(iter(result["splits"].values()))
    rows = [["", *whole]]
    for name, counts in result["splits"].items():
        rows.append([name, *map(_count, counts.values())])
    paper = [_count(result["paper"].get(key)) for key in whole]
    rows.append(["paper: Tencent Video", *paper])
    columns = list(zip(*rows, strict=True))
    return Section(_title(result), grids=[Grid(columns)], notes=result["notes"])


def _sizes(result: Result) -> Section:
    """Parameters and multiply-adds of every row's net."""
    rows = result["rows"]
    first = rows[0]
    share = lambda key: [f"{row[key] / first[key]:.2f}" for row in rows]
    columns = [
        ["Row", *(row["row"] for row in rows)],
        ["net", *(f"{row['net']:,}" for row in rows)],
        [f"of {first['row']}", *share("net")],
        ["tables", *(f"{row['tables']:,}" for row in rows)],
        ["multiply-adds", *(f"{row['multiply-adds']:,.0f}" for row in rows)],
        [f"of {first['row']}", *share("multiply-adds")],
        ["paper", *(_count(row["paper"]) for row in rows)],
    ]
    note = f"{result['inputs']} inputs; multiply-adds of one row, by the compiler."
    return Section(_title(result), grids=[Grid(columns)], notes=[note])


def _title(result: Result) -> str:
    return f"{result.get('figure') or result['table']} on {result['data']}"


def _over(result: Result) -> list[str]:
    """What the numbers are means over, notes, and whether the rows were tuned."""
    seeds = ", ".join(map(str, result["seeds"]))
    means = f"Mean ± half width of the 95 % t-interval over seeds {seeds}."
    return [means, *result.get("notes", ()), *tuning_notes(result)]


def _value(point: Result | None, metric: str) -> str:
    found = point and point["metrics"].get(metric)
    if not found or found["mean"] is None:
        return "–"
    half = found["ci95"] and (found["ci95"][1] - found["ci95"][0]) / 2
    return f"{found['mean']:.4f}" + (f" ± {half:.4f}" if half else "")


def _interval(test: Result) -> str:
    return "–" if test["low"] is None else f"{test['low']:+.4f} … {test['high']:+.4f}"


def _count(value: float | None) -> str:
    if value is None:
        return "–"
    is_whole = float(value).is_integer()
    return f"{value:,.0f}" if is_whole else f"{value:,.4f}"
