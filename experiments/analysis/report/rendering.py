"""A table as sections of a page, as Markdown and as text for the terminal.

The layout is that of the paper (its metrics, each with its change against a baseline)
with what the paper leaves out: intervals, tests, the space and the rows that count,
densities, costs.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.analysis.report import effects
from experiments.analysis.report.document import (
    NONE,
    Grid,
    P,
    Section,
    chance_text,
    grid,
    interval_text,
    p_text,
    section_markdown,
)
from experiments.analysis.table import Table, row_role
from jaxmtl import metrics

OWN_EPOCH = "_own_epoch"
POWER = "power"


def write_table(table: Table, folder: str | Path) -> None:
    """Writes `table.json` and `table.md` into a folder, made if it is not there."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(table, indent=1, ensure_ascii=False, allow_nan=False)
    (folder / "table.json").write_text(text + "\n", encoding="utf-8")
    (folder / "table.md").write_text(to_markdown(table), encoding="utf-8")


def to_markdown(table: Table) -> str:
    """The paper's table beside ours, the tests behind it, every other metric."""
    main = main_section(table)
    main = main._replace(notes=[*main.notes, *_provenance(table)])
    parts = [section_markdown(main, 1)]
    further = [*test_sections(table), *metric_sections(table)]
    parts += [section_markdown(section, 2) for section in further]
    return "\n\n".join(parts) + "\n"


def main_section(table: Table) -> Section:
    """The paper's table beside ours; what the numbers are, and what is missing."""
    columns = [
        column for metric in _main(table) for column in _main_columns(table, metric)
    ]
    return Section(
        f"{table['table']} on {table['data']}",
        grids=[Grid([_names(table), *columns, *_cost_columns(table)])],
        notes=_captions(table),
    )


def test_sections(table: Table) -> list[Section]:
    """For each main metric the tests against every baseline."""
    sections = []
    for metric, title in _main(table).items():
        rows = _with_metrics(table, [metric])
        cells = Grid([_names(rows), *_test_columns(table, rows, metric)])
        heading = f"{title} against the baselines"
        sections.append(Section(heading, grids=[cells], foot=_chances(table, cells)))
    return sections


def _chances(table: Table, cells: Grid) -> str:
    """What the intervals and the p of a table's tests are."""
    drawn = table.get("resamples", OLD_RESAMPLES)
    users = f"{drawn:,} paired draws of whole test users" if drawn else "not drawn"
    said = (
        "p: paired t over seeds, with Holm's correction over the rows compared with"
        f" one baseline in this metric. 95 % over users: {users}."
    )
    if any(column[0] == POWER for column in cells.columns):
        said += (
            " power: the chance to decide for the paper's change (an MSE's in percent,"
            " an AUC's in points) if it is true here, with as many seeds, as far apart,"
            " at the correction's first step."
        )
    return said


def metric_sections(table: Table) -> list[Section]:
    """Every metric that is no main one, task by task, then segment by segment."""
    sections = []
    groups: dict[tuple[str, str], list[str]] = {}
    for name in dict.fromkeys(name for row in table["rows"] for name in row["metrics"]):
        if name not in _main(table):
            whole, _, segment = name.partition("@")
            task = whole.split(".")[0]
            if whole.endswith(OWN_EPOCH):
                task += " at its own best epoch"
            groups.setdefault((segment, task), []).append(name)
    # The whole test set, whose segment is the empty name, comes first.
    for (segment, task), names in sorted(groups.items(), key=lambda g: g[0][0]):
        title = (
            f"{task} in segment {segment}" if segment else f"{task}, further metrics"
        )
        rows = _with_metrics(table, names)
        columns = [_value_column(rows, name, _short(name)) for name in names]
        counts = "; ".join(
            f"{_short(name)} on {_scored_on(rows, name)}" for name in names
        )
        cells = Grid([_names(rows), *columns])
        sections.append(Section(title, grids=[cells], foot=f"Scored: {counts}."))
    return sections


def to_text(table: Table) -> str:
    """The main table for a terminal: one block a metric, so that no line wraps."""
    parts = [f"{table['table']} on {table['data']}"]
    parts += [
        grid([_names(table), *_main_columns(table, metric)], markdown=False)
        for metric in _main(table)
    ]
    parts.append(grid([_names(table), *_cost_columns(table)], markdown=False))
    # A command must stay on one line to be copied.
    parts.append(
        "\n".join(
            line if line.startswith("`") else textwrap.fill(line, 88)
            for line in [*_captions(table), *_provenance(table)]
        )
    )
    return "\n\n".join(parts) + "\n"


def _main(table: Table) -> Mapping[str, str]:
    return table["layout"]["main"]


def _baselines(table: Table) -> Mapping[str, str]:
    return table["layout"]["baselines"]


def _names(table: Table) -> list[str]:
    return ["Row", *(row["row"] for row in table["rows"])]


def _with_metrics(table: Table, names: Sequence[str]) -> Table:
    """The table without the rows that measured none of these."""
    rows = [r for r in table["rows"] if not r["metrics"].keys().isdisjoint(names)]
    return {**table, "rows": rows}


def _short(name: str) -> str:
    return name.split(".", 1)[1].partition("@")[0].removesuffix(OWN_EPOCH)


def _number(value: float) -> str:
    return f"{value:.5f}" if abs(value) < 10 else f"{value:,.2f}"


def _value_column(table: Table, name: str, header: str) -> list[str]:
    cells = []
    for row in table["rows"]:
        metric = row["metrics"].get(name)
        if metric is None:
            cells.append(NONE if row["status"] == "ok" else "n/a")
        elif metric["mean"] is None:
            cells.append("undefined")
        else:
            half = metric["ci95"] and (metric["ci95"][1] - metric["ci95"][0]) / 2
            spread = "" if half is None else f" ± {_number(half)}"
            cells.append(_number(metric["mean"]) + spread)
    return [header, *cells]


def _main_columns(table: Table, name: str) -> list[list[str]]:
    against = next(iter(_baselines(table)))
    deltas, ps, papers = [f"Δ vs {against}"], [P], ["paper"]
    theirs = _paper_baseline(table, name)
    for row in table["rows"]:
        test = row["tests"].get(name, {}).get(f"vs_{against}")
        mean = row["metrics"].get(name, {}).get("mean")
        deltas.append(_delta(name, test["difference"], mean) if test else NONE)
        ps.append(p_text(test))
        paper = row["paper"].get(name)
        change = ""
        if None not in (paper, theirs) and paper != theirs:
            change = f" ({_delta(name, paper - theirs, paper)})"
        papers.append(NONE if paper is None else _number(paper) + change)
    columns = [_value_column(table, name, _main(table)[name]), deltas, ps, papers]
    return columns + (_best_columns(table, name) if table["layout"]["has_best"] else [])


def _best_columns(table: Table, name: str) -> list[list[str]]:
    pick = max if metrics.higher_is_better(name.rpartition(".")[2]) else min
    ours, theirs = ["best seed"], ["paper's best"]
    for row in table["rows"]:
        values = row["metrics"].get(name, {}).get("values")
        ours.append(_number(pick(values)) if values else NONE)
        paper = row["paper"].get(f"{name} best")
        theirs.append(NONE if paper is None else _number(paper))
    return [ours, theirs]


def _paper_baseline(table: Table, name: str) -> float | None:
    role = next(iter(_baselines(table).values())).format(task=name.split(".")[0])
    found = (
        r["paper"].get(name)
        for r in table["rows"]
        if row_role(r["row"], r["module"]) == role
    )
    return next(found, None)


def _delta(name: str, difference: float, mean: float) -> str:
    """MSE in percent of the baseline and AUC in points, as the paper does."""
    base = mean - difference
    if name.endswith("mse") and base:
        return f"{100 * difference / base:+.2f} %"
    return f"{difference:+.5f}"


def _test_columns(table: Table, shown: Table, name: str) -> list[list[str]]:
    columns = []
    for title in _baselines(table):
        names = [row["row"] for row in shown["rows"]]
        tests = [row["tests"].get(name, {}).get(f"vs_{title}") for row in shown["rows"]]
        powers = effects.powers(table, name, title)
        columns += [
            [
                f"Δ vs {title}",
                *(f"{t['difference']:+.5f}" if t else NONE for t in tests),
            ],
            ["95 % over seeds", *(interval_text(t and t["ci95"]) for t in tests)],
            [
                "95 % over users",
                *(interval_text(t and t["bootstrap_ci95"]) for t in tests),
            ],
            [P, *map(p_text, tests)],
        ]
        if any(power is not None for power in powers.values()):
            columns.append([POWER, *(chance_text(powers.get(n)) for n in names)])
    return columns


def _cost_columns(table: Table) -> list[list[str]]:
    densities, params, seconds = ["density ctr / cvr"], ["params"], ["s"]
    for row in table["rows"]:
        kept = [row["density"].get(role) for role in ("ctr", "cvr")]
        text = " / ".join(NONE if d is None else f"{d:.3f}" for d in kept)
        densities.append(text if row["density"] else NONE)
        params.append(NONE if row["params"] is None else f"{row['params']:,}")
        seconds.append(f"{row['seconds']:.0f}")
    return [densities, params, seconds]


OLD_SECONDS = (
    "s: wall time of all seeds; the ticket searches and compilations that rows share"
    " are charged to the row that came first."
)
"""What tables meant by a row's time before they said so."""


OLD_RESAMPLES = 200
"""Draws behind the intervals over users of tables that do not say how many."""


def _captions(table: Table) -> list[str]:
    """What the numbers are, and which rows are missing and why."""
    against = next(iter(_baselines(table).values()))
    baseline = " and ".join(
        dict.fromkeys(against.format(task=name.split(".")[0]) for name in _main(table))
    )
    scored = [
        f"{title} on {_scored_on(table, name)}" for name, title in _main(table).items()
    ]
    undefined = [
        f"{title} is undefined: {_why(table, name)}."
        for name, title in _main(table).items()
        if _why(table, name)
    ]
    seeds = ", ".join(map(str, table["seeds"])) or "none"
    lines = [
        f"{'; '.join(scored)}.",
        *undefined,
        f"Mean ± half width of the 95 % t-interval over seeds {seeds}; Δ: against"
        f" {baseline}; p: paired t over seeds with Holm's correction over"
        f" the rows. {table['layout']['paper']}",
        table.get("seconds", OLD_SECONDS),
    ]
    lines += [
        f"{row['row']}: {row['status']}"
        for row in table["rows"]
        if row["status"] != "ok"
    ]
    return lines


def _provenance(table: Table) -> list[str]:
    """Where the data come from, what ran it, and how to redo it."""
    lines = list(table["notes"])
    if table["environment"]:
        lines.append(", ".join(f"{k} {v}" for k, v in table["environment"].items()))
    if table["command"]:
        lines.append(f"`{table['command']}`")
    return lines


def _scored_on(table: Table, name: str) -> str:
    for row in table["rows"]:
        if name in row["metrics"]:
            metric = row["metrics"][name]
            counts = {k: metric[k] for k in ("n", "positives", "users") if k in metric}
            text = ", ".join(f"{k}={v:,}" for k, v in counts.items() if v is not None)
            return f"{metric['space']} rows ({text})"
    return "no rows, as no row of the table predicts it"


def _why(table: Table, name: str) -> str:
    """Why a metric is undefined in the rows that have it; empty where it is not."""
    found = [row["metrics"][name] for row in table["rows"] if name in row["metrics"]]
    metric = next((m for m in found if m["mean"] is None), None)
    if metric is None:
        return ""
    n, positives = metric["n"], metric["positives"]
    if not n:
        return f"the test has no labelled {metric['space']} row"
    if positives in (0, n):
        return f"it needs labels of both kinds, and all {n:,} in the test are alike"
    return "some seed's value is not known"
