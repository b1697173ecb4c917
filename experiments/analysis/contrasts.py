"""Differences between rows of a table that answer a question, and the answers.

A question has one deciding contrast, two rows that differ in what is asked and in
nothing else, and further ones that look at it from elsewhere. Holm's correction runs
over the deciding contrasts of a metric, and apart from them over the further ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from experiments.analysis.report.document import interval_text, p_text
from experiments.analysis.report.rendering import grid
from experiments.analysis.statistics import (
    SIGNIFICANCE,
    correct,
    is_significant,
    paired_t,
)
from experiments.analysis.table import Table, row_role
from jaxmtl import metrics

Verdict = Literal["yes", "no", "undecided"]


class Contrast(NamedTuple):
    """`row` minus `against`.

    Attributes:
      row: last part of the module's name; `{task}` stands for the metric's own.
      against: the same of the other row.
      meaning: what the two rows do not have in common.
    """

    row: str
    against: str
    meaning: str


class Question(NamedTuple):
    """What is asked, and the contrasts that answer it, the deciding one first."""

    name: str
    text: str
    contrasts: tuple[Contrast, ...]


def compare(table: Table, questions: Sequence[Question]) -> list[dict[str, Any]]:
    """Every contrast on every main metric that both of its rows have.

    Args:
      table: content of `table.json`.
      questions: whose contrasts to take.

    Returns:
      For each contrast and metric `question`, `row`, `against` (names in the table),
      `meaning`, `deciding`, `metric`, `difference`, `ci95`, `p`, `p_holm` and
      `verdict`.
    """
    rows = {row_role(row["row"], row["module"]): row for row in table["rows"]}
    found = []
    for metric in table["layout"]["main"]:
        found += [
            {
                "question": question.name,
                "meaning": contrast.meaning,
                "deciding": number == 0,
                "metric": metric,
                **measured,
            }
            for question in questions
            for number, contrast in enumerate(question.contrasts)
            if (measured := difference(rows, contrast, metric))
        ]
    correct(found, "metric", "deciding")
    for test in found:
        test["verdict"] = verdict(test["metric"], test["difference"], test["p_holm"])
    return found


def verdict(metric: str, difference: float, p: float | None) -> Verdict:
    """`yes`: better, `no`: worse, each at 5 % after correction; else `undecided`."""
    if not is_significant(p):
        return "undecided"
    is_gain = (difference > 0) == metrics.higher_is_better(metric.rpartition(".")[2])
    return "yes" if is_gain else "no"


def as_text(
    table: Table, questions: Sequence[Question], found: Sequence[Mapping[str, Any]]
) -> str:
    """The contrasts in Markdown, a table a metric, and an answer to each question."""
    titles, parts = table["layout"]["main"], []
    for metric, title in titles.items():
        here = [test for test in found if test["metric"] == metric]
        if not here:
            continue
        columns = [
            ["question", *(_mark(test) for test in here)],
            ["difference", *(f"{test['row']} − {test['against']}" for test in here)],
            ["what differs", *(test["meaning"] for test in here)],
            [f"Δ {title}", *(f"{test['difference']:+.5f}" for test in here)],
            ["95 % over seeds", *(interval_text(test["ci95"]) for test in here)],
            ["p (Holm)", *(p_text(test) for test in here)],
            ["gain?", *(test["verdict"] for test in here)],
        ]
        parts.append(grid(columns, markdown=True))
    parts.append(
        "**Bold** decides its question. Holm's correction runs over the bold contrasts"
        " of a metric, and apart from them over the others. yes: a gain, no: a loss,"
        f" each with p < {SIGNIFICANCE:g} after correction; else undecided."
    )
    parts.append("\n".join(f"- {answer(titles, q, found)}" for q in questions))
    return "\n\n".join(parts)


def answer(
    titles: Mapping[str, str], question: Question, found: Sequence[Mapping[str, Any]]
) -> str:
    """A question and what its deciding contrast says of it, metric by metric."""
    tests = [t for t in found if t["question"] == question.name and t["deciding"]]
    if not tests:
        return f"{question.text} Unknown: its rows have no metric in common."
    of, against = tests[0]["row"], tests[0]["against"]
    said = [
        f"{test['verdict']} for {titles[test['metric']]} ({test['difference']:+.5f}"
        + (f", {interval_text(test['ci95'])}" if test["ci95"] else "")
        + (f", p {p_text(test)})" if test["p_holm"] is not None else ", no test)")
        for test in tests
    ]
    if {test["verdict"] for test in tests} == {"undecided"} and not tests[0]["ci95"]:
        said.append("one seed shows no chance to test against")
    return f"{question.text} {of} against {against}: {'; '.join(said)}."


def chain(
    table: Table, found: Sequence[Mapping[str, Any]], total: Contrast
) -> list[str]:
    """How the deciding contrasts add up to a difference, a line a metric.

    Args:
      table: content of `table.json`.
      found: from `compare`.
      total: the difference between the two ends of the chain.

    Returns:
      A line for each metric in which contrasts lead, row by row, from `total.against`
      to `total.row`.
    """
    rows = {row_role(row["row"], row["module"]): row for row in table["rows"]}
    lines = []
    for metric, title in table["layout"]["main"].items():
        whole = difference(rows, total, metric)
        steps = {
            t["against"]: t for t in found if t["metric"] == metric and t["deciding"]
        }
        if whole is None:
            continue
        at, path = whole["against"], []
        while at != whole["row"] and at in steps and len(path) < len(steps):
            path.append(steps[at])
            at = steps[at]["row"]
        if at == whole["row"]:
            terms = ", ".join(f"{t['question']} {t['difference']:+.5f}" for t in path)
            lines.append(
                f"{whole['row']} − {whole['against']} in {title}:"
                f" {whole['difference']:+.5f} = {terms}"
            )
    return lines


def pair(
    rows: Mapping[str, Mapping], contrast: Contrast, metric: str
) -> tuple[Mapping, Mapping] | None:
    """Both rows of a contrast; None where one lacks the metric, or seeds differ."""
    task = metric.split(".")[0]
    both = [
        rows.get(role.format(task=task)) for role in (contrast.row, contrast.against)
    ]
    values = [row and row["metrics"].get(metric, {}).get("values") for row in both]
    if not all(values) or len(values[0]) != len(values[1]):
        return None
    return both[0], both[1]


def difference(
    rows: Mapping[str, Mapping], contrast: Contrast, metric: str
) -> dict[str, Any] | None:
    """The paired test of two rows; None where one of them lacks the metric."""
    both = pair(rows, contrast, metric)
    if both is None:
        return None
    test = paired_t(*(row["metrics"][metric]["values"] for row in both))
    return {
        "row": both[0]["row"],
        "against": both[1]["row"],
        "difference": test.difference,
        "ci95": test.ends,
        "p": test.p,
    }


def _mark(test: Mapping[str, Any]) -> str:
    return f"**{test['question']}**" if test["deciding"] else test["question"]
