"""A metric is one new file: it is computed, has options, and shows in a table."""

import dataclasses
import importlib
import json
import sys
import textwrap

import numpy as np
import pytest
import tyro
from tiny import ONCE, TINY

from experiments import run
from experiments.settings import sections
from experiments.settings.config import Config, MetricsConfig
from jaxmtl import metrics
from jaxmtl.types import Task

FOLDER = "jaxmtl.metrics.methods"
CLICK, SPEND = Task("click"), Task("spend", kind="continuous", high=9.0, metric="mse")
LABELS = {"click": np.float32([1, 0, 1]), "spend": np.float32([3, 2, 0])}
USERS = np.arange(3)


@pytest.fixture
def brier(tmp_path, monkeypatch):
    """A file in a further folder of metrics."""
    (tmp_path / "brier.py").write_text(
        textwrap.dedent(
            '''
            """Squared error of a chance, times a factor (Brier, 1950)."""
            import dataclasses

            from jaxmtl.metrics.metric import Measure, measured

            @dataclasses.dataclass(frozen=True)
            class Brier:
                """
                Attributes:
                  factor: of the score.
                """
                factor: float = 1.0

            def brier(options: Brier) -> Measure:
                """Of binary tasks."""
                return Measure(
                    lambda task: task.kind == "binary",
                    lambda labels, predictions, users: measured(
                        options.factor * ((labels - predictions) ** 2).mean(), labels
                    ),
                )
            '''
        ).lstrip()
    )
    methods = importlib.import_module(FOLDER)
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(tmp_path)])
    yield
    sys.modules.pop(f"{FOLDER}.brier", None)
    if hasattr(methods, "brier"):
        del methods.brier


def test_a_new_file_is_computed_for_the_tasks_it_applies_to(brier):
    predictions = np.array([0.5, 0.5, 1.0])
    found = metrics.evaluate(CLICK, LABELS, predictions, USERS)
    assert found["brier"] == (pytest.approx(1 / 6), 3, 2, "impression", None)
    assert "brier" not in metrics.evaluate(SPEND, LABELS, predictions, USERS)


def test_its_options_are_a_section_of_the_command_line_and_are_heeded(brier):
    @sections.everything(FOLDER)
    @dataclasses.dataclass(frozen=True)
    class Judged:
        """What judges."""

    given = tyro.cli(Judged, args=["--brier.factor", "6"])
    options = sections.by_name(given)
    assert list(options) == ["brier"]  # one without options needs no section
    predictions = np.array([0.5, 0.5, 1.0])
    found = metrics.evaluate(CLICK, LABELS, predictions, USERS, options)
    assert found["brier"].value == pytest.approx(1.0)
    assert dataclasses.asdict(given) == {"brier": {"factor": 6.0}}


def test_the_metrics_that_are_there_are_part_of_the_configuration():
    assert isinstance(Config().metrics, MetricsConfig)
    assert sections.by_name(Config().metrics).keys() <= set(
        metrics.evaluate(CLICK, LABELS, np.full(3, 0.5), USERS)
    )


@pytest.mark.end_to_end
def test_a_new_files_metric_is_in_a_rows_results_and_its_table(
    brier, cache, tmp_path, capsys
):
    where = ("--data.cache", str(cache), "--workdir", str(tmp_path / "run"))
    settings = (*ONCE.split(), "--seeds", "1", "--processes", "1")
    code = run.main(["lt4rec.hard_sharing", *TINY, *where, *settings])
    assert code == 0, capsys.readouterr().err
    (path,) = (tmp_path / "run").rglob("seed.json")
    found = json.loads(path.read_text())["metrics"]
    assert found["ctr.brier"]["value"] == pytest.approx(found["ctr.mse"]["value"])
    assert "cvr.brier" not in found  # a share of a video is no binary label
    (table,) = (tmp_path / "run").rglob("table.md")
    assert "; brier on impression rows" in table.read_text()
