"""Does adaptation resist noisy features? Noise on numbers and on ids, with and without.

The paper claims that learned additions A_t make the net robust against noisy features,
and explains Table 4, where they do not help, by categorical inputs. Note what they are:
A_t is the same for every row, so that X_0·W + A_t·W is a bias of each step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from experiments.analysis import sweeps
from experiments.analysis.context import Context
from experiments.analysis.figures import sweep_figures
from experiments.analysis.report import results
from experiments.analysis.statistics import correct, paired_t
from experiments.analysis.tables import quotients
from experiments.dcrnn import bilstm, bilstm_ada, mmoe
from experiments.settings import views
from experiments.settings.ablation import Ablation, Row

ROWS = (bilstm, bilstm_ada, mmoe)
LEVELS = {"numeric_noise": (0.0, 0.5, 1.0, 2.0), "categorical_noise": (0, 0.1, 0.3)}


def run(context: Context) -> str:
    """Trains every noise; writes `noise.json`, `noise.md` and `noise.png`."""
    panels = {kind: _series(context, kind) for kind in _kinds(context)}
    every = {
        f"{kind}/{name}": points
        for kind, series in panels.items()
        for name, points in series.items()
    }
    trained = sweeps.train(context, every)
    curves = sweeps.as_json(every, trained, list(context.layout.main))
    found = {
        **context.about,
        "notes": quotients(context.rows),
        "metrics": dict(context.layout.main),
        "panels": {
            kind: {name: curves[f"{kind}/{name}"] for name in series}
            for kind, series in panels.items()
        },
    }
    metric = results.noise_metric(found)
    found["adaptation"] = adaptation(found["panels"], metric)
    text = results.keep(found, context.workdir, "noise")
    drawn = {kind: found["panels"][kind] for kind in panels if kind in LEVELS}
    title = context.layout.main[metric]
    sweep_figures.noise_figure(drawn, metric, title, context.workdir / "noise.png")
    where = f"written to {context.workdir}: noise.json, noise.md, noise.png, rows/"
    return f"{text}\n\n{where}\n"


def _kinds(context: Context) -> list[str]:
    has_numeric = context.data.schema.numeric
    return (["inputs", "numeric_noise"] if has_numeric else []) + ["categorical_noise"]


def _series(context: Context, kind: str) -> dict[str, list[sweeps.Point]]:
    """Row -> a point for each level; `inputs` has one, without numeric features."""
    seen = {
        level: views.apply(context.data, view)
        for level, view in (
            [(0.0, views.View(inputs="categorical"))]
            if kind == "inputs"
            else [(level, views.View(**{kind: level})) for level in LEVELS[kind]]
        )
    }

    def point(row: Ablation, level: float) -> sweeps.Point:
        # Without noise there is one training, whatever the noise would have been.
        setting = f"-{kind}-{level:g}" if level or kind == "inputs" else ""
        module = f"{context.name}.{row.row.name}{setting}"
        config = replace(
            row.config, data=replace(row.config.data, view=views.View())
        )  # the data set is seen through the view already
        return sweeps.Point(level, Ablation(module, Row(module), config), seen[level])

    return {row.row.name: [point(row, level) for level in seen] for row in context.rows}


def adaptation(
    panels: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]], metric: str
) -> list[dict[str, Any]]:
    """What adaptation changes of a metric: a test for each distinct training.

    Args:
      panels: kind of noise -> row -> for each level its place and metrics, as in
        `noise.json`.
      metric: that is tested.

    Returns:
      For each input, that without noise once, the means, the paired test over seeds
      and its p by Holm's correction over all of them.
    """
    found: dict[str, dict[str, Any]] = {}
    for kind, series in panels.items():
        rows = (series[bilstm.ROW.name], series[bilstm_ada.ROW.name])
        for points in zip(*rows, strict=True):
            name = _inputs(kind, points[0]["x"])
            plain, adapted = (point["metrics"][metric]["values"] for point in points)
            if name in found or None in plain + adapted:
                continue  # tested already, or a test split too small to decide it
            found[name] = {
                "inputs": name,
                "without": sum(plain) / len(plain),
                "with": sum(adapted) / len(adapted),
                **paired_t(adapted, plain)._asdict(),
            }
    tests = [*found.values()]
    correct(tests)
    return tests


def _inputs(kind: str, level: float) -> str:
    """What a training sees; level 0 of every kind of noise is one training."""
    if kind == "inputs":
        return "categorical alone"
    return f"{kind.replace('_', ' ')} {level:g}" if level else "no noise"
