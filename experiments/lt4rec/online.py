"""Table 3, simulated: view time when eq. 3 ranks by pairs of models; its bounds.

The paper tries four pairs of a CTR and a CVR model on users, and tells one number in
its text: +1.5 % view time over single tasks. Here the users are the simulated feed's,
whose truth says what view time to expect of any ranking
(`experiments.online.feed_sessions`):

    python -m experiments.run lt4rec.online

Every policy ranks the same candidates of the same sessions of the test day. Footnote 2
of Table 3 sets a = b = c = 1; beside it stand exponents chosen on sessions of the
validation day, the same for all pairs. A common factor of the three changes no order,
so a stays 1.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.analysis import tables
from experiments.analysis.context import Context
from experiments.analysis.figures import online_figures
from experiments.analysis.statistics import RESAMPLES, mean_interval
from experiments.analysis.table import RowResult
from experiments.export import restore
from experiments.lt4rec import (
    base_ctr,
    base_cvr,
    esmm,
    hard_sharing,
    hard_sharing_trunk,
    mmoe,
    ple,
    random_masks,
    s_neuron,
    s_weight,
    s_weight_taskbalance,
    ticket_ctr,
    ticket_cvr,
)
from experiments.online import feed_sessions, online_statistics, online_text
from experiments.online.feed_sessions import Exponents, Sessions
from experiments.running.workdir import write_json
from experiments.settings.views import View
from jaxmtl.data.sources.video_feed import Feed, make_feed
from jaxmtl.data.sources.video_feed.world import truth
from jaxmtl.training.inference import predict_all
from jaxmtl.types import Rows

ROWS = (
    base_ctr,
    base_cvr,
    hard_sharing,
    s_weight,
    s_neuron,
    s_weight_taskbalance,
    hard_sharing_trunk,
    ticket_ctr,
    ticket_cvr,
    random_masks,
    esmm,
    mmoe,
    ple,
)
PAIRS = {
    "base / base": ("base ctr", "base cvr"),
    "base / hard": ("base ctr", "hard sharing"),
    "base / sparse": ("base ctr", "s-weight"),
    "sparse / sparse": ("s-weight", "s-weight"),
}
"""Table 3: the rows whose CTR and whose CVR ranks."""
BASE = "base / base"
PAPER = "+1.5 % view time over single tasks, the only number of Table 3 in its text"
SESSIONS, CANDIDATES, PLACES = 2000, 50, 10
GRID = tuple(
    Exponents(1.0, cvr, length)
    for cvr, length in itertools.product(
        (0, 0.5, 0.75, 1, 1.5, 2, 4), (0, 0.5, 0.75, 1, 1.25, 1.5, 2)
    )
)


class Trial(NamedTuple):
    """Sessions of a day, their candidates as rows, and the view time to expect."""

    sessions: Sessions
    rows: Rows
    view: np.ndarray


Predicted = Mapping[tuple[str, int], Mapping[str, np.ndarray]]
"""(row, seed) -> `ctr` and `cvr` -> a prediction for every candidate of a trial."""


def run(context: Context) -> str:
    """Trains what is missing; writes `online.json` and `online.png`."""
    feed = _feed(context)
    results = {row.row: row for row in tables.train(context)}
    days, seeds = feed.world.config.days, list(context.seeds)
    validation, test = (_trial(feed, day) for day in (days - 2, days - 1))
    predicted = [_predict(context, trial.rows) for trial in (validation, test)]
    chosen, tried = choose_exponents(validation, predicted[0], seeds)
    weightings = {"a = b = c = 1": Exponents()}
    if chosen != Exponents():
        weightings["chosen"] = chosen
    found = {
        **context.about,
        "sessions": [SESSIONS, CANDIDATES, PLACES],
        "resamples": RESAMPLES,
        "paper": PAPER,
        "weightings": {
            name: {
                "exponents": exponents._asdict(),
                "pairs": online_statistics.compare(
                    {
                        pair: _views(test, predicted[1], *rows, seeds, exponents)
                        for pair, rows in PAIRS.items()
                    },
                    test.sessions.users,
                    BASE,
                ),
                "offline": _offline(results, test, predicted[1], seeds, exponents),
            }
            for name, exponents in weightings.items()
        },
        "chosen": chosen._asdict(),
        "tried": tried,
        "bounds": _bounds(feed, test, weightings),
        "drawn": _drawn(feed, test, predicted[1], seeds),
    }
    write_json(context.workdir / "online.json", found)
    online_figures.draw(found, context.workdir / "online.png")
    where = f"written to {context.workdir}: online.json, online.png, rows/"
    return f"{online_text.to_text(found)}\n\n{where}\n"


def _feed(context: Context) -> Feed:
    """The feed that the log was drawn from."""
    config = context.rows[0].config.data
    if config.name != "video_feed" or config.view != View():
        raise ValueError(
            f"{context.name} asks the simulated feed for its truth, but --data.name is"
            f" {config.name} with the view {config.view}; leave both at their defaults"
        )
    return make_feed(config.feed)


def _trial(feed: Feed, day: int) -> Trial:
    sessions = feed_sessions.draw_sessions(feed.world, day, SESSIONS, CANDIDATES)
    view = feed_sessions.expected_view(feed.world, sessions, PLACES)
    return Trial(sessions, feed_sessions.as_rows(feed, sessions), view)


def _predict(context: Context, rows: Rows) -> Predicted:
    schema, found = context.data.schema, {}
    names = {schema.ctr: "ctr", schema.cvr: "cvr"}
    for row, seed in itertools.product(context.rows, context.seeds):
        folder = context.workdir / "rows" / row.module
        trained = restore(folder, seed, row.config, context.data)
        made = predict_all(trained.setup, trained.snapshot, trained.masks, rows)
        mine = {names[task]: x for task, x in made.items() if task in names}
        found[row.row.name, seed] = mine
    return found


def _views(
    trial: Trial,
    predicted: Predicted,
    ctr: str,
    cvr: str,
    seeds: Sequence[int],
    exponents: Exponents,
    view: np.ndarray | None = None,
) -> np.ndarray:
    """View time [seeds, sessions] where the rows `ctr` and `cvr` rank."""
    view = trial.view if view is None else view
    found = []
    for seed in seeds:
        of = predicted[ctr, seed]["ctr"], predicted[cvr, seed]["cvr"]
        order = feed_sessions.rank(
            *of, trial.sessions.seconds, exponents, view.shape[-1]
        )
        found.append(feed_sessions.view_time(view, order))
    return np.stack(found)


def choose_exponents(
    trial: Trial, predicted: Predicted, seeds: Sequence[int]
) -> tuple[Exponents, list[dict[str, Any]]]:
    """The exponents with the longest mean view time over all pairs and seeds.

    Returns:
      The best of `GRID`, and every one with its view time.
    """
    means = [
        float(
            np.mean(
                [
                    _views(trial, predicted, *rows, seeds, exponents)
                    for rows in PAIRS.values()
                ]
            )
        )
        for exponents in GRID
    ]
    tried = [
        {**exponents._asdict(), "view": mean}
        for exponents, mean in zip(GRID, means, strict=True)
    ]
    return GRID[int(np.argmax(means))], tried


def _bounds(
    feed: Feed, trial: Trial, weightings: Mapping[str, Exponents]
) -> dict[str, float]:
    """Policy that needs no model -> its mean view time."""
    known, seconds = truth(feed.world, *trial.sessions.offers), trial.sessions.seconds
    found = {"random order": feed_sessions.random_view_time(trial.view)}
    for name, exponents in weightings.items():
        order = feed_sessions.rank(known.click, known.watch, seconds, exponents, PLACES)
        earned = feed_sessions.view_time(trial.view, order)
        found[f"the truth in eq. 3 ({name})"] = earned
    found["best order there is"] = feed_sessions.best_view_time(trial.view)
    return {name: float(values.mean()) for name, values in found.items()}


def _drawn(
    feed: Feed, trial: Trial, predicted: Predicted, seeds: Sequence[int]
) -> dict[str, dict[str, Any]]:
    """Pair -> view time of reactions drawn once, beside the time expected."""
    rng = np.random.default_rng(feed.world.config.seed)
    drawn = feed_sessions.drawn_view(feed.world, trial.sessions, PLACES, rng)
    found = {}
    for pair, rows in PAIRS.items():
        here = (trial, predicted, *rows, seeds, Exponents())
        expected, happened = _views(*here), _views(*here, drawn)
        apart = (happened - expected).mean(0)  # over seeds, session by session
        over_sessions = mean_interval(apart)
        found[pair] = {
            "mean": float(happened.mean()),
            "difference": over_sessions.mean,
            "ci95_sessions": over_sessions.ends,
        }
    return found


def _offline(
    results: Mapping[str, RowResult],
    trial: Trial,
    predicted: Predicted,
    seeds: Sequence[int],
    exponents: Exponents,
) -> dict[str, dict[str, Any]]:
    """How the offline metric of a model orders the view time it earns online.

    A row's CTR ranks with the single task's CVR, and the other way round, so that one
    model alone differs.
    """
    base_of, found = dict(zip(("ctr", "cvr"), PAIRS[BASE], strict=True)), {}
    for role, metric in (("ctr", "ctr.auc"), ("cvr", "cvr.mse")):
        models = []
        for name, row in results.items():
            offline = [m.value for m in row.metrics.get(metric, [])]
            if offline and None not in offline:
                pair = {**base_of, role: name}
                view = _views(
                    trial, predicted, pair["ctr"], pair["cvr"], seeds, exponents
                ).mean(1)
                models.append({"row": name, "offline": offline, "view": view.tolist()})
        better = -1 if metric.endswith("mse") else 1
        found[metric] = {
            "models": models,
            **online_statistics.correlate(models, better),
        }
    return found
