"""Runs rows: ticket searches, joint training, scores; keeps whatever is finished."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.analysis.statistics import RESAMPLES, bootstrap_users, resample_users
from experiments.analysis.table import RowResult
from experiments.running import joint, ticket_searches
from experiments.running.crew import Crew, Job
from experiments.running.workdir import read_json, write_json
from experiments.settings import scores
from experiments.settings.ablation import Ablation
from experiments.settings.config import Config
from experiments.settings.setup import not_applicable
from jaxmtl.data.store import Dataset
from jaxmtl.metrics import Metric


def run_rows(
    ablations: Sequence[Ablation],
    seeds: Sequence[int],
    data: Dataset,
    crew: Crew,
    main: Collection[str],
) -> list[RowResult]:
    """Trains whatever of the rows is not finished yet, and gathers all of them.

    What it trains is to be announced first, by `expect_rows`.

    Args:
      ablations: the rows.
      seeds: of initial weights and of the order of the data.
      data: the log.
      crew: trains; its work directory is claimed for the configuration.
      main: the metrics to bootstrap over the users of the test.

    Returns:
      A result for each row, each also written to `rows/<module>/result.json`.
    """
    workdir = crew.workdir
    for ablation, seed in itertools.product(ablations, seeds):
        if joint.seed_file(workdir, ablation, seed).exists():
            left = joint.progress_folder(workdir, ablation, seed)
            shutil.rmtree(left, ignore_errors=True)  # killed before it tidied up
    todo = _unfinished(ablations, seeds, data, workdir)
    searches = ticket_searches.missing(_configs(todo), data, workdir)
    ticket_searches.make(searches, data, crew)
    crew.do(
        joint.run_seed,
        todo,
        data,
        program=lambda job: joint.setup_of(job.what.config, data).spec,
    )
    resampled = None
    if main:
        users = data.splits["test"].groups["user"]
        resampled = resample_users(users, RESAMPLES)
    return [
        gather(ablation, seeds, data, workdir, resampled, main)
        for ablation in ablations
    ]


def expect_rows(
    ablations: Sequence[Ablation], seeds: Sequence[int], data: Dataset, crew: Crew
) -> None:
    """Announces what `run_rows` will train."""
    todo = _unfinished(ablations, seeds, data, crew.workdir)
    crew.monitor.expect(len(todo))
    ticket_searches.expect(
        ticket_searches.missing(_configs(todo), data, crew.workdir),
        crew.monitor,
    )


def _unfinished(
    ablations: Sequence[Ablation], seeds: Sequence[int], data: Dataset, workdir: Path
) -> list[Job]:
    return [
        Job(ablation, seed)
        for ablation in ablations
        for seed in seeds
        if not_applicable(ablation.config, data.schema) is None
        and not joint.seed_file(workdir, ablation, seed).exists()
    ]


def _configs(jobs: Sequence[Job]) -> list[tuple[Config, int]]:
    return [(ablation.config, seed) for ablation, seed in jobs]


def oracle(data: Dataset, options: Mapping[str, Any] | None = None) -> RowResult | None:
    """What nobody can beat, where the log knows its truth; `options` are metrics'."""
    truth = scores.truth(data, "test")
    if truth is None:
        return None
    found = scores.score(data, "test", truth, options)
    metrics = {name: [metric] for name, metric in found.items()}
    return RowResult("oracle", "", {}, [], metrics, None, {}, 0.0)


def gather(
    ablation: Ablation,
    seeds: Sequence[int],
    data: Dataset,
    workdir: Path,
    resampled: tuple[np.ndarray, np.ndarray] | None,
    main: Collection[str],
) -> RowResult:
    """A row over its seeds, written to its `result.json` too.

    Without `resampled`, as `resample_users` draws, its test users are not drawn again.
    """
    row, module = ablation.row, ablation.module
    path = workdir / "rows" / module / "result.json"
    reason = not_applicable(ablation.config, data.schema)
    if reason is not None:
        status = f"not applicable: {reason}"
        result = RowResult(row.name, module, row.paper, [], {}, None, {}, 0.0, status)
        write_json(path, result._asdict())
        return result
    files = [joint.seed_file(workdir, ablation, seed) for seed in seeds]
    parts = [_read_seed(path, seed) for path, seed in zip(files, seeds, strict=True)]
    predictions = [joint.read_predictions(path.parent) for path in files]
    metrics = {
        name: [Metric(**part["metrics"][name]) for part in parts]
        for name in parts[0]["metrics"]
    }
    result = RowResult(
        row=row.name,
        module=module,
        paper=row.paper,
        seeds=list(seeds),
        metrics=metrics,
        params=round(
            np.mean([part["params"]["net kept by any task"] for part in parts])
        ),
        density={
            name: float(np.mean([part["density"][name] for part in parts]))
            for name in parts[0]["density"]
        },
        seconds=sum(part["seconds"] + part["search_seconds"] for part in parts),
        bootstrap=_bootstrap(data, predictions, resampled, main) if resampled else {},
    )
    kept = result._replace(bootstrap=None)._asdict() | {"by_seed": parts}
    kept["metrics"] = {n: [m._asdict() for m in ms] for n, ms in metrics.items()}
    write_json(path, kept)
    return result


def _read_seed(path: Path, seed: int) -> dict:
    part = read_json(path)
    if part["seed"] != seed:
        raise ValueError(
            f"{path} is of seed {part['seed']}; put back what was there, or delete"
            f" {path.parent} to train it again"
        )
    return part


def _bootstrap(
    data: Dataset,
    predictions: list[dict[str, np.ndarray]],
    resampled: tuple[np.ndarray, np.ndarray],
    main: Collection[str],
) -> dict[str, np.ndarray]:
    labels, (user_index, counts) = scores.labels_of(data, "test"), resampled
    found = {}
    for name in predictions[0]:
        task, start = (
            scores.task_of(data.schema, name),
            scores.prefix(data.schema, name),
        )
        wanted = [m for m in ("auc", "mse") if f"{start}.{m}" in main]
        if task.kind != "binary":
            wanted = [m for m in wanted if m != "auc"]
        inside = task.inside(labels)
        for metric in wanted:
            stacked = np.stack([part[name][inside] for part in predictions])
            found[f"{start}.{metric}"] = bootstrap_users(
                metric, labels[name][inside], stacked, user_index[inside], counts
            )
    return found
