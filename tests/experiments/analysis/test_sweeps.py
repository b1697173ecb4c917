"""A sweep trains each point once, on its own log, and says what it measured."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from experiments.analysis import figures, study, sweeps
from experiments.analysis.context import Context
from experiments.analysis.figures import sweep_figures
from experiments.analysis.statistics import mean_interval
from experiments.analysis.table import RowResult
from experiments.settings.ablation import Ablation, Row
from experiments.settings.config import Config
from experiments.settings.layout import DCRNN
from jaxmtl.data.store import Dataset
from jaxmtl.metrics import Metric

SEEDS = [0, 1, 2]


def make_data(fingerprint) -> Dataset:
    return Dataset(None, {}, {}, (), fingerprint)


CLEAN, NOISY = make_data("clean"), make_data("noisy")


def make_point(x, module, data=CLEAN):
    return sweeps.Point(x, Ablation(module, Row(module), Config()), data)


def make_result(module, metrics):
    measured = {
        name: [Metric(value, 50, 20) for value in values]
        for name, values in metrics.items()
    }
    return RowResult(module, module, {}, SEEDS, measured, 7, {}, 1.0)


@pytest.fixture
def calls(monkeypatch):
    """What is asked of `study`, which announces and trains nothing here."""
    asked = []

    def run_rows(ablations, seeds, data, crew, main):
        modules = [ablation.module for ablation in ablations]
        asked.append((data.fingerprint, modules, list(seeds), tuple(main)))
        return [make_result(m, {"ctr.auc": [0.5, 0.6, 0.7]}) for m in modules]

    def expect_rows(ablations, seeds, data, crew):
        modules = [ablation.module for ablation in ablations]
        asked.append(("announced", data.fingerprint, modules, list(seeds)))

    monkeypatch.setattr(study, "expect_rows", expect_rows)
    monkeypatch.setattr(study, "run_rows", run_rows)
    return asked


CONTEXT = Context("dcrnn.x", [], None, SEEDS, CLEAN, None, "run it", DCRNN)


def test_points_of_one_log_train_together_and_shared_ones_once(calls):
    series = {
        "a": [make_point(0, "zero"), make_point(1, "a1"), make_point(2, "a2", NOISY)],
        "b": [make_point(0, "zero"), make_point(2, "b2", NOISY)],
    }
    found = sweeps.train(CONTEXT, series)
    assert calls == [
        ("announced", "clean", ["zero", "a1"], SEEDS),
        ("announced", "noisy", ["a2", "b2"], SEEDS),
        ("clean", ["zero", "a1"], SEEDS, ()),
        ("noisy", ["a2", "b2"], SEEDS, ()),
    ]
    assert {name: [row.module for row in rows] for name, rows in found.items()} == {
        "a": ["zero", "a1", "a2"],
        "b": ["zero", "b2"],
    }


def test_a_curve_holds_place_size_and_what_was_measured():
    series = {"a": [make_point(0, "zero"), make_point(3, "three")]}
    values = [0.5, 0.6, 0.8]
    results = {
        "a": [
            make_result("zero", {"ctr.auc": values, "ctr.mse": [0.1] * 3}),
            make_result("three", {"cvr.auc": [0.5, None, 0.6]}),
        ]
    }
    first, second = sweeps.as_json(series, results, ["ctr.auc", "cvr.auc"])["a"]
    mean, low, high = mean_interval(values)
    measured = {"mean": mean, "ci95": [low, high], "values": values}
    assert first == {"x": 0, "params": 7, "metrics": {"ctr.auc": measured}}
    undefined = {"mean": None, "ci95": None, "values": [0.5, None, 0.6]}
    assert second == {"x": 3, "params": 7, "metrics": {"cvr.auc": undefined}}


def test_one_seed_has_a_mean_and_no_interval():
    row = make_result("a", {})._replace(metrics={"ctr.auc": [Metric(0.7, 5, 2)]})
    found = sweeps.summary(row, "ctr.auc")
    assert found == {"mean": 0.7, "ci95": None, "values": [0.7]}


def curve(heights, params=(10, 20, 30), with_interval=True):
    return [
        {
            "x": x,
            "params": size,
            "metrics": {
                "ctr.auc": {
                    "mean": y,
                    "ci95": [y - 0.02, y + 0.02] if with_interval and y else None,
                    "values": [y],
                }
            },
        }
        for x, (y, size) in enumerate(zip(heights, params, strict=True))
    ]


def area(path, colour):
    """Fraction of a picture's pixels that have a colour."""
    picture = imread(path)[..., :3]
    assert picture.shape[0] > 300 and picture.shape[1] > 300
    return (np.abs(picture - to_rgb(colour)).max(axis=-1) < 0.01).mean()


@pytest.mark.parametrize("with_interval", [True, False])
def test_a_sweep_is_drawn_with_its_levels_and_sizes(with_interval, tmp_path):
    result = {
        "figure": "dcrnn.interval",
        "data": "video_feed",
        "x": "interval",
        "is_log": False,
        "with_params": True,
        "metrics": {"ctr.auc": "CTR AUC", "cvr.auc": "CVR AUC"},
        "series": {
            "one": curve([0.6, 0.62, 0.61], with_interval=with_interval),
            "two": curve([0.6, None, 0.7], with_interval=with_interval),
        },
        "levels": {"MMoE": curve([0.65], [15])[0], "other": curve([None], [9])[0]},
    }
    path = tmp_path / "new" / "sweep.png"
    sweep_figures.sweep_figure(result, path)
    for colour in (figures.BLUE, figures.ORANGE, figures.GREY):
        assert area(path, colour), colour


def test_noise_and_growth_are_drawn(tmp_path):
    panels = {"numeric_noise": {"a": curve([0.6, 0.5, 0.4]), "b": curve([0.6] * 3)}}
    path = tmp_path / "noise.png"
    sweep_figures.noise_figure(panels, "ctr.auc", "CTR AUC", path)
    assert area(path, figures.BLUE) and area(path, figures.ORANGE)
    part = {"x": (1, 2), "at": "depth 3", "params": {"dcn": [5, 9], "cin": [50, 99]}}
    sweep_figures.growth_figure({"fields": part}, tmp_path / "growth.png")
    assert area(tmp_path / "growth.png", figures.BLUE)


def test_an_interval_from_zero_is_no_missing_one():
    zero = make_result("a", {"cost": [0.0, 0.0, 0.0]})
    assert sweeps.summary(zero, "cost")["ci95"] == [0.0, 0.0]


def test_where_no_metric_is_bootstrapped_no_users_are_drawn(tmp_path, monkeypatch):
    class Idle:
        workdir = tmp_path

        def do(self, *args, **kwargs):
            pass

    def fail(*args):
        raise AssertionError("nobody asks for it")

    monkeypatch.setattr(study, "resample_users", fail)
    assert study.run_rows([], SEEDS, CLEAN, Idle(), main=()) == []
    with pytest.raises(KeyError, match="test"):  # whose users they would be
        study.run_rows([], SEEDS, CLEAN, Idle(), main=("ctr.auc",))
