"""Runs rows: tickets, joint training, test scores; keeps whatever is finished."""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from experiments.ablation import Ablation
from experiments.config import Config
from experiments.report import RowResult
from experiments.running import progress, scores, ticket_cache
from experiments.running.crew import Crew, Job, Work
from experiments.running.monitor import Monitor
from experiments.running.workdir import (
    read_arrays,
    read_json,
    write_arrays,
    write_json,
)
from experiments.setup import (
    make_plan,
    make_setup,
    not_applicable,
    role,
    rows_of,
    task_names,
)
from experiments.statistics import bootstrap_users, resample_users
from jaxmtl import checkpoint, embedding, mask_controls, masks, tickets
from jaxmtl.data.store import Dataset
from jaxmtl.fit import EpochRecord, Fit, Keeper, fit
from jaxmtl.inference import predict_all
from jaxmtl.keys import named
from jaxmtl.metrics import Metric
from jaxmtl.setup import Setup
from jaxmtl.table_shards import portable
from jaxmtl.train_state import Snapshot, TrainState, dense_masks, init_net, restart
from jaxmtl.types import Mask

RESAMPLES = 200


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
        if _seed_file(workdir, ablation, seed).exists():  # killed before it tidied up
            shutil.rmtree(_progress_folder(workdir, ablation, seed), ignore_errors=True)
    todo = _unfinished(ablations, seeds, data, workdir)
    search(missing_searches(_configs(todo), data, workdir), data, crew)
    crew.do(
        _run_seed,
        todo,
        data,
        program=lambda job: joint_setup(job.what.config, data).structure(),
    )
    resampled = None
    if main:
        resampled = resample_users(data.splits["test"].groups["user"], RESAMPLES)
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
    expect_searches(missing_searches(_configs(todo), data, crew.workdir), crew.monitor)


def _unfinished(
    ablations: Sequence[Ablation], seeds: Sequence[int], data: Dataset, workdir: Path
) -> list[Job]:
    return [
        Job(ablation, seed)
        for ablation in ablations
        for seed in seeds
        if not_applicable(ablation.config, data.schema) is None
        and not _seed_file(workdir, ablation, seed).exists()
    ]


def _configs(jobs: Sequence[Job]) -> list[tuple[Config, int]]:
    return [(ablation.config, seed) for ablation, seed in jobs]


def oracle(data: Dataset) -> RowResult | None:
    """What nobody can beat, where the log knows its truth."""
    truth = scores.truth(data, "test")
    if truth is None:
        return None
    metrics = {name: [m] for name, m in scores.score(data, "test", truth).items()}
    return RowResult("oracle", "", {}, [], metrics, None, {}, 0.0)


def search_tickets(
    todo: Sequence[tuple[Config, int]], data: Dataset, crew: Crew
) -> None:
    """Makes all distinct searches, of configurations and seeds, not made yet."""
    missing = missing_searches(todo, data, crew.workdir)
    expect_searches(missing, crew.monitor)
    search(missing, data, crew)


def search(
    jobs: Sequence[Job], data: Dataset, crew: Crew, work: Work | None = None
) -> None:
    """Makes searches, those of `missing_searches` or some of them.

    Args:
      jobs: the searches.
      data: the log.
      crew: makes them.
      work: makes one, in the place of `ticket_cache.get`.
    """

    def program(job: Job) -> Setup:
        config, task = job.what
        return ticket_cache.single_setup(config, data, task).structure()

    crew.do(work or _search, jobs, data, program)


def expect_searches(jobs: Sequence[Job], monitor: Monitor) -> None:
    """Announces the trainings of `missing_searches`."""
    monitor.expect(sum(job.what[0].pruning.rounds + 1 for job in jobs))


def missing_searches(
    todo: Sequence[tuple[Config, int]], data: Dataset, workdir: Path
) -> list[Job]:
    """A job for each search: the first configuration that needs it, and its task."""
    first: dict[Path, tuple[Config, str]] = {}
    found: dict[Path, Job] = {}
    for config, seed in todo:
        for task in ticket_tasks(config, data):
            where = ticket_cache.missing(workdir, config, data, task, seed)
            if where is not None:
                what = first.setdefault(where.parent, (config, task))
                found[where] = Job(what, seed)
    return [found[where] for where in sorted(found)]


def _search(
    what: tuple[Config, str], seed: int, data: Dataset, workdir: Path, monitor: Monitor
) -> None:
    config, task = what
    ticket_cache.get(workdir, config, data, task, seed, monitor)


def find_tickets(
    config: Config, seed: int, data: Dataset, workdir: Path, monitor: Monitor
) -> dict[str, tickets.Ticket]:
    """Task -> its ticket, for the tasks whose masks the configuration prunes."""
    return {
        task: ticket_cache.get(workdir, config, data, task, seed, monitor)
        for task in ticket_tasks(config, data)
    }


def ticket_tasks(config: Config, data: Dataset) -> tuple[str, ...]:
    """The tasks whose tickets a row needs."""
    return task_names(config, data.schema) if _is_masked(config) else ()


def _is_masked(config: Config) -> bool:
    return config.pruning.masks != "none"


def _seed_file(workdir: Path, ablation: Ablation, seed: int) -> Path:
    return workdir / "rows" / ablation.module / f"seed{seed}" / "seed.json"


def _progress_folder(workdir: Path, ablation: Ablation, seed: int) -> Path:
    return _seed_file(workdir, ablation, seed).with_name("progress")


class Ready(NamedTuple):
    """What a row's joint training needs besides its configuration.

    Attributes:
      setup: the static part of its program.
      found: task -> its ticket, for the tasks that are pruned.
      task_masks: task -> mask.
    """

    setup: Setup
    found: dict[str, tickets.Ticket]
    task_masks: dict[str, Mask]


def prepare(
    config: Config, seed: int, data: Dataset, workdir: Path, monitor: Monitor
) -> Ready:
    """Makes a row ready for joint training; searches the tickets that are missing."""
    setup = joint_setup(config, data)
    found = find_tickets(config, seed, data, workdir, monitor)
    return Ready(setup, found, _masks(config, setup, found, seed))


def joint_setup(config: Config, data: Dataset) -> Setup:
    """The static part of a row's joint training."""
    company = ticket_cache.company(config, data) if _is_masked(config) else ()
    return make_setup(config, data, task_names(config, data.schema), company)


def train(
    config: Config,
    ready: Ready,
    seed: int,
    data: Dataset,
    on_epoch: Callable[[EpochRecord, Snapshot], None],
    keeper: Keeper | None = None,
) -> Fit:
    """Joint training of a row. Reads the training and validation splits alone."""
    return fit(
        ready.setup,
        start(config, data, ready.setup, seed),
        ready.task_masks,
        plan=make_plan(config, data, ready.setup),
        train=rows_of(data, "train", ready.setup),
        validation=rows_of(data, "validation", ready.setup),
        seed=seed,
        epochs=config.training.epochs,
        patience=config.training.patience,
        on_epoch=on_epoch,
        keeper=keeper,
        chunk=config.checkpoint.steps,
        on_nonfinite=config.on_nonfinite,
    )


def _run_seed(
    ablation: Ablation, seed: int, data: Dataset, workdir: Path, monitor: Monitor
) -> None:
    config = ablation.config
    ready = prepare(config, seed, data, workdir, monitor)
    setup, found, task_masks = ready
    folder = _seed_file(workdir, ablation, seed).parent
    keeper = progress.keep(_progress_folder(workdir, ablation, seed), setup, config)
    test = rows_of(data, "test", setup)
    own_best = progress.OwnBest(setup, task_masks, test, keeper.aside)
    with (
        monitor.training(ablation.module, seed, "joint") as on_epoch,
        progress.bad_batch_kept(folder, data.splits["train"]),
    ):

        def after_epoch(record, snapshot):
            on_epoch(record)
            if len(setup.tasks) > 1:
                own_best.after_epoch(record, snapshot)

        result = train(config, ready, seed, data, after_epoch, keeper)
    predictions = predict_all(setup, result.best, task_masks, test)
    rows = embedding.vocabulary_rows(data.schema)
    result = result._replace(best=portable(setup.mesh, result.best, rows))
    metrics = scores.score(data, "test", predictions)
    alone = scores.score(data, "test", own_best.predictions)
    metrics |= {
        f"{name}_own_epoch": metric
        for name, metric in alone.items()
        if name.endswith((".auc", ".mse"))
    }
    checkpoint.save(folder / "checkpoint", result.best, task_masks)
    write_arrays(folder / "predictions.npz", predictions)
    about = _describe(data, setup, result, task_masks, found)
    searches = [ticket_cache.seconds(workdir, config, data, t, seed) for t in found]
    about |= {"seed": seed, "seconds": keeper.seconds, "search_seconds": sum(searches)}
    about["metrics"] = {name: metric._asdict() for name, metric in metrics.items()}
    write_json(folder / "seed.json", about)  # commits
    keeper.discard()


def start(config: Config, data: Dataset, setup: Setup, seed: int) -> TrainState:
    """The state joint training begins in: rewound, or that of an earlier run."""
    if config.training.init_from is None:
        make = ticket_cache.make_start(config.joint_start, data, setup, seed)
        return make(config.pruning.rounds + 1)
    folder = find_checkpoint(config.training.init_from, seed)
    snapshot, _ = checkpoint.restore(folder, setup)
    return restart(setup, jax.random.key(seed), snapshot)


def started_from(run: Path) -> str:
    """A digest of what the run that `--init-from` names was: its settings and its log.

    Raises:
      ValueError: it is no run of one row, or does not say what it was.
    """
    row = _only_row(run).resolve()
    path = row.parent.parent / "config.json"
    if not path.exists():
        raise ValueError(
            f"--init-from {run}: {path} is missing, which says what was trained; give"
            " a run's work directory, or a row's folder in it"
        )
    held = read_json(path)
    was = [
        held["data"]["fingerprint"],
        # The points of a sweep have no settings of their own there.
        held["rows"].get(row.name, held["rows"]),
        row.name,
        held.get("started_from", {}),
    ]
    text = json.dumps(was, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def find_checkpoint(run: Path, seed: int) -> Path:
    """A seed's checkpoint in the work directory of a run of one row, or in a row's.

    Raises:
      ValueError: there is none, or rows to choose from; names what there is.
    """
    row = _only_row(run)
    folder = row / f"seed{seed}" / "checkpoint"
    if not folder.exists():
        known = sorted(path.name for path in row.glob("seed*"))
        raise ValueError(
            f"--init-from {run}: {row.name} has no seed {seed}; it has {known}"
        )
    return folder


def _only_row(run: Path) -> Path:
    rows = [run] if (run / "result.json").exists() else sorted(run.glob("rows/*"))
    if len(rows) != 1:
        names = [row.name for row in rows]
        raise ValueError(
            f"--init-from {run}: "
            + (
                f"holds the rows {names}; name one as {run / 'rows' / names[0]}"
                if rows
                else "no run's work directory"
            )
        )
    return rows[0]


def _masks(
    config: Config, setup: Setup, found: dict[str, tickets.Ticket], seed: int
) -> dict[str, Mask]:
    net = jax.eval_shape(lambda: init_net(setup, jax.random.key(0)))
    dense = dense_masks(setup, net)
    if not _is_masked(config):
        return dense
    made = mask_controls.make(
        config.pruning.masks,
        named(jax.random.key(seed), "random masks"),
        {task: ticket.mask for task, ticket in found.items()},
        setup.schema.ctr,
        read={task: ticket.rounds[0].mask for task, ticket in found.items()},
    )
    return {task: masks.join(dense[task], mask, task) for task, mask in made.items()}


def _describe(
    data: Dataset,
    setup: Setup,
    result: Fit,
    task_masks: dict[str, Mask],
    found: dict[str, tickets.Ticket],
) -> dict:
    own = {task: result.best.net["tasks"][task] for task in setup.tasks}
    net = {"shared": result.best.net["shared"], "tasks": own}
    roles = {task: role(data.schema, task) for task in setup.tasks}
    size = lambda tree: int(sum(leaf.size for leaf in jax.tree.leaves(tree)))
    density = {task: masks.density(task_masks[task]) for task in setup.tasks}
    # Of a ticket: of the weights that its task reads, of which the net may hold more.
    density |= {
        task: masks.count(task_masks[task]) / masks.count(ticket.rounds[0].mask)
        for task, ticket in found.items()
    }
    known = [mask for mask in task_masks.values() if mask is not None]
    union = masks.union(known) if known else None
    pruned = size(union) - masks.count(union)
    return {
        "best_epoch": result.best_epoch,
        "skipped_steps": sum(record.skipped for record in result.history),
        "own_best_epoch": {roles[t]: e for t, e in result.own_best_epoch.items()},
        "chosen_round": {roles[t]: ticket.chosen for t, ticket in found.items()},
        "density": {roles[task]: part for task, part in density.items()},
        "params": {
            "net": size(net),
            "net kept by any task": size(net) - pruned,
            "tables": size(result.best.tables),
        },
    }


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
        seconds=sum(part["seconds"] + part["search_seconds"] for part in parts),
        bootstrap=_bootstrap(data, predictions, resampled, main) if resampled else {},
    )
    kept = result._replace(bootstrap=None)._asdict() | {"by_seed": parts}
    kept["metrics"] = {n: [m._asdict() for m in ms] for n, ms in metrics.items()}
    write_json(path, kept)
    return result


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
