"""Contrasts answer their questions from the numbers, and add up."""

import json

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.image import imread

from experiments.analysis import contrasts, tables
from experiments.analysis.context import Context
from experiments.analysis.contrasts import Contrast, Question
from experiments.analysis.figures import contrast_figures
from experiments.analysis.table import RowResult, build_table
from experiments.lt4rec import controls
from experiments.running.crew import Crew
from experiments.running.workdir import write_json
from experiments.settings import ablation
from jaxmtl.metrics import Metric

SEEDS = [0, 1, 2, 3]
DENSE = [0.140, 0.142, 0.144, 0.141]
VALUES = {
    "dense": (DENSE, [0.70, 0.72, 0.71, 0.715]),
    "random": ([0.1401, 0.1418, 0.1442, 0.1409], [0.71, 0.73, 0.72, 0.7252]),
    "ticket": ([0.130, 0.1322, 0.1341, 0.131], [0.70, 0.72, 0.712, 0.7149]),
    "ticket_cvr": ([0.150, 0.152, 0.1541, 0.151], None),
}
QUESTIONS = (
    Question(
        "sparsity", "Does sparsity help?", (Contrast("random", "dense", "fewer"),)
    ),
    Question(
        "ticket",
        "Does the ticket help?",
        (
            Contrast("ticket", "random", "which"),
            Contrast("ticket_{task}", "dense", "alone"),
            Contrast("gone", "dense", "a row that is not there"),
        ),
    ),
)


def make_row(name, mse, auc, seeds=SEEDS):
    metrics = {"cvr.mse": [Metric(x, 40, 38, "click") for x in mse[: len(seeds)]]}
    if auc is not None:
        metrics["ctr.auc"] = [Metric(x, 100, 40) for x in auc[: len(seeds)]]
    return RowResult(
        f"{name} row", f"lt4rec.{name}", {}, list(seeds), metrics, 9, {}, 1.0
    )


def make_table(seeds=SEEDS, values=VALUES):
    rows = [make_row(name, *both, seeds=seeds) for name, both in values.items()]
    return build_table("lt4rec.controls", "video_feed", rows)


@pytest.fixture(scope="module")
def found():
    return contrasts.compare(make_table(), QUESTIONS)


def one(found, row, metric):
    (test,) = [t for t in found if (t["row"], t["metric"]) == (f"{row} row", metric)]
    return test


def test_a_contrast_is_the_paired_difference_of_its_rows(found):
    test = one(found, "ticket", "cvr.mse")
    ours, theirs = VALUES["ticket"][0], VALUES["random"][0]
    assert test["against"] == "random row" and test["meaning"] == "which"
    assert test["difference"] == pytest.approx(np.mean(np.subtract(ours, theirs)))
    oracle = scipy.stats.ttest_rel(ours, theirs)
    assert test["p"] == pytest.approx(oracle.pvalue)
    assert test["ci95"] == pytest.approx(list(oracle.confidence_interval(0.95)))


def test_a_task_in_a_rows_name_is_the_metrics_own(found):
    assert one(found, "ticket_cvr", "cvr.mse")["against"] == "dense row"
    assert not [
        t for t in found if t["row"] == "ticket_cvr row" and "auc" in t["metric"]
    ]


def test_a_row_that_is_missing_is_passed_over(found):
    assert {t["meaning"] for t in found} == {"fewer", "which", "alone"}


def test_deciding_contrasts_of_a_metric_are_corrected_among_themselves(found):
    """Two decide: the smaller p counts twice; the one that does not, alone."""
    decisive = one(found, "ticket", "cvr.mse")
    assert decisive["deciding"] and not one(found, "ticket_cvr", "cvr.mse")["deciding"]
    assert decisive["p_holm"] == pytest.approx(2 * decisive["p"])
    lone = one(found, "ticket_cvr", "cvr.mse")
    assert lone["p_holm"] == lone["p"]


def test_answers_are_made_of_the_numbers(found):
    assert one(found, "ticket", "cvr.mse")["verdict"] == "yes"  # lower
    assert one(found, "ticket_cvr", "cvr.mse")["verdict"] == "no"
    assert one(found, "random", "cvr.mse")["verdict"] == "undecided"
    assert one(found, "random", "ctr.auc")["verdict"] == "yes"  # higher
    assert one(found, "ticket", "ctr.auc")["verdict"] == "no"
    text = contrasts.as_text(make_table(), QUESTIONS, found)
    assert (
        "- Does sparsity help? random row against dense row: undecided for CVR" in text
    )
    assert "yes for CTR AUC (+0.01005, " in text
    assert "| **ticket** " in text and "| ticket " in text


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(["cvr.mse", "ctr.auc"]), st.floats(-1, 1), st.floats(0, 1))
def test_a_verdict_flips_with_the_sign_and_needs_a_small_p(metric, difference, p):
    verdict = contrasts.verdict(metric, difference, p)
    if p >= 0.05:
        assert verdict == "undecided"
    elif difference:
        better = (difference > 0) == (metric == "ctr.auc")
        assert verdict == ("yes" if better else "no")


def test_one_seed_decides_nothing():
    found = contrasts.compare(table := make_table(seeds=[0]), QUESTIONS)
    assert {t["verdict"] for t in found} == {"undecided"}
    text = contrasts.as_text(table, QUESTIONS, found)
    assert "no test" in text and "one seed shows no chance" in text


def test_a_question_without_rows_is_unknown():
    question = Question("x", "Is it so?", (Contrast("a", "b", "c"),))
    assert contrasts.answer({}, question, []).startswith("Is it so? Unknown")


def test_the_steps_of_a_chain_add_up(found):
    table = make_table()
    total = Contrast("ticket", "dense", "all")
    mse, auc = contrasts.chain(table, found, total)
    whole = np.mean(np.subtract(VALUES["ticket"][0], DENSE))
    assert mse.startswith(
        f"ticket row − dense row in CVR MSE: {whole:+.5f} = sparsity "
    )
    steps = [one(found, row, "cvr.mse")["difference"] for row in ("random", "ticket")]
    assert f"sparsity {steps[0]:+.5f}, ticket {steps[1]:+.5f}" in mse
    assert sum(steps) == pytest.approx(whole)
    assert "CTR AUC" in auc
    # No contrast leads from the one row to the other.
    assert contrasts.chain(table, found, Contrast("ticket", "ticket_cvr", "all")) == []


def test_every_contrast_of_the_controls_is_between_rows_of_their_table():
    roles = {module.__name__.rsplit(".", 1)[-1] for module in controls.ROWS}
    pairs = [c for q in controls.QUESTIONS for c in q.contrasts] + [controls.TOTAL]
    for contrast in pairs:
        for task in ("ctr", "cvr"):
            ends = {contrast.row.format(task=task), contrast.against.format(task=task)}
            assert ends <= roles


def test_the_controls_write_what_their_table_says(tmp_path, monkeypatch):
    """The table itself is not trained here: its numbers are planted."""
    draw = np.random.default_rng(0)
    values = {
        module.__name__.rsplit(".", 1)[-1]: (
            list(draw.normal(0.14, 0.001, 4)),
            list(draw.normal(0.7, 0.01, 4)),
        )
        for module in controls.ROWS
    }
    values["random_masks_common"] = (
        [x - 0.02 for x in draw.normal(0.14, 1e-4, 4)],
        None,
    )
    table = make_table(values=values)

    def write(context):
        write_json(tmp_path / "table.json", table)
        return "the table"

    monkeypatch.setattr(tables, "write", write)
    schema = type("Schema", (), {"name": "video_feed"})
    data = type("Data", (), {"schema": schema})
    layout = ablation.layout("lt4rec.controls")
    crew = Crew(tmp_path, None, "in_turn")
    context = Context("lt4rec.controls", [], None, SEEDS, data, crew, "command", layout)
    text = controls.run(context)
    assert text.startswith("the table\n")
    assert "- Does sparsity alone help? random_masks_common row against" in text
    assert "yes for CVR MSE" in text
    assert "= sparsity -0.0" in text  # how the steps add up, in the one metric they do
    found = json.loads((tmp_path / "contrasts.json").read_text())["found"]
    assert len(found) > 20
    assert (tmp_path / "contrasts.md").read_text() in text
    assert imread(tmp_path / "contrasts.png").shape[1] > 800


def test_the_figure_shows_every_contrast(found, tmp_path):
    titles = make_table()["layout"]["main"]
    contrast_figures.contrast_figure(found, titles, tmp_path / "a.png")
    blank = imread(tmp_path / "a.png").min(axis=2) < 0.9
    assert blank.mean() > 0.01
