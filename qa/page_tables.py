"""Tables of the pages, each made of the JSON of a study's results.

At most four columns, so that a telephone shows them. `python -m qa.pages` writes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from experiments.analysis import statistics


def changes(result: Any, baseline: str, *columns: str) -> str:
    """Rows of a table: for each metric the change to a baseline, or its own level.

    A column is a metric, `paper:METRIC` or `params`; an MSE changes in percent.
    * p < .05, paired t over seeds, after Holm's correction over the rows.
    """
    folder, _, _ = result["table"].partition(".")
    module = f"{folder}.{result['layout']['baselines'][baseline]}"

    def cell(row: Any, column: str) -> str:
        source, _, metric = column.rpartition(":")
        if column == "params":
            return f"{row['params']:,}" if row.get("params") else "–"
        name = module.format(task=metric.partition(".")[0])
        first = next(row for row in result["rows"] if row["module"] == name)
        if metric not in row["paper" if source else "metrics"]:
            return "–"
        if source:
            return _change(metric, row["paper"][metric], first["paper"][metric])
        level, base = row["metrics"][metric], first["metrics"][metric]
        if row is first:
            return f"{level['mean']:.4f} ± {_half(level['ci95'])}"
        test = row["tests"].get(metric, {}).get(f"vs_{baseline}", {})
        star = "*" * statistics.is_significant(test.get("p_holm"))
        return _change(metric, level["mean"], base["mean"]) + star

    body = ([row["row"], *(cell(row, c) for c in columns)] for row in result["rows"])
    filled = [row for row in body if set(row[1:]) != {"–"}]
    return _grid(["row", *(_title(result, c) for c in columns)], filled)


def _title(result: Any, column: str) -> str:
    titles = result["layout"]["main"] | {"params": "parameters"}
    return titles[column.removeprefix("paper:")] + ", paper" * (":" in column)


def _change(metric: str, level: float, base: float) -> str:
    if level == base:
        return f"{level:.4f}"
    if metric.endswith("mse"):
        return f"{100 * (level / base - 1):+.1f} %"
    return f"{level - base:+.4f}"


def _figures(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 1 else f"{value:,.4g}"


def _p(test: Any) -> str:
    return "<.001" if test["p_holm"] < 0.001 else f"{test['p_holm']:.3f}"


def _half(ends: Sequence[float]) -> str:
    return f"{(ends[1] - ends[0]) / 2:.4f}"


def adaptation(result: Any, *columns: str) -> str:
    """What DCRNN's feature adaptive function changes: a cell with it minus without."""
    rows = {row["row"]: row for row in result["rows"]}

    def cell(name: str, column: str) -> str:
        source, _, metric = column.rpartition(":")
        having, without = rows[f"{name}+Ada"], rows[name]
        if source:
            return f"{having['paper'][metric] - without['paper'][metric]:+.4f}"
        test = statistics.paired_t(
            *(row["metrics"][metric]["values"] for row in (having, without))
        )
        low, high = test.ends
        return f"{test.difference:+.4f} ({low:+.4f} … {high:+.4f})"

    return _grid(
        ["cell", *(_title(result, c) for c in columns)],
        (
            [name.removeprefix("DCRNN+"), *(cell(name, c) for c in columns)]
            for name in rows
            if f"{name}+Ada" in rows
        ),
    )


def answers(result: Any) -> str:
    """A paper's claims: what it reports, what came out, whether it is so."""

    def change(value: float | None) -> str:
        return "–" if value is None else f"{value:+.4f}"

    return _grid(
        ["claim", "paper", "here (p)", "so?"],
        (
            [
                f"{a['claim']}, {a['metric'].replace('.', ' ').upper()}",
                change(a["paper"]),
                f"{change(a['difference'])} ({_p(a)})",
                a["verdict"],
            ]
            for a in result["answers"]
        ),
    )


def contrasts(result: Any, metric: str) -> str:
    """The deciding contrast of each question, in one metric."""
    return _grid(
        ["question", "the two rows", f"Δ {result['metrics'][metric]}", "p"],
        (
            [
                f"{c['question']}: {c['meaning']}",
                f"{c['row']} − {c['against']}",
                f"{c['difference']:+.4f} ({c['ci95'][0]:+.4f} … {c['ci95'][1]:+.4f})",
                _p(c),
            ]
            for c in result["found"]
            if c["deciding"] and c["metric"] == metric
        ),
    )


def sweep(result: Any, metric: str) -> str:
    """A metric of each series of a sweep, by what is varied."""
    found = {
        (point["x"], name): _figures(point["metrics"][metric]["mean"])
        for name, points in result["series"].items()
        for point in points
        if metric in point["metrics"]
    }
    names = list(dict.fromkeys(name for _, name in found))
    return _grid(
        [result["x"], *names],
        (
            [str(x), *(found.get((x, name), "–") for name in names)]
            for x in sorted({x for x, _ in found})
        ),
    )


def margins(result: Any, metric: str) -> str:
    """A map's changes to its reference by click rate, means over all conflicts."""
    columns = result["margins"]["click_rate"]

    def cell(row: Any) -> str:
        change = row[metric]["difference"]
        star = "*" * statistics.is_significant(change["p_holm"])
        return f"{change['mean']:+.4f}{star}"

    names = [
        name
        for name, row in columns[0]["rows"].items()
        if metric in row and "difference" in row[metric]
    ]
    return _grid(
        ["click rate", *(f"{column['click_rate']:g}" for column in columns)],
        ([name, *(cell(column["rows"][name]) for column in columns)] for name in names),
    )


def daily(result: Any, metric: str) -> str:
    """Means over the days judged, and the change to masks found once."""

    def row(name: str, total: Any) -> Sequence[str]:
        test = total[metric].get("vs_kept")
        level = f"{total[metric]['mean']:.4f} ± {_half(total[metric]['ci95'])}"
        change = f"{test['difference']:+.4f}" if test else "–"
        return [name, level, change, _p(test) if test else "–"]

    head = ["method", result["metrics"][metric], "Δ", "p"]
    return _grid(head, (row(*item) for item in result["totals"].items()))


def costs(result: Any) -> str:
    """What each daily method costs: at the start, and each day after."""

    def row(name: str, total: Any) -> Sequence[str]:
        kinds = (total[f"cost.{kind}"] for kind in ("trainings", "work", "seconds"))
        return [name, *(f"{c['first']:.3g} + {c['later']:.3g}" for c in kinds)]

    head = ["method", "trainings", "10⁹ multiply-adds", "seconds"]
    return _grid(head, (row(*item) for item in result["totals"].items()))


def online(result: Any) -> str:
    """View time by pairing of models, with the exponents of the paper's footnote."""
    pairs = result["weightings"]["a = b = c = 1"]["pairs"]

    def row(name: str, pair: Any) -> Sequence[str]:
        test = pair.get("vs_base")
        if not test:
            return [name, f"{pair['mean']:.1f}", "–", "–"]
        low, high = test["ci95"]
        change = f"{test['difference']:+.1f} ({low:+.1f} … {high:+.1f})"
        return [name, f"{pair['mean']:.1f}", change, _p(test)]

    bounds = ([n, f"{value:.1f}", "–", "–"] for n, value in result["bounds"].items())
    body = [*(row(*item) for item in pairs.items()), *bounds]
    return _grid(["CTR / CVR model", "view time, s", "Δ, s", "p"], body)


def bundles(result: Any, tasks: str) -> str:
    """What is stored and how long a call takes, for so many tasks."""
    of = [b for b in result["bundles"] if str(b["tasks"]) == tasks]
    whole = of[0]["nets"] + of[0]["tables"]
    return _grid(
        [f"{tasks} tasks", "nets, KB", "all, KB", "ms at 1,024"],
        (
            [
                b["form"],
                f"{b['nets'] / 1000:,.0f}",
                f"{(b['nets'] + b['tables']) / 1000:,.0f}"
                f" ({(b['nets'] + b['tables']) / whole:.2f}×)",
                f"{b['latency']['1024']['median']:.1f}",
            ]
            for b in of
        ),
    )


def _grid(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    rows = list(rows)
    is_number = lambda column: all(
        line[column][0] in "+-–<.0123456789" for line in rows
    )
    rules = ["---:" if is_number(at) else "---" for at in range(len(head))]
    text = "\n".join(f"| {' | '.join(line)} |" for line in (head, rules, *rows))
    return f"\n\n{text}\n\n"  # a table stands by itself
