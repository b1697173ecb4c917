"""LT4REC's claims are judged, its sweeps and its map trained, its status told."""

import dataclasses
import json

import numpy as np
import pytest
from conftest import run_quietly
from scipy import stats

from experiments import run, status
from experiments.analysis import sweeps
from experiments.analysis.figures import conflict_figures
from experiments.analysis.statistics import power
from experiments.lt4rec import (
    base_ctr,
    base_cvr,
    conflict,
    cvr_weight,
    density,
    net_size,
    questions,
    s_weight,
    shuffled_masks,
    table2,
    tasks,
    view_width,
)
from experiments.lt4rec.questions import Claim
from experiments.running.monitor import Monitor
from jaxmtl.data.sources import video_feed

pytestmark = pytest.mark.end_to_end

FEED = "--data.feed.users 60 --data.feed.videos 60 --data.feed.impressions 3000"
NET = "--model.hidden 16 8 --model.embedding-dim 4 --model.init-scale 0.05"
TRAINING = "--training.batch-size 256 --training.epochs 1 --pruning.rounds 1"
TINY = f"{FEED} --data.feed.days 4 {NET} {TRAINING} --no-report".split()


@pytest.fixture(scope="module")
def command(cache):
    def call(name, folder, *settings):
        data = ("--data.cache", str(cache), "--workdir", str(folder), "--seeds", "1")
        code, text = run_quietly(name, *TINY, *data, *settings)
        assert code == 0
        return text

    return call


def row(name, module, paper=None, **metrics):
    kept = {
        metric.replace("_", "."): {"mean": float(np.mean(values)), "values": values}
        for metric, values in metrics.items()
    }
    paper = {metric.replace("_", "."): x for metric, x in (paper or {}).items()}
    return {"row": name, "module": module, "paper": paper, "metrics": kept}


TABLE = {
    "rows": [
        row("base cvr", "lt4rec.base_cvr", {"cvr_mse": 0.2}, cvr_mse=[0.5, 0.6, 0.7]),
        row(
            "s-weight",
            "lt4rec.s_weight",
            {"cvr_mse": 0.1},
            cvr_mse=[0.41, 0.5, 0.59],
            ctr_auc=[0.7, 0.8, 0.7],
        ),
        row("s-neuron", "lt4rec.s_neuron", cvr_mse=[0.4, 0.52, 0.58]),
        row("base ctr", "lt4rec.base_ctr", ctr_auc=[0.9, 0.5, 0.7]),
    ]
}


def test_a_claim_is_a_paired_difference_with_its_sign_and_correction():
    claims = [
        Claim("better?", "cvr.mse", "s_weight", -1, "base_cvr"),
        Claim("worse?", "cvr.mse", "s_weight", 1, "base_cvr"),
        Claim("between?", "cvr.mse", "s_neuron", 1, "s_weight"),
        Claim("helped?", "ctr.auc", "s_weight", 1, "base_ctr"),
    ]
    better, worse, between, helped = questions.judge(TABLE, {}, claims)
    ours, base = [0.41, 0.5, 0.59], [0.5, 0.6, 0.7]
    p = stats.ttest_rel(ours, base).pvalue
    assert better["difference"] == pytest.approx(-0.1)
    assert better["relative"] == pytest.approx(-0.1 / 0.6)
    assert better["p"] == pytest.approx(p) and better["paper"] == pytest.approx(-0.1)
    # Holm over the three claims about the metric: the two smallest are equal.
    assert better["p_holm"] == worse["p_holm"] == pytest.approx(3 * p)
    assert better["verdict"] == "yes" and worse["verdict"] == "no"
    assert between["verdict"] == "undecided" and between["paper"] is None
    # Another metric is another family.
    alone = stats.ttest_rel([0.7, 0.8, 0.7], [0.9, 0.5, 0.7]).pvalue
    assert helped["p_holm"] == pytest.approx(alone)
    assert helped["claim"] == "s-weight > base ctr"


def test_a_claim_about_a_row_that_is_missing_is_passed_over():
    claim = Claim("?", "cvr.mse", "hard_sharing", -1, "base_cvr")
    assert questions.judge(TABLE, {}, [claim]) == []


def test_every_claim_is_about_rows_of_table_2():
    names = {module.__name__.split(".")[-1] for module in table2.ROWS}
    for claim in questions.CLAIMS:
        assert {claim.row, claim.against} <= names, claim


def test_the_round_looked_at_is_chosen_by_the_other_seeds():
    """Each seed is best at a round of its own; chosen by itself all would gain."""
    panel = {
        "metric": "MSE",
        "density": [1.0, 0.5, 0.25],
        "values": [[0.5, 0.4, 0.9], [0.5, 0.9, 0.4]],
    }
    (found,) = questions.judge({"rows": []}, {"CVR (watch)": panel})
    assert found["difference"] == pytest.approx(0.4)  # .9 for both, against .5
    assert found["sign"] == -1 and "38%" in found["claim"]
    assert found["verdict"] == "undecided"  # both seeds agree, and p is 0 / 0


def test_ctr_is_claimed_to_be_best_dense():
    values = [[0.8, 0.7], [0.81, 0.72], [0.82, 0.7]]
    panel = {"metric": "AUC", "density": [1.0, 0.5], "values": values}
    (found,) = questions.judge({"rows": []}, {"CTR (click)": panel})
    assert found["sign"] == -1 and found["verdict"] == "yes"
    assert found["difference"] == pytest.approx(np.mean([-0.1, -0.09, -0.12]))


PANELS = {
    "CVR (watch)": {
        "metric": "MSE",
        "density": [1.0, 0.5],
        "values": [[0.5, 0.41], [0.6, 0.52], [0.7, 0.6]],
    }
}


def test_claims_of_the_table_and_of_figure_4_are_one_family():
    claims = [
        Claim("better?", "cvr.mse", "s_weight", -1, "base_cvr"),
        Claim("between?", "cvr.mse", "s_neuron", 1, "s_weight"),
        Claim("helped?", "ctr.auc", "s_weight", 1, "base_ctr"),
    ]
    better, between, helped, sparse = questions.judge(TABLE, PANELS, claims)
    p = stats.ttest_rel([0.41, 0.52, 0.6], [0.5, 0.6, 0.7]).pvalue
    assert better["p"] < p < between["p"]
    assert better["p_holm"] == pytest.approx(3 * better["p"])
    assert sparse["p_holm"] == pytest.approx(max(2 * p, better["p_holm"]))
    assert [test["family"] for test in (better, helped, sparse)] == [3, 1, 3]
    text = questions.to_text([better, between, helped, sparse], "the command")
    assert "3 about cvr.mse, 1 about ctr.auc" in text


def test_power_is_that_of_the_papers_effect_at_the_level_found_here():
    claims = [
        Claim("better?", "cvr.mse", "s_weight", -1, "base_cvr"),
        Claim("between?", "cvr.mse", "s_neuron", 1, "s_weight"),
    ]
    better, between, sparse = questions.judge(TABLE, PANELS, claims)
    assert better["effect"] == pytest.approx(-0.3)  # half of our .6, as of its .2
    apart = np.std([-0.09, -0.1, -0.11], ddof=1)
    assert better["deviation"] == pytest.approx(apart) and better["seeds"] == 3
    assert better["power"] == pytest.approx(power(0.3, apart, 3, 0.05 / 3))
    assert between["effect"] is between["power"] is sparse["power"] is None
    rows = [
        row("base ctr", "lt4rec.base_ctr", {"ctr_auc": 0.7}, ctr_auc=[0.5, 0.6, 0.7]),
        row("s-weight", "lt4rec.s_weight", {"ctr_auc": 0.72}, ctr_auc=[0.6, 0.6, 0.7]),
    ]
    claim = Claim("helped?", "ctr.auc", "s_weight", 1, "base_ctr")
    (helped,) = questions.judge({"rows": rows}, {}, [claim])
    assert helped["effect"] == pytest.approx(0.02)  # AUC: points, whatever the level
    text = questions.to_text([better, between], "the command")
    lines = [line.split("|")[-2].strip() for line in text.splitlines()[2:4]]
    assert lines == [f"{better['power']:.2f}", "–"]


def test_one_seed_has_neither_test_nor_power():
    rows = [
        row("base cvr", "lt4rec.base_cvr", {"cvr_mse": 0.2}, cvr_mse=[0.5]),
        row("s-weight", "lt4rec.s_weight", {"cvr_mse": 0.1}, cvr_mse=[0.4]),
    ]
    claim = Claim("better?", "cvr.mse", "s_weight", -1, "base_cvr")
    (found,) = questions.judge({"rows": rows}, {}, [claim])
    assert found["p"] is found["p_holm"] is found["power"] is None
    assert found["family"] == 0 and found["verdict"] == "undecided"


def test_answers_are_readable():
    claim = Claim("better?", "cvr.mse", "s_weight", -1, "base_cvr")
    text = questions.to_text(questions.judge(TABLE, {}, [claim]), "the command")
    assert "s-weight < base cvr" in text and "-16.67%" in text and "yes" in text


def world(**rows):
    def cell(values):
        return {"mean": float(np.mean(values)), "ci95": None, "values": values}

    rows = {name: {"m": cell(values)} for name, values in rows.items()}
    return {"rows": rows, "oracle": {"m": 4.0}}


def test_the_map_is_corrected_over_all_methods_and_worlds():
    base, good, odd = [1.0, 2.0, 3.0], [1.5, 2.4, 3.6], [1.0, 2.2, 2.9]
    worlds = [world(base=base, a=good, b=odd), world(base=base, a=odd)]
    found = conflict.compare(worlds, ["m"], "base")
    p = stats.ttest_rel(good, base).pvalue
    first = found[0]["rows"]["a"]["m"]["difference"]
    assert first["p"] == pytest.approx(p) and first["p_holm"] == pytest.approx(3 * p)
    assert first["mean"] == pytest.approx(0.5)  # of the 2 from base to the oracle
    assert first["closed"] == pytest.approx(0.25)
    assert "difference" not in found[0]["rows"]["base"]["m"]
    assert (
        "difference" not in worlds[0]["rows"]["a"]["m"]
    )  # what was given is as it was


def test_margins_are_differences_of_means_over_worlds():
    base, good, odd = [1.0, 2.0, 3.0], [1.5, 2.4, 3.6], [1.0, 2.2, 2.9]
    worlds = [
        {**world(base=base, a=good), "click_rate": 0.4, "conflict": 0.0},
        {**world(base=odd, a=base), "click_rate": 0.4, "conflict": 1.0},
    ]
    found = conflict.margins(worlds, ["m"], "base")
    (by_rate,) = found["click_rate"]
    assert by_rate["click_rate"] == 0.4 and "conflict" not in by_rate
    difference = by_rate["rows"]["a"]["m"]["difference"]
    each = (np.subtract(good, base) + np.subtract(base, odd)) / 2
    assert difference["mean"] == pytest.approx(each.mean())
    assert difference["p"] == pytest.approx(stats.ttest_1samp(each, 0).pvalue)
    by_conflict = [w["rows"]["a"]["m"]["difference"] for w in found["conflict"]]
    p = stats.ttest_rel(good, base).pvalue
    assert by_conflict[0]["mean"] == pytest.approx(0.5)
    assert by_conflict[0]["p"] == pytest.approx(p)  # one world of each conflict


def test_settings_of_the_map_are_of_one_world():
    """So it must not be told as so many worlds."""
    small = video_feed.FeedConfig(users=40, videos=40, impressions=800, days=4)
    change = dataclasses.replace
    near, far, rare = (
        next(iter(video_feed.read(config).splits["train"]))
        for config in (
            change(small, conflict=0.0),
            change(small, conflict=1.0),
            change(small, conflict=0.0, click_rate=0.04),
        )
    )
    np.testing.assert_array_equal(near.labels["click"], far.labels["click"])
    assert (near.labels["watch"] != far.labels["watch"]).any()
    assert (near.labels["click"] != rare.labels["click"]).any()
    for name, ids in near.groups.items():
        np.testing.assert_array_equal(ids, far.groups[name])
        np.testing.assert_array_equal(ids, rare.groups[name])
    worlds = [{"click_rate": 0.4, "conflict": c} for c in (0.0, 0.5, 1.0)]
    extent = conflict_figures.extent({"worlds": worlds})
    assert extent == "1 click rate × 3 conflicts in one world"


def test_a_map_of_two_settings(command, tmp_path, monkeypatch):
    rows = (base_ctr, base_cvr, s_weight, shuffled_masks)
    monkeypatch.setattr(conflict, "ROWS", rows)
    monkeypatch.setattr(conflict, "CONFLICTS", (0.0, 1.0))
    monkeypatch.setattr(conflict, "CLICK_RATES", (0.4,))
    announced = []
    monkeypatch.setattr(
        Monitor, "begin", lambda self, name: announced.append(self._bar.total)
    )
    text = command("lt4rec.conflict", tmp_path)
    assert announced == [len(announced)] * len(announced)  # all worlds from the start
    result = json.loads((tmp_path / "conflict.json").read_text())
    first, second = result["worlds"]
    assert (first["conflict"], second["conflict"]) == (0, 1)
    assert set(first["rows"]) == {"base", "s-weight"}
    assert set(first["rows"]["base"]) == {"cvr.mse", "ctr.auc"}
    assert first["oracle"] != second["oracle"]
    for world_ in result["worlds"]:
        for method in world_["rows"].values():
            assert method["cvr.mse"]["mean"] > world_["oracle"]["cvr.mse"]
    assert "s-weight" in text
    controls = json.loads((tmp_path / "conflict_controls.json").read_text())
    assert controls["reference"] == "s-weight"
    assert set(controls["worlds"][0]["rows"]) == {"s-weight", "shuffled masks"}
    for family in ("conflict", "conflict_controls"):
        text = (tmp_path / f"{family}.md").read_text()
        assert "s-weight" in text
        assert "- 1 click rate × 2 conflicts in one world: users, videos" in text
        for end in ("", "_difference", "_margins", "_best"):
            assert (tmp_path / f"{family}{end}.png").stat().st_size > 10_000


def test_the_map_needs_a_log_that_knows_its_truth(capsys, tmp_path):
    given = ["--data.name", "hillstrom", "--data.path", str(tmp_path / "none.gz")]
    assert run.main(["lt4rec.conflict", *given, "--workdir", str(tmp_path)]) == 1
    assert "error:" in capsys.readouterr().err


def test_tasks_share_a_table_and_what_masks_keep(command, tmp_path, monkeypatch):
    monkeypatch.setattr(tasks, "_names", lambda schema: ["click", "watch"])
    command("lt4rec.tasks", tmp_path)
    result = json.loads((tmp_path / "tasks.json").read_text())
    series = result["series"]
    value = lambda name, at, cost: series[name][at]["metrics"][cost]["mean"]
    alone = value("separate nets", 0, "cost.storage")
    assert value("separate nets", 1, "cost.storage") == pytest.approx(2 * alone)
    shared = value("hard sharing (trunk)", 0, "cost.storage")
    assert alone < shared < 1.1 * alone  # a second head is all it adds
    assert value("s-weight", 0, "cost.net") < value(
        "hard sharing (trunk)", 0, "cost.net"
    )
    work = value("s-weight", 0, "cost.work")
    assert work < value("separate nets", 1, "cost.work")
    assert "CTR AUC" in result["metrics"].values()
    assert (tmp_path / "tasks.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("module", "values"),
    [
        (view_width, "WIDTHS"),
        (net_size, "FACTORS"),
        (density, "DENSITIES"),
        (cvr_weight, "WEIGHTS"),
    ],
)
def test_a_sweeps_points_are_what_they_say(module, values, monkeypatch, tmp_path):
    """Nothing is trained: the points are looked at where they would be."""
    asked = {}

    def write(context, series, levels, **about):
        asked.update(series)
        return ""

    monkeypatch.setattr(sweeps, "write", write)
    name = module.__name__.removeprefix("experiments.")
    assert run.main([name, *TINY, "--workdir", str(tmp_path), "--seeds", "1"]) == 0
    for points in asked.values():
        assert [point.x for point in points] == list(getattr(module, values))
    configs = [p.ablation.config for points in asked.values() for p in points]
    read = {
        "WIDTHS": lambda c: dict(c.model.own_dims)["cvr"],
        "FACTORS": lambda c: c.model.hidden[0] / 16,
        "DENSITIES": lambda c: c.pruning.final_density,
        "WEIGHTS": lambda c: dict(c.training.weights)["cvr"],
    }[values]
    assert {read(config) for config in configs} == set(getattr(module, values))
    assert len({p.ablation.module for ps in asked.values() for p in ps}) == len(configs)


@pytest.mark.parametrize("given", ["nothing", "click click"])
def test_tasks_of_other_names_are_refused(given, capsys, tmp_path):
    names = ["--training.tasks", *given.split()]
    where = ["--workdir", str(tmp_path)]
    assert run.main(["lt4rec.hard_sharing_trunk", *TINY, *where, *names]) == 1
    error = capsys.readouterr().err
    assert given in error and "'follow'" in error


def test_status_tells_what_is_done_and_left(command, tmp_path):
    command("lt4rec.s_weight", tmp_path)
    found = status.read(tmp_path)
    assert found.name == "lt4rec.s_weight" and found.holder is None
    assert found.rows["lt4rec.s_weight"][0] == 1 and found.searches == 2
    assert found.plan["done"] == found.plan["trainings"] == 5
    text = status.to_text(found, now=0)
    assert "1 of 1" in text and "nothing is left" in text


def test_status_of_a_study_that_was_stopped():
    plan = {"trainings": 10, "done": 4, "now": "", "seeds": [0, 1]}
    plan |= {"started": 1000.0, "updated": 1400.0}
    rows = {"x.a": (1, 61.0), "x.b": (0, 0)}
    found = status.Status("x", rows, "seeds", 1, plan, None)
    text = status.to_text(found, now=9e9)
    assert "1 of 2" in text and "1:01" in text
    assert "4 of 10 trainings in 6:40; about 10:00 left" in text
    assert "the same command goes on" in text
    busy = found._replace(holder="process 7", plan={**plan, "now": "x.b seed 0 joint"})
    text = status.to_text(busy, now=1200.0)
    assert "in 3:20" in text and "now x.b seed 0 joint (process 7)" in text


def test_status_of_another_folder_is_an_error(tmp_path, capsys):
    assert status.main([str(tmp_path)]) == 1
    assert "no work directory" in capsys.readouterr().err
