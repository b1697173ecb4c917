"""A row's joint training: where it starts, under which masks, and what it leaves.

Its folder in the work directory, `rows/<module>/seed<k>`, holds a checkpoint, the
predictions of the test and `seed.json`, which is written last and says it is finished.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from experiments.running import progress, ticket_cache, ticket_searches
from experiments.running.monitor import Monitor
from experiments.running.workdir import read_arrays, read_json, write_arrays, write_json
from experiments.settings import scores, sections
from experiments.settings.ablation import Ablation
from experiments.settings.config import Config
from experiments.settings.setup import make_plan, make_setup, role, rows_of, task_names
from jaxmtl import sealed
from jaxmtl.data.store import Dataset
from jaxmtl.keys import named
from jaxmtl.sparsity import mask_controls, masks, tickets
from jaxmtl.tables import embedding, portable
from jaxmtl.training import checkpoint
from jaxmtl.training.fit import EpochRecord, Fit, Keeper, fit
from jaxmtl.training.inference import predict_all
from jaxmtl.training.spec import Setup
from jaxmtl.training.train_state import (
    Snapshot,
    TrainState,
    dense_masks,
    net_shapes,
    restart,
)
from jaxmtl.types import Mask

SEED, CHECKPOINT, PREDICTIONS = "seed.json", "checkpoint", "predictions.npz"
"""What a seed leaves: the first, written last, holds the digests of the others."""


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
    setup = setup_of(config, data)
    found = ticket_searches.find(config, seed, data, workdir, monitor)
    return Ready(setup, found, _masks(config, setup, found, seed))


def setup_of(config: Config, data: Dataset) -> Setup:
    """The static part of a row's joint training."""
    is_masked = ticket_searches.is_masked(config)
    net_tasks = ticket_cache.net_tasks(config, data) if is_masked else ()
    return make_setup(config, data, task_names(config, data.schema), net_tasks)


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


def run_seed(
    ablation: Ablation, seed: int, data: Dataset, workdir: Path, monitor: Monitor
) -> None:
    """Trains a row with one seed and leaves its folder; a `crew.Work`."""
    config = ablation.config
    ready = prepare(config, seed, data, workdir, monitor)
    setup, found, task_masks = ready
    folder = seed_file(workdir, ablation, seed).parent
    keeper = progress.keep(progress_folder(workdir, ablation, seed), setup, config)
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
    result = result._replace(best=portable.of(setup.mesh, result.best, rows))
    options = sections.by_name(config.metrics)
    metrics = scores.score(data, "test", predictions, options)
    alone = scores.score(data, "test", own_best.predictions, options)
    metrics |= {
        f"{name}_own_epoch": metric
        for name, metric in alone.items()
        if name.endswith((".auc", ".mse"))
    }
    kept = checkpoint.save(folder / CHECKPOINT, result.best, task_masks)
    write_arrays(folder / PREDICTIONS, predictions)
    about = _describe(data, setup, result, task_masks, found)
    searches = [ticket_cache.seconds(workdir, config, data, t, seed) for t in found]
    about |= {"seed": seed, "seconds": keeper.seconds, "search_seconds": sum(searches)}
    predicted = sealed.digest(folder / PREDICTIONS)
    about["sha256"] = {CHECKPOINT: kept, PREDICTIONS: predicted}
    about["metrics"] = {name: metric._asdict() for name, metric in metrics.items()}
    write_json(folder / SEED, about)  # commits
    keeper.discard()


def start(config: Config, data: Dataset, setup: Setup, seed: int) -> TrainState:
    """The state joint training begins in: rewound, or that of an earlier run."""
    if config.training.init_from is None:
        make = ticket_cache.make_start(config.joint_start, data, setup, seed)
        return make(config.pruning.rounds + 1)
    folder = find_checkpoint(config.training.init_from, seed)
    snapshot, _ = restore(folder.parent, setup)
    return restart(setup, jax.random.key(seed), snapshot)


def restore(folder: Path, setup: Setup) -> tuple[Snapshot, dict[str, Mask]]:
    """The checkpoint of a finished seed, from its folder.

    Raises:
      ValueError: it is damaged, of another net, or not the one that the seed left.
    """
    held = read_json(folder / SEED)
    return checkpoint.restore(folder / CHECKPOINT, setup, held["sha256"][CHECKPOINT])


def read_predictions(folder: Path) -> dict[str, np.ndarray]:
    """The test predictions of a finished seed, from its folder.

    Raises:
      ValueError: they are damaged, or not those that the seed left.
    """
    path = folder / PREDICTIONS
    predictions = read_arrays(path)
    if sealed.digest(path) != read_json(folder / SEED)["sha256"][PREDICTIONS]:
        raise ValueError(
            f"{path} are not the predictions that this training left; put back what was"
            f" there, or delete {folder} to train it again"
        )
    return predictions


def started_from(run: Path) -> str:
    """A digest of what the run that `--init-from` names was: its settings, its log
    and what computed it.

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
        held.get("software", {}),
    ]
    text = json.dumps(was, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def find_checkpoint(run: Path, seed: int, given: str = "--init-from") -> Path:
    """A finished seed's checkpoint in the work directory of one row, or in a row's.

    Args:
      run: the folder.
      seed: whose training.
      given: what a command line calls the folder.

    Raises:
      ValueError: there is none, it is not finished, or there are rows to choose from;
        names what there is.
    """
    row = _only_row(run, given)
    folder = row / f"seed{seed}"
    if (folder / SEED).exists():
        return folder / CHECKPOINT
    if folder.exists():
        raise ValueError(
            f"{given} {run}: seed {seed} of {row.name} is not finished; repeat the"
            " command that began it, which goes on from what is there"
        )
    known = sorted(path.parent.name for path in row.glob(f"seed*/{SEED}"))
    raise ValueError(f"{given} {run}: {row.name} has no seed {seed}; it has {known}")


def _only_row(run: Path, given: str = "--init-from") -> Path:
    is_row = (run / "result.json").exists() or any(run.glob("seed*"))
    # What a system or a person puts beside them is no row.
    rows = [run] if is_row else sorted({p.parent for p in run.glob("rows/*/seed*")})
    if len(rows) != 1:
        names = [row.name for row in rows]
        raise ValueError(
            f"{given} {run}: "
            + (
                f"holds the rows {names}; name one as {run / 'rows' / names[0]}"
                if rows
                else "no run's work directory, in which experiments.run has finished"
                " a row"
            )
        )
    return rows[0]


def _masks(
    config: Config, setup: Setup, found: dict[str, tickets.Ticket], seed: int
) -> dict[str, Mask]:
    dense = dense_masks(setup, net_shapes(setup))
    if not ticket_searches.is_masked(config):
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


def seed_file(workdir: Path, ablation: Ablation, seed: int) -> Path:
    """Says that a row's seed is finished, and holds what came of it."""
    return workdir / "rows" / ablation.module / f"seed{seed}" / SEED


def progress_folder(workdir: Path, ablation: Ablation, seed: int) -> Path:
    """Where an unfinished training keeps how far it has come."""
    return seed_file(workdir, ablation, seed).with_name("progress")
