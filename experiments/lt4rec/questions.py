"""The paper's claims, one by one: yes, no or undecided, from Table 2 and Figure 4.

A claim is the sign of a paired difference over seeds. Holm's correction runs over the
claims made of a metric, which were chosen before any number was seen; so it is milder
than that of the table, which runs over all of its rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments import contrasts, tables
from experiments.contrasts import Contrast
from experiments.rendering import grid
from experiments.report import Table, row_role
from experiments.report.document import interval_text, p_text
from experiments.running.workdir import read_json, write_json
from experiments.statistics import SIGNIFICANCE, holm, is_significant, paired_t


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


def write(context: tables.Context) -> str:
    """Judges what `table.json` and `figure4.json` of a work directory hold.

    Returns:
      The answers as Markdown; also written to `answers.md` and `answers.json`.
    """
    folder = context.workdir
    table = read_json(folder / "table.json")
    found = judge(table) + densities(read_json(folder / "figure4.json")["panels"])
    write_json(folder / "answers.json", {"command": context.command, "answers": found})
    text = to_text(found, context.command)
    (folder / "answers.md").write_text(text, encoding="utf-8")
    return f"{text}\nwritten to {folder}: answers.md, answers.json\n"


def judge(table: Table, claims: Sequence[Claim] = CLAIMS) -> list[dict[str, Any]]:
    """Each claim that the table's rows can decide.

    Args:
      table: content of `table.json`.
      claims: what to look at.

    Returns:
      `question`, `claim`, `metric`, `difference`, `relative` (to `against`), `ci95`,
      `p`, `p_holm`, `paper` (its difference, or None) and `verdict` of each.
    """
    rows = {row_role(row["row"], row["module"]): row for row in table["rows"]}
    found = []
    for claim in claims:
        contrast = Contrast(claim.row, claim.against, "")
        measured = contrasts.difference(rows, contrast, claim.metric)
        if measured is None:
            continue
        against = rows[claim.against]["metrics"][claim.metric]["mean"]
        papers = [
            rows[r]["paper"].get(claim.metric) for r in (claim.row, claim.against)
        ]
        order = "<" if claim.sign < 0 else ">"
        found.append(
            {
                "question": claim.question,
                "claim": f"{measured['row']} {order} {measured['against']}",
                "metric": claim.metric,
                "sign": claim.sign,
                "difference": measured["difference"],
                "relative": _ratio(measured["difference"], against),
                "ci95": measured["ci95"],
                "p": measured["p"],
                "paper": None if None in papers else papers[0] - papers[1],
            }
        )
    return _decided(found)


def densities(panels: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Is a pruned CVR better than a dense one, and a pruned CTR worse (Figure 4)?

    The best of several rounds looks better than it is. So a seed's own values are not
    asked which of the sparse rounds to look at: those of the other seeds choose it.

    Args:
      panels: of `figure4.json`, title -> `metric`, `density` and `values`.
    """
    found = []
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
        test = paired_t(sparse, values[:, 0])
        at = np.mean([panel["density"][i] for i in chosen])
        sign = -better if is_ctr else better
        found.append(
            {
                "question": "Is the best density below 1 for CVR, and 1 for CTR?",
                "claim": f"{title} at {at:.0%} {'<' if sign < 0 else '>'} dense,"
                " validation",
                "metric": ("ctr" if is_ctr else "cvr") + "." + panel["metric"].lower(),
                "sign": sign,
                "difference": test.difference,
                "relative": _ratio(test.difference, values[:, 0].mean()),
                "ci95": test.ends,
                "p": test.p,
                "paper": None,
            }
        )
    return _decided(found)


def _decided(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for metric in dict.fromkeys(test["metric"] for test in found):
        family = [test for test in found if test["metric"] == metric]
        corrected = holm([test["p"] for test in family])
        for test, p in zip(family, corrected, strict=True):
            as_claimed = test["difference"] * test["sign"] > 0
            test["p_holm"], test["verdict"] = p, "undecided"
            if is_significant(p):
                test["verdict"] = "yes" if as_claimed else "no"
    return found


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
    ]
    return (
        f"{grid(columns, markdown=True)}\n\nyes: as the paper says, no: the other way"
        f" round, each with p < {SIGNIFICANCE:g} after Holm's correction over the"
        f" claims about a metric; else undecided.\n\n`{command}`\n"
    )


def _ratio(difference: float, base: float) -> float | None:
    return difference / base if base else None  # a tiny test has an AUC of 0


def _percent(test: Mapping[str, Any]) -> str:
    return "–" if test["relative"] is None else f"{test['relative']:+.2%}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:+.5f}"
