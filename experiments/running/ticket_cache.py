"""Ticket searches, kept on disk: rows of a table share those they have in common.

A search is identified by all that it depends on and nothing else. So the rows
that only train differently afterwards (balance, conflict, optimiser) find their
tickets made, and a row with another net does not.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp

from experiments.running import progress, ticket_files
from experiments.running.monitor import Monitor
from experiments.settings import fingerprints
from experiments.settings.config import Config, as_json
from experiments.settings.setup import make_plan, make_setup, role, rows_of, task_names
from jaxmtl.data.batches.chunks import read_chunks
from jaxmtl.data.store import Dataset
from jaxmtl.sparsity import masks, pruning, tickets
from jaxmtl.training.feed import place
from jaxmtl.training.fit import fit
from jaxmtl.training.setup import Setup
from jaxmtl.training.train import make_epoch
from jaxmtl.training.train_state import (
    Snapshot,
    TrainState,
    dense_masks,
    features_like,
    init_net,
    make_gates,
    make_init,
    net_shapes,
    restart,
    snapshot_of,
)
from jaxmtl.types import Key, Mask, Params


def identity(config: Config, data: Dataset, task: str) -> dict:
    """Everything a search for one task's ticket depends on, except the seed."""
    fields = as_json(config)
    model, training, prune = fields["model"], fields["training"], fields["pruning"]
    if task != data.schema.cvr:
        model = model | {"own_dim": 0}
    kind = data.schema.task(task).kind
    for key in ("masks", "max_density"):
        del prune[key]
    if prune["rewind"] != "step":
        del prune["rewind_step"]
    else:  # the steps before the rewinding point are joint ones
        prune["joint"] = training | {
            "tasks": _joint_tasks(config),
            "moving": fields["optimiser"]["moving"],
            "own_dim": fields["model"]["own_dim"],
        }
    return {
        "data": data.fingerprint,
        "software": fingerprints.software(config.data.name),
        "task": task,
        "company": company(config, data),
        "model": model,
        "learning_rate": fields["optimiser"]["learning_rate"],
        "tables": fields["optimiser"]["tables"],
        "table_learning_rate": fields["optimiser"]["table_learning_rate"],
        "weight_decay": fields["optimiser"]["weight_decay"],
        "batch_size": training["batch_size"],
        "loss": training[f"{kind}_loss"],
        "spaces": training["spaces"],
        "precision": training["precision"],
        "positive_weight": training["positive_weight"],
        "pruning": prune,
    }


def folder(workdir: Path, config: Config, data: Dataset, task: str, seed: int) -> Path:
    """Where a search is kept."""
    text = json.dumps(identity(config, data, task), sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    # Of a task's name what any file system takes; the digest tells tasks apart.
    word = re.sub(r"[^A-Za-z0-9_]", "_", role(data.schema, task))[:40]
    name = f"{word}-{config.pruning.unit}-{digest}"
    return workdir / "tickets" / name / f"seed{seed}"


def missing(
    workdir: Path, config: Config, data: Dataset, task: str, seed: int
) -> Path | None:
    """Where a search would be kept that was not made yet; None if it was."""
    where = folder(workdir, config, data, task, seed)
    return None if (where / ticket_files.DONE).exists() else where


def get(
    workdir: Path,
    config: Config,
    data: Dataset,
    task: str,
    seed: int,
    monitor: Monitor,
) -> tickets.Ticket:
    """A task's ticket: read where it was found before, searched for otherwise."""
    where = folder(workdir, config, data, task, seed)
    setup = single_setup(config, data, task)
    # As it comes back from a file.
    about = json.loads(json.dumps({"identity": identity(config, data, task)}))
    about["seed"] = seed
    if (where / ticket_files.DONE).exists():
        ticket_files.tidy(where)
        rounds = ticket_files.read(where, _like(setup), about)
    else:
        rounds, outcomes = _search(config, data, setup, seed, monitor, where)
        about |= {
            "skipped_steps": sum(outcome.skipped for outcome in outcomes),
            "seconds": sum(outcome.seconds for outcome in outcomes),
        }
        ticket_files.finish(where, rounds, about)
    metric = data.schema.task(task).metric
    chosen = tickets.choose(rounds, metric, config.pruning.max_density)
    return tickets.Ticket(rounds, chosen)


def seconds(
    workdir: Path, config: Config, data: Dataset, task: str, seed: int
) -> float:
    """How long a finished search took, all attempts together."""
    return ticket_files.read_record(folder(workdir, config, data, task, seed))[
        "seconds"
    ]


def single_setup(config: Config, data: Dataset, task: str) -> Setup:
    """The static part of a search's own training."""
    return make_setup(_alone(config), data, (task,), company(config, data))


def _alone(config: Config) -> Config:
    """What a task trains by itself: nothing but its plain loss, once an epoch."""
    plain = dataclasses.replace(
        config.training,
        schedule="alternate",
        conflict_factor=1.0,
        cvr_passes=1.0,
        ctr_weight=1.0,
        cvr_weight=1.0,
    )
    gated = dataclasses.replace(config.optimiser, moving="gated")
    return dataclasses.replace(config, training=plain, optimiser=gated)


def company(config: Config, data: Dataset) -> tuple[str, ...]:
    """The tasks that the net of a search is built for.

    What they share may depend on them: a DCRNN of two tasks has more positions than
    either reads.
    """
    training = dataclasses.replace(config.training, tasks=_joint_tasks(config))
    return task_names(dataclasses.replace(config, training=training), data.schema)


def make_start(
    config: Config, data: Dataset, setup: Setup, seed: int
) -> Callable[[int], TrainState]:
    """round -> the state it starts from (`pruning.rewind`).

    Nets that share a part start it alike, whichever tasks they have, so a ticket
    is found and joint training begins in the same initial trunk and tables.
    Joint training is round `rounds + 1`. Nothing is kept between rounds: the
    state is made again from the key.
    """
    key = jax.random.key(seed)
    if config.pruning.rewind == "init":
        return lambda number: make_init(setup)(key)
    if config.pruning.rewind == "fresh":
        return lambda number: make_init(setup)(jax.random.fold_in(key, number))
    return lambda number: restart(setup, key, _warm(config, data, seed, key))


def _warm(config: Config, data: Dataset, seed: int, key: Key) -> Snapshot:
    """The parameters after `rewind_step` steps of dense joint training.

    Joint, so that all tasks rewind to the same weights (the multi-task warm-up of
    Sun et al., 2020).
    """
    setup = make_setup(config, data, company(config, data))
    state = make_init(setup)(key)
    dense = dense_masks(setup, state.net)
    gates = make_gates(setup, state.net, dense)
    plan, left, epoch = (
        make_plan(config, data, setup),
        config.pruning.rewind_step,
        0,
    )
    train = rows_of(data, "train", setup)
    while left > 0:
        epoch += 1
        bounds = [(0, min(left, plan.steps))]
        to_devices = functools.partial(place, setup)
        (part,) = read_chunks(plan, train, seed, epoch, bounds, to_devices)
        state, _ = make_epoch(setup)(state, dense, gates, part.rows, part.steps)
        left -= plan.steps
    return snapshot_of(state)


def _joint_tasks(config: Config) -> str:
    """Single tasks rewind to where the pair would, so that rows share searches."""
    return "all" if config.training.tasks == "all" else "pair"


def make_prune(config: Config) -> Callable[[Params, Mask, int], Mask]:
    """(net, mask, keep) -> mask, by the configured unit and scope."""
    if config.pruning.unit == "neuron":
        return functools.partial(pruning.prune_neurons, scope=config.pruning.scope)
    if config.pruning.scope == "layer":
        return lambda net, mask, keep: pruning.prune(
            net, mask, pruning.split_keep(mask, keep)
        )
    return pruning.prune


def _search(
    config: Config,
    data: Dataset,
    setup: Setup,
    seed: int,
    monitor: Monitor,
    where: Path,
) -> tuple[list[tickets.Round], list[ticket_files.Outcome]]:
    """Searches, from the first round that an earlier attempt did not finish."""
    (task,) = setup.tasks
    dense = read_by(setup, task)
    begun, outcomes = ticket_files.read_unfinished(where, _like(setup), progress.say)
    done = len(outcomes)
    if done:
        monitor.expect(-done)
    start = make_start(config, data, setup, seed)
    size = masks.count(dense)
    keeps = pruning.keep_counts(
        size, config.pruning.final_density, config.pruning.rounds
    )

    def train_round(state, mask, number):
        ticket_files.begin_round(where, mask, outcomes)
        keeper = progress.keep(
            ticket_files.progress(where, done + number), setup, config
        )
        with (
            monitor.training(where.parent.name, seed, f"round {done + number}") as show,
            progress.bad_batch_kept(where, data.splits["train"]),
        ):
            result = fit(
                setup,
                state,
                {task: mask},
                plan=make_plan(_alone(config), data, setup),
                train=rows_of(data, "train", setup),
                validation=rows_of(data, "validation", setup),
                seed=seed,
                epochs=config.pruning.epochs,
                patience=config.pruning.patience,
                on_epoch=lambda record, _: show(record),
                keeper=keeper,
                chunk=config.checkpoint.steps,
                on_nonfinite=config.on_nonfinite,
            )
        keeper.wait()  # what it writes is about to be deleted
        outcomes.append(ticket_files.Outcome.of(result, task, keeper.seconds))
        return result

    found = tickets.find(
        lambda number: start(done + number),
        train_round,
        lambda result: result.value(task),
        make_prune(config),
        keeps[done:],
        begun[-1] if begun else dense,
    )
    rounds = [
        tickets.Round(mask, masks.count(mask) / size, outcome.value, outcome.best_epoch)
        for mask, outcome in zip(
            [*begun[:done], *(r.mask for r in found)], outcomes, strict=True
        )
    ]
    return rounds, outcomes


def read_by(setup: Setup, task: str) -> Mask:
    """The dense mask of a task's search: every prunable weight its logit depends on.

    A net built for several tasks may hold what this one never reads, such as the
    positions of a DCRNN outside its window. Such weights are no survivors: they would
    stand in the ranking at their initial size, and take the places of trained ones.
    """
    return _read_by(setup.structure(), task)


@functools.lru_cache(maxsize=64)
def _read_by(setup: Setup, task: str) -> Mask:
    @jax.jit
    def find(key: Key) -> Mask:
        net, features = init_net(setup, key), features_like(setup, rows=64)
        features = jax.tree.map(lambda x: jax.random.normal(key, x.shape), features)
        logits = lambda net: jnp.sum(setup.model.apply(net, features).logits[task])
        return jax.tree.map(
            lambda mask, slope: None if mask is None else mask & jnp.any(slope != 0),
            masks.full(net, task),
            jax.grad(logits)(net),
            is_leaf=lambda leaf: leaf is None,
        )

    return find(jax.random.key(0))


def _like(setup: Setup) -> Mask:
    """Structure and shapes of the masks of a search."""
    return masks.full(net_shapes(setup), *setup.tasks)
