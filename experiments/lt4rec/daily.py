"""Fresh every day: masks found once, the subnetwork trained on; against its rivals.

LT4REC, section 2.2: "mask generating process is only executed once while the sNET
generation is executed incrementally every day". The log is gone through day by day,
each day predicted before it is trained on (`experiments.daily.day_training`):

    python -m experiments.run lt4rec.daily --seeds 5

`single tasks` are two nets; `s-weight` keeps the masks of the first days; `masks daily`
finds them again after every day, rewinding to that day's weights; `never updated` is
s-weight as the first days left it. What each costs by day stands beside.

Settings chosen on a day that is judged would have seen what they are judged by. So
`experiments.tune lt4rec.daily` reads the first days alone, and no others are taken:

    python -m experiments.tune lt4rec.daily --trials 5 --seeds 2 --out tuned.json
    python -m experiments.run lt4rec.daily --tuned tuned.json --seeds 5
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.analysis import sweeps
from experiments.analysis.context import Context
from experiments.analysis.report.document import grid, p_text
from experiments.analysis.statistics import holm, mean_interval, paired_t
from experiments.daily.day_stream import DayStream
from experiments.daily.day_training import Begun, Learner, Update, keep, live
from experiments.lt4rec import base_ctr, base_cvr, hard_sharing, s_weight
from experiments.running import stopping
from experiments.running.workdir import read_json, write_json
from jaxmtl.data.store import Dataset

ROWS = (base_ctr, base_cvr, hard_sharing, s_weight)
FIRST = 3
"""Days that a method begins with; the last of them validates."""
COSTS = {
    "cost.trainings": "trainings",
    "cost.work": "multiply-adds, billions",
    "cost.seconds": "seconds",
}


class Method(NamedTuple):
    """What is kept fresh, and how.

    Attributes:
      rows: trained side by side.
      update: what is done after each day.
    """

    rows: tuple[str, ...]
    update: Update = "daily"


KEPT = "s-weight"
"""What the others are compared with: masks found once, the paper's."""
METHODS = {
    "single tasks": Method(("base ctr", "base cvr")),
    "hard sharing": Method(("hard sharing",)),
    KEPT: Method(("s-weight",)),
    "s-weight, masks daily": Method(("s-weight",), "daily, masks found again"),
    "s-weight, never updated": Method(("s-weight",), "never"),
}
Records = list[dict[str, Any]]
"""For each day `day`, `metrics` and `cost`."""


def tuned_on(data: Dataset) -> Dataset:
    """What its settings are chosen on: the days before the first that is judged."""
    return _stream(data).first(FIRST)


def run(context: Context) -> str:
    """Lives through the days; writes `daily.json`, `daily_cost.json` and figures."""
    stream = _stream(context.data)
    _check_tuned_before(context, stream.days[FIRST])
    lives = _lives(context, stream)
    found = {
        name: [
            together([lives[row, method.update, seed] for row in method.rows])
            for seed in context.seeds
        ]
        for name, method in METHODS.items()
    }
    metrics = dict(context.layout.main)
    totals = summarise(found, list(metrics))
    unseen = {day: stream.unseen(day) for day in stream.days[FIRST:]}
    shown = {"x": "day", "is_log": False, "with_params": False, "levels": {}}
    quality = {
        "metrics": metrics,
        "series": series({n: _judged(seeds) for n, seeds in found.items()}, metrics),
        "totals": totals,
        "unseen": unseen,
    }
    so_far = {name: list(map(added_up, seeds)) for name, seeds in found.items()}
    costs = {
        "metrics": {cost: f"{title}, so far" for cost, title in COSTS.items()},
        "series": series(so_far, list(COSTS)),
    }
    return "\n".join(
        [
            f"{totals_text(totals, metrics)}\n\n{_unseen_text(unseen)}\n",
            sweeps.keep(context, shown | quality, "daily"),
            sweeps.keep(context, shown | costs, "daily_cost"),
        ]
    )


def _stream(data: Dataset) -> DayStream:
    """The days of a log that has enough of them."""
    stream = DayStream(data)
    if len(stream.days) < FIRST + 2:
        raise ValueError(
            f"lt4rec.daily begins with {FIRST} days and judges two or more, but the"
            f" log has {len(stream.days)}; raise --data.feed.days"
        )
    return stream


def _check_tuned_before(context: Context, judged: int) -> None:
    """Raises ValueError where settings were chosen on a day that is to be judged."""
    for row, last in ((context.tuned or {}).get("last_day") or {}).items():
        if last is None or last >= judged:
            seen = "days it does not tell" if last is None else f"days up to {last}"
            raise ValueError(
                f"--tuned: the settings of {row} were chosen on {seen}, but"
                f" {context.name} judges all from day {judged} on; choose them on the"
                f" days before: python -m experiments.tune {context.name}"
            )


def _lives(
    context: Context, stream: DayStream
) -> dict[tuple[str, Update, int], Records]:
    """(row, update, seed) -> its days; trains what no earlier attempt has finished."""
    rows = {row.row.name: row for row in context.rows}
    days, found = stream.days[FIRST - 1 :], {}
    wanted = dict.fromkeys((r, m.update) for m in METHODS.values() for r in m.rows)
    todo = [(row, update, seed) for seed in context.seeds for row, update in wanted]
    folder = lambda row, update, seed: (
        context.workdir / "days" / f"{rows[row].module}-{_slug(update)}" / f"seed{seed}"
    )
    left = [one for one in todo if not (folder(*one) / "days.json").exists()]
    context.monitor.expect(len(left) * len(days))
    begun: dict[str, Begun] = {}
    for one in todo:
        row, update, seed = one
        where = folder(*one)
        if one in left:
            stopping.check()
            learner = Learner(stream, rows[row].config, seed, FIRST)
            keeper = keep(where / "progress", learner.setup)
            # Methods that differ in what they do with later days begin alike.
            begin = functools.partial(_begin, begun, (row, seed), learner)
            name = (f"{rows[row].module} {update}", seed)
            lived = live(learner, begin, update, days, keeper, context.monitor, name)
            write_json(where / "days.json", lived)  # commits
            keeper.discard()
        found[one] = read_json(where / "days.json")
    return found


def _begin(begun: dict, key: tuple[str, int], learner: Learner) -> Begun:
    if key not in begun:
        begun.clear()  # of a row and seed that will not come again
        begun[key] = learner.begin()
    return begun[key]


def _slug(update: Update) -> str:
    return update.replace(", ", "-").replace(" ", "_")


def together(parts: Sequence[Records]) -> Records:
    """The days of several trainings as one method's; what they cost is added up."""
    found = []
    for days in zip(*parts, strict=True):
        metrics = {name: x for day in days for name, x in day["metrics"].items()}
        cost = {name: sum(d["cost"][name] for d in days) for name in days[0]["cost"]}
        found.append({"day": days[0]["day"], "metrics": metrics, "cost": cost})
    return found


def added_up(days: Records) -> Records:
    """The days with what was spent by then; without the last, which costs nothing."""
    total, found = dict.fromkeys(days[0]["cost"], 0), []
    for day in days[:-1]:
        total = {name: total[name] + x for name, x in day["cost"].items()}
        found.append({**day, "cost": total})
    return found


def _judged(seeds: Sequence[Records]) -> list[Records]:
    return [days[1:] for days in seeds]


def series(
    found: Mapping[str, Sequence[Records]], metrics: Collection[str]
) -> dict[str, list[dict[str, Any]]]:
    """Method -> its metrics or costs by day, over seeds; as a sweep draws them."""
    return {
        name: [
            {
                "x": days[0]["day"],
                "params": None,
                "metrics": {
                    metric: _summary(metric, [_value(day, metric) for day in days])
                    for metric in metrics
                },
            }
            for days in zip(*seeds, strict=True)
        ]
        for name, seeds in found.items()
    }


def _value(day: Mapping[str, Any], metric: str) -> float | None:
    kind, name = metric.split(".")
    if kind != "cost":
        return day["metrics"].get(metric)
    return day["cost"][name] / (1e9 if name == "work" else 1)


def _summary(metric: str, values: list[float | None]) -> dict[str, Any]:
    if None in values:
        return {"mean": None, "ci95": None, "values": values}
    if metric == "cost.seconds":  # the first seed compiles
        return {"mean": float(np.median(values)), "ci95": None, "values": values}
    found = mean_interval(values)
    return {"mean": found.mean, "ci95": found.ends, "values": values}


def summarise(
    found: Mapping[str, Sequence[Records]], metrics: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Method -> metrics, means over the days judged, and costs of a day and of all.

    Args:
      found: method -> a seed's days each.
      metrics: one family of tests each, against `KEPT`, paired by seed.
    """
    totals = {name: _total(seeds, metrics) for name, seeds in found.items()}
    for metric in metrics:
        others = [n for n in totals if n != KEPT]
        both = [
            (totals[n][metric]["values"], totals[KEPT][metric]["values"])
            for n in others
        ]
        tests = [
            paired_t(*pair) if None not in sum(pair, []) else None for pair in both
        ]
        corrected = holm([test and test.p for test in tests])
        for name, test, p in zip(others, tests, corrected, strict=True):
            if test is not None:
                totals[name][metric]["vs_kept"] = {
                    "difference": test.difference,
                    "ci95": test.ends,
                    "p": test.p,
                    "p_holm": p,
                }
    return totals


def _total(seeds: Sequence[Records], metrics: Sequence[str]) -> dict[str, Any]:
    total: dict[str, Any] = {}
    for metric in metrics:
        daily = [[_value(day, metric) for day in days[1:]] for days in seeds]
        means = [None if None in values else float(np.mean(values)) for values in daily]
        total[metric] = _summary(metric, means)
    for cost in COSTS:
        daily = np.array([[_value(day, cost) for day in days] for days in seeds])
        # Over seeds, then over days: on the last day nothing is trained any more.
        total[cost] = {
            "first": float(np.median(daily[:, 0])),
            "later": float(np.median(daily[:, 1:-1], axis=0).mean()),
            "all": float(np.median(daily, axis=0).sum()),
        }
    return total


def totals_text(totals: Mapping[str, Any], metrics: Mapping[str, str]) -> str:
    """A row a method: quality over all days judged, and what it cost."""
    columns = [["method", *totals]]
    for metric, title in metrics.items():
        cells = [total[metric] for total in totals.values()]
        versus = [cell.get("vs_kept") for cell in cells]
        columns += [
            [title, *map(_level, cells)],
            ["Δ", *("–" if v is None else f"{v['difference']:+.5f}" for v in versus)],
            ["p (Holm)", *map(p_text, versus)],
        ]
    for cost, title in COSTS.items():
        cells = [total[cost] for total in totals.values()]
        show = lambda cell: f"{cell['first']:.4g} + {cell['later']:.3g} a day"
        columns.append([title, *map(show, cells)])
    return (
        f"Means over the days judged, ± 95 % over seeds; Δ and p against {KEPT}, paired"
        " over seeds, with Holm's correction over the methods, metric by metric; costs:"
        " the first days, then each later day (medians over seeds)\n\n"
        + grid(columns, markdown=True)
    )


def _level(cell: Mapping[str, Any]) -> str:
    if cell["mean"] is None:
        return "–"
    half = cell["ci95"] and (cell["ci95"][1] - cell["ci95"][0]) / 2
    return f"{cell['mean']:.5f}" + (f" ± {half:.5f}" if half else "")


def _unseen_text(unseen: Mapping[int, Mapping[str, float]]) -> str:
    columns = [["rows whose id is new on day", *map(str, unseen)]]
    for part in ("user", "item", "any"):
        columns.append([part, *(f"{day[part]:.1%}" for day in unseen.values())])
    return grid(columns, markdown=True)
