"""The paper's claims, one by one: yes, no or undecided, from Table 2 and Figure 4.

A claim is the sign of a paired difference over seeds. Holm's correction runs over all
claims made of a metric, those of Figure 4 among them, which were chosen before any
number was seen; so it is milder than that of the table, which runs over all of its
rows. Beside each stands the chance that so few seeds decide for what the paper found.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from experiments.analysis import contrasts
from experiments.analysis.context import Context
from experiments.analysis.contrasts import Contrast
from experiments.analysis.report.document import (
    NONE,
    chance_text,
    interval_text,
    p_text,
)
from experiments.analysis.report.effects import effect
from experiments.analysis.report.rendering import grid
from experiments.analysis.statistics import (
    SIGNIFICANCE,
    correct,
    is_significant,
    paired_t,
    power,
)
from experiments.analysis.table import Table, row_role
from experiments.running.workdir import read_json, write_json


class Claim(NamedTuple):
    """That `row` lies below (`sign` -1) or above (1) `against` in a metric.

    Rows are named by the last part of their module; `{task}` stands for the metric's
    own.
    """

    question: str
    metric: str
    row: str
    sign: int
    against: str


MSE, AUC = "cvr.mse", "ctr.auc"
CLAIMS = (
    Claim("Is s-weight < hard < base in CVR MSE?", MSE, "s_weight", -1, "base_cvr"),
    Claim("Is s-weight < hard < base in CVR MSE?", MSE, "s_weight", -1, "hard_sharing"),
    Claim("Is s-weight < hard < base in CVR MSE?", MSE, "hard_sharing", -1, "base_cvr"),
    Claim("Is CTR spared, even helped?", AUC, "s_weight", 1, "base_ctr"),
    Claim("Is CTR spared, even helped?", AUC, "s_weight", 1, "hard_sharing"),
    Claim("Does s-neuron lie between?", MSE, "s_neuron", 1, "s_weight"),
    Claim("Does s-neuron lie between?", MSE, "s_neuron", -1, "base_cvr"),
    Claim("Does balance help CVR?", MSE, "s_weight_taskbalance", -1, "s_weight"),
    Claim("Does balance cost CTR?", AUC, "s_weight_taskbalance", -1, "s_weight"),
    Claim(
        "Does gradient conflict help CVR?",
        MSE,
        "s_weight_gradientconflict",
        -1,
        "s_weight",
    ),
    Claim(
        "Does gradient conflict cost CTR?",
        AUC,
        "s_weight_gradientconflict",
        -1,
        "s_weight",
    ),
    Claim("Do both together help CVR most?", MSE, "s_weight_tuning", -1, "s_weight"),
    Claim(
        "Does multi-view lose to s-weight?", MSE, "s_weight_multiview", 1, "s_weight"
    ),
    Claim(
        "Does a bigger net lose to s-weight?", MSE, "s_weight_biggernet", 1, "s_weight"
    ),
    Claim("Are rivals worse than single tasks?", MSE, "esmm", 1, "base_cvr"),
    Claim("Are rivals worse than single tasks?", MSE, "mmoe", 1, "base_cvr"),
    Claim("Are rivals worse than single tasks?", AUC, "esmm", -1, "base_ctr"),
    Claim("Are rivals worse than single tasks?", AUC, "mmoe", -1, "base_ctr"),
)


def write(context: Context) -> str:
    """Judges what `table.json` and `figure4.json` of a work directory hold.

    Returns:
      The answers as Markdown; also written to `answers.md` and `answers.json`.
    """
    folder = context.workdir
    panels = read_json(folder / "figure4.json")["panels"]
    found = judge(read_json(folder / "table.json"), panels)
    write_json(folder / "answers.json", {"command": context.command, "answers": found})
    text = to_text(found, context.command)
    (folder / "answers.md").write_text(text, encoding="utf-8")
    return f"{text}\nwritten to {folder}: answers.md, answers.json\n"


def judge(
    table: Table,
    panels: Mapping[str, Mapping[str, Any]],
    claims: Sequence[Claim] = CLAIMS,
) -> list[dict[str, Any]]:
    """Each claim that the table's rows and Figure 4 can decide.

    Args:
      table: content of `table.json`.
      panels: of `figure4.json`, title -> `metric`, `density` and `values`.
      claims: what to look at.

    Returns:
      `question`, `claim`, `metric`, `sign`, `difference`, `relative` (to `against`),
      `ci95`, `seeds`, `deviation` (of the differences over seeds), `p`, `paper` (its
      difference, or None), `effect` (the same here: in percent for an MSE, in points
      for an AUC, as the paper counts), `p_holm`, `family` (tests corrected together),
      `power` (chance of a "yes" if `effect` is true) and `verdict` of each.
    """
    found = [*_comparisons(table, claims), *_densities(panels)]
    correct(found, "metric")
    for test in found:
        family = [t for t in found if t["metric"] == test["metric"]]
        test["family"] = sum(t["p"] is not None for t in family)
        level = SIGNIFICANCE / max(1, test["family"])
        test["power"] = power(test["effect"], test["deviation"], test["seeds"], level)
        test["verdict"] = "undecided"
        if is_significant(test["p_holm"]):
            as_claimed = test["difference"] * test["sign"] > 0
            test["verdict"] = "yes" if as_claimed else "no"
    return found


def _comparisons(table: Table, claims: Sequence[Claim]) -> Iterator[dict[str, Any]]:
    """What the table's rows say of each claim, not corrected yet."""
    rows = {row_role(row["row"], row["module"]): row for row in table["rows"]}
    for claim in claims:
        contrast = Contrast(claim.row, claim.against, "")
        pair = contrasts.pair(rows, contrast, claim.metric)
        if pair is None:
            continue
        order = "<" if claim.sign < 0 else ">"
        values = [row["metrics"][claim.metric]["values"] for row in pair]
        papers = [row["paper"].get(claim.metric) for row in pair]
        yield {
            "question": claim.question,
            "claim": f"{pair[0]['row']} {order} {pair[1]['row']}",
            "metric": claim.metric,
            "sign": claim.sign,
            **_measured(*values),
            "paper": None if None in papers else papers[0] - papers[1],
            "effect": effect(claim.metric, papers, float(np.mean(values[1]))),
        }


def _densities(panels: Mapping[str, Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Is a pruned CVR better than a dense one, and a pruned CTR worse (Figure 4)?

    The best of several rounds looks better than it is. So a seed's own values are not
    asked which of the sparse rounds to look at: those of the other seeds choose it.
    """
    for title, panel in panels.items():
        values = np.array(panel["values"], np.float64)
        if len(values) < 2 or values.shape[1] < 2 or np.isnan(values).any():
            continue
        is_auc, is_ctr = panel["metric"] == "AUC", title.startswith("CTR")
        better = 1 if is_auc else -1
        chosen = []
        for seed in range(len(values)):
            others = np.delete(values, seed, axis=0)[:, 1:].mean(axis=0)
            chosen.append(1 + int(np.argmax(better * others)))
        sparse = values[np.arange(len(values)), chosen]
        at = np.mean([panel["density"][i] for i in chosen])
        sign = -better if is_ctr else better
        yield {
            "question": "Is the best density below 1 for CVR, and 1 for CTR?",
            "claim": f"{title} at {at:.0%} {'<' if sign < 0 else '>'} dense,"
            " validation",
            "metric": ("ctr" if is_ctr else "cvr") + "." + panel["metric"].lower(),
            "sign": sign,
            **_measured(sparse, values[:, 0]),
            "paper": None,  # its figure has no numbers
            "effect": None,
        }


def _measured(row: ArrayLike, against: ArrayLike) -> dict[str, Any]:
    test, differences = paired_t(row, against), np.subtract(row, against)
    return {
        "difference": test.difference,
        "relative": _ratio(test.difference, float(np.mean(against))),
        "ci95": test.ends,
        "seeds": len(differences),
        "deviation": None if test.p is None else float(np.std(differences, ddof=1)),
        "p": test.p,
    }


def to_text(found: Sequence[Mapping[str, Any]], command: str) -> str:
    """The answers in Markdown."""
    asked = [test["question"] for test in found]
    columns = [
        [
            "question",
            *(q if q != p else "" for p, q in zip(["", *asked], asked, strict=False)),
        ],
        ["claim", *(f"{test['claim']} in {test['metric']}" for test in found)],
        ["paper", *(_number(test["paper"]) for test in found)],
        ["here", *(_number(test["difference"]) for test in found)],
        ["relative", *map(_percent, found)],
        ["95 % over seeds", *(interval_text(test["ci95"]) for test in found)],
        ["p (Holm)", *(p_text(test) for test in found)],
        ["so?", *(test["verdict"] for test in found)],
        ["power", *(chance_text(test["power"]) for test in found)],
    ]
    families = {test["metric"]: test["family"] for test in found}
    counted = ", ".join(f"{n} about {metric}" for metric, n in families.items())
    return (
        f"{grid(columns, markdown=True)}\n\nyes: as the paper says, no: the other way"
        f" round, each with p < {SIGNIFICANCE:g} after Holm's correction over all"
        f" claims about a metric ({counted}); else undecided. power: the chance of a"
        " yes if the paper's difference (in percent for an MSE, in points for an AUC)"
        " is true here, with as many seeds and their differences as far apart, at the"
        f" correction's first step, p < {SIGNIFICANCE:g} / claims;"
        f" {NONE}: the paper gives no number.\n\n`{command}`\n"
    )


def _ratio(difference: float, base: float) -> float | None:
    return difference / base if base else None  # a tiny test has an AUC of 0


def _percent(test: Mapping[str, Any]) -> str:
    return "–" if test["relative"] is None else f"{test['relative']:+.2%}"


def _number(value: float | None) -> str:
    return NONE if value is None else f"{value:+.5f}"
