"""Runs rows: tickets, joint training, test scores; keeps whatever is finished."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from experiments import scores, ticket_cache
from experiments.ablation import Ablation
from experiments.config import Config
from experiments.monitor import Monitor
from experiments.report import RowResult
from experiments.setup import (
    make_plan,
    make_setup,
    not_applicable,
    role,
    task_names,
)
from experiments.statistics import bootstrap_users, resample_users
from experiments.workdir import (
    read_arrays,
    read_json,
    write_arrays,
    write_json,
)
from jaxmtl import checkpoint, masks, pruning, tickets
from jaxmtl.data.store import Dataset
from jaxmtl.fit import Fit, fit
from jaxmtl.keys import named
from jaxmtl.metrics import Metric
from jaxmtl.setup import Setup
from jaxmtl.train import init_net, predict_all
from jaxmtl.types import Mask

RESAMPLES = 200


def run_rows(
    ablations: Sequence[Ablation],
    seeds: Sequence[int],
    data: Dataset,
    workdir: Path,
    monitor: Monitor,
) -> list[RowResult]:
    """Trains whatever of the rows is not finished yet, and gathers all of them.

    Args:
      ablations: the rows.
      seeds: of initial weights and of the order of the data.
      data: the log.
      workdir: of the run, claimed for its configuration.
      monitor: watches.

    Returns:
      A result for each row, each also written to `rows/<module>/result.json`.
    """
    reasons = [not_applicable(a.config, data.schema) for a in ablations]
    todo = [
        (ablation, seed)
        for seed in seeds
        for ablation, reason in zip(ablations, reasons, strict=True)
        if reason is None and not _seed_file(workdir, ablation, seed).exists()
    ]
    monitor.expect(len(todo))
    expect_tickets([(a.config, seed) for a, seed in todo], data, workdir, monitor)
    for ablation, seed in todo:
        _run_seed(ablation, seed, data, workdir, monitor)
    resampled = resample_users(data.splits["test"].groups["user"], RESAMPLES)
    return [
        gather(ablation, reason, seeds, data, workdir, resampled)
        for ablation, reason in zip(ablations, reasons, strict=True)
    ]


def oracle(data: Dataset) -> RowResult | None:
    """What nobody can beat, where the log knows its truth."""
    truth = scores.truth(data, "test")
    if truth is None:
        return None
    metrics = {name: [m] for name, m in scores.score(data, "test", truth).items()}
    return RowResult("oracle", "", {}, [], metrics, None, {}, 0.0)


def expect_tickets(
    todo: Sequence[tuple[Config, int]], data: Dataset, workdir: Path, monitor: Monitor
) -> None:
    """Announces the trainings of all distinct searches not made yet."""
    searches = {
        where: config.pruning.rounds + 1
        for config, seed in todo
        for task in _ticket_tasks(config, data)
        if (where := ticket_cache.missing(workdir, config, data, task, seed))
    }
    monitor.expect(sum(searches.values()))


def find_tickets(
    config: Config, seed: int, data: Dataset, workdir: Path, monitor: Monitor
) -> dict[str, tickets.Ticket]:
    """Task -> its ticket, for the tasks whose masks the configuration prunes."""
    return {
        task: ticket_cache.get(workdir, config, data, task, seed, monitor)
        for task in _ticket_tasks(config, data)
    }


def _ticket_tasks(config: Config, data: Dataset) -> tuple[str, ...]:
    return () if config.pruning.masks == "none" else task_names(config, data.schema)


def _seed_file(workdir: Path, ablation: Ablation, seed: int) -> Path:
    return workdir / "rows" / ablation.module / f"seed{seed}" / "seed.json"


def _run_seed(
    ablation: Ablation, seed: int, data: Dataset, workdir: Path, monitor: Monitor
) -> None:
    started, config = time.monotonic(), ablation.config
    setup = make_setup(config, data.schema, task_names(config, data.schema))
    found = find_tickets(config, seed, data, workdir, monitor)
    task_masks = _masks(config, setup, found, seed)
    start = ticket_cache.make_start(config, data, setup, seed)
    test, own = data.on_device("test"), {}

    def keep_own_best(record, snapshot):
        """Test predictions at each task's own best epoch, beside the shared one."""
        for task in setup.tasks:
            part = record.regrets[task]
            if task not in own or part < own[task][0]:
                predicted = predict_all(setup, snapshot, task_masks, test)[task]
                own[task] = (part, predicted)

    with monitor.training(ablation.module, seed, "joint") as on_epoch:

        def after_epoch(record, snapshot):
            on_epoch(record)
            if len(setup.tasks) > 1:
                keep_own_best(record, snapshot)

        result = fit(
            setup,
            start(config.pruning.rounds + 1),
            task_masks,
            plan=make_plan(config, data, setup),
            train=data.on_device("train"),
            validation=data.on_device("validation"),
            seed=seed,
            epochs=config.training.epochs,
            patience=config.training.patience,
            on_epoch=after_epoch,
        )
    predictions = predict_all(setup, result.best, task_masks, test)
    metrics = scores.score(data, "test", predictions)
    alone = scores.score(data, "test", {task: p for task, (_, p) in own.items()})
    metrics |= {
        f"{name}_own_epoch": metric
        for name, metric in alone.items()
        if name.endswith((".auc", ".mse"))
    }
    folder = _seed_file(workdir, ablation, seed).parent
    checkpoint.save(folder / "checkpoint", result.best, task_masks)
    write_arrays(folder / "predictions.npz", predictions)
    about = _describe(data, setup, result, task_masks, found)
    about |= {"seed": seed, "seconds": time.monotonic() - started}
    about["metrics"] = {name: metric._asdict() for name, metric in metrics.items()}
    write_json(folder / "seed.json", about)  # last: commits


def _masks(
    config: Config, setup: Setup, found: dict[str, tickets.Ticket], seed: int
) -> dict[str, Mask]:
    if config.pruning.masks == "none":
        key = jax.random.key(0)
        dense = masks.full(jax.eval_shape(lambda: init_net(setup, key)))
        return dict.fromkeys(setup.tasks, dense)
    key = named(jax.random.key(seed), "random masks")
    drawn = {}
    for task, ticket in found.items():
        mask = ticket.mask
        if config.pruning.masks == "random":
            mask = pruning.random_like(named(key, task), mask)
        drawn[task] = _with_own_parts(mask, setup)
    return drawn


def _with_own_parts(mask: Mask, setup: Setup) -> Mask:
    """A single-task search's mask over the joint net, whose own parts stay whole."""
    key = jax.random.key(0)
    full = masks.full(jax.eval_shape(lambda: init_net(setup, key)))
    return {"shared": mask["shared"], "tasks": full["tasks"]}


def _describe(
    data: Dataset,
    setup: Setup,
    result: Fit,
    task_masks: dict[str, Mask],
    found: dict[str, tickets.Ticket],
) -> dict:
    net = result.best.net
    roles = {task: role(data.schema, task) for task in setup.tasks}
    size = lambda tree: int(sum(leaf.size for leaf in jax.tree.leaves(tree)))
    union = masks.union(task_masks.values())
    pruned = size(union) - masks.count(union)
    return {
        "best_epoch": result.best_epoch,
        "own_best_epoch": {roles[t]: e for t, e in result.own_best_epoch.items()},
        "chosen_round": {roles[t]: ticket.chosen for t, ticket in found.items()},
        "density": {roles[t]: masks.density(task_masks[t]) for t in setup.tasks},
        "params": {
            "net": size(net),
            "net kept by any task": size(net) - pruned,
            "tables": size(result.best.tables),
        },
    }


def gather(
    ablation: Ablation,
    reason: str | None,
    seeds: Sequence[int],
    data: Dataset,
    workdir: Path,
    resampled: tuple[np.ndarray, np.ndarray],
) -> RowResult:
    """A row over its seeds, written to its `result.json` too."""
    row, module = ablation.row, ablation.module
    path = workdir / "rows" / module / "result.json"
    if reason is not None:
        status = f"not applicable: {reason}"
        result = RowResult(row.name, module, row.paper, [], {}, None, {}, 0.0, status)
        write_json(path, result._asdict())
        return result
    files = [_seed_file(workdir, ablation, seed) for seed in seeds]
    parts = [read_json(path) for path in files]
    predictions = [read_arrays(path.with_name("predictions.npz")) for path in files]
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
        seconds=sum(part["seconds"] for part in parts),
        bootstrap=_bootstrap(data, predictions, resampled),
    )
    kept = result._replace(bootstrap=None)._asdict() | {"by_seed": parts}
    kept["metrics"] = {n: [m._asdict() for m in ms] for n, ms in metrics.items()}
    write_json(path, kept)
    return result


def _bootstrap(
    data: Dataset,
    predictions: list[dict[str, np.ndarray]],
    resampled: tuple[np.ndarray, np.ndarray],
) -> dict[str, np.ndarray]:
    labels, (user_index, counts) = data.splits["test"].labels, resampled
    found = {}
    for name in predictions[0]:
        task = data.schema.task(name)
        metric = scores.MAIN.get(role(data.schema, name))
        if metric is None or (metric == "auc" and task.kind != "binary"):
            continue
        inside = task.inside(labels)
        stacked = np.stack([part[name][inside] for part in predictions])
        found[f"{role(data.schema, name)}.{metric}"] = bootstrap_users(
            metric,
            labels[name][inside],
            stacked,
            user_index[inside],
            counts,
        )
    return found
