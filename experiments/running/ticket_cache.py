"""Ticket searches, kept on disk: rows of a table share those they have in common.

A search is identified by all that it depends on and nothing else (`Search`). So the
rows that only train differently afterwards (balance, conflict, optimiser) find their
tickets made, and a row with another net does not.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from experiments.running import progress, search_finder, ticket_files
from experiments.running.monitor import Monitor
from experiments.settings import fingerprints, sections
from experiments.settings.config import BalanceConfig, Config
from experiments.settings.setup import (
    make_plan,
    make_setup,
    role,
    roles,
    rows_of,
    task_names,
)
from jaxmtl.data.batches.chunks import read_chunks
from jaxmtl.data.store import Dataset
from jaxmtl.sparsity import masks, pruning, tickets
from jaxmtl.tables.layout import Layout
from jaxmtl.training.feed import place
from jaxmtl.training.fit import fit
from jaxmtl.training.spec import NetSpec, Setup
from jaxmtl.training.train import make_epoch
from jaxmtl.training.train_state import (
    Snapshot,
    TrainState,
    dense_masks,
    features_like,
    make_gates,
    make_init,
    net_shapes,
    restart,
    snapshot_of,
)
from jaxmtl.types import Features, Key, Mask, Params

FORMAT = 2
"""Of what a search does with all that `resolve` says; part of its key."""


class Search(NamedTuple):
    """Everything a search for one task's ticket depends on, except the seed.

    It is what is trained, not what was asked for: two configurations with the same
    search share it, and a setting that reaches the search changes it by itself.

    Attributes:
      setup: of the trainings: all names, options and numbers.
      batches: what the batches are dealt by.
      epochs: at most, in a round.
      patience: in a round.
      on_nonfinite: whether a bad step ends the search or is passed over.
      pruning: what is pruned, how far, in how many rounds, and where each starts.
      warm: of the steps before the rewinding point; None without.
      data: fingerprint of the log.
      software: that computes, its code included (`fingerprints.software`).
      format: `FORMAT`.
    """

    setup: Setup
    batches: dict[str, Any]
    epochs: int
    patience: int
    on_nonfinite: str
    pruning: dict[str, Any]
    warm: dict[str, Any] | None
    data: str
    software: dict[str, Any]
    format: int = FORMAT


def resolve(config: Config, data: Dataset, task: str) -> Search:
    """The search of a configuration for one task's ticket."""
    prune = config.pruning
    is_warm = prune.rewind == "step"
    warm = {
        "setup": make_setup(config, data, net_tasks(config, data)),
        "batches": _batches(config),
        "steps": prune.rewind_step,
    }
    return Search(
        setup=single_setup(config, data, task),
        batches=_batches(_alone(config)),
        epochs=prune.epochs,
        patience=prune.patience,
        on_nonfinite=config.on_nonfinite,
        pruning={
            "finder": sections.chosen(prune.finder),
            "unit": prune.unit,
            "scope": prune.scope,
            "final_density": prune.final_density,
            "rounds": prune.rounds,
            "rewind": prune.rewind,
        },
        warm=warm if is_warm else None,
        data=data.fingerprint,
        software=fingerprints.software(_alone(config), *([config] if is_warm else [])),
    )


def _batches(config: Config) -> dict[str, Any]:
    training = config.training
    return {"size": training.batch_size, "cvr_passes": training.cvr_passes}


def identity(config: Config, data: Dataset, task: str) -> dict:
    """A search as plain JSON values; its digest is the search's key."""
    return plain(resolve(config, data, task))


def plain(value: Any) -> Any:
    """Any tree of dataclasses, named tuples, dicts and numbers as JSON values.

    A dataclass says which it is: two kinds of options may hold the same numbers. The
    devices of a mesh and the layout of tables are left out: they change the last bits
    of a result at most.
    """
    if isinstance(value, Mesh | Layout):
        return None
    if isinstance(value, Setup | Search) or dataclasses.is_dataclass(value):
        names = getattr(value, "_fields", None) or [
            field.name for field in dataclasses.fields(value)
        ]
        kind = type(value)
        found = {name: plain(getattr(value, name)) for name in names}
        return {"kind": f"{kind.__module__}.{kind.__qualname__}"} | found
    if hasattr(value, "_asdict"):
        return plain(value._asdict())
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)  # 1 and 1.0 are one number
    if value is None or isinstance(value, str | int | float):
        return value
    raise TypeError(f"{value!r} has no place in the key of a ticket search")


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
    return make_setup(_alone(config), data, (task,), net_tasks(config, data))


def _alone(config: Config) -> Config:
    """What a task trains by itself: nothing but its plain loss, once an epoch."""
    training = dataclasses.replace(
        config.training,
        schedule="alternate",
        conflict_factor=1.0,
        cvr_passes=1.0,
        weights=(),
    )
    gated = dataclasses.replace(config.optimiser, moving="gated")
    return dataclasses.replace(
        config, training=training, optimiser=gated, balance=BalanceConfig()
    )


def net_tasks(config: Config, data: Dataset) -> tuple[str, ...]:
    """The tasks that the net of a search is built for.

    What they share may depend on them: a DCRNN of two tasks has more positions than
    either reads. A task of the pair is searched for, and rewinds, as in the pair, so
    that rows share searches.
    """
    names = task_names(config, data.schema)
    pair = tuple(roles(data.schema).values())
    return pair if set(names) < set(pair) else names


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
    setup = make_setup(config, data, net_tasks(config, data))
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
    plan = make_plan(_alone(config), data, setup)
    train = rows_of(data, "train", setup)
    finder = search_finder.make(config, setup, dense, seed, plan, train)

    def train_round(state, mask, number):
        ticket_files.begin_round(where, mask, outcomes)
        state, moving = finder.begin(state, mask, done + number)
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
                plan=plan,
                train=train,
                validation=rows_of(data, "validation", setup),
                seed=seed,
                epochs=config.pruning.epochs,
                patience=config.pruning.patience,
                on_epoch=lambda record, _: show(record),
                keeper=keeper,
                chunk=config.checkpoint.steps,
                on_nonfinite=config.on_nonfinite,
                **moving,
            )
        keeper.wait()  # what it writes is about to be deleted
        if moving:
            ticket_files.end_round(where, done + number, result.masks[task])
        outcomes.append(ticket_files.Outcome.of(result, task, keeper.seconds))
        return result

    found = tickets.find(
        lambda number: start(done + number),
        train_round,
        lambda result: result.value(task),
        lambda best, mask, keep, number: finder.prune(best, mask, keep, done + number),
        keeps[done:],
        begun[-1] if begun else dense,
        finder.mask_of,
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
    net, spec = make_init(setup)(jax.random.key(0)).net, setup.spec.net
    generator = np.random.default_rng(0)  # JAX's draws take seconds to compile
    features = jax.tree.map(
        lambda like: generator.normal(size=like.shape).astype(like.dtype),
        jax.eval_shape(lambda: features_like(spec, rows=64)),
    )
    return _find_read(spec, task, net, features)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _find_read(spec: NetSpec, task: str, net: Params, features: Features) -> Mask:
    logits = lambda net: jnp.sum(spec.model.apply(net, features).logits[task])
    return jax.tree.map(
        lambda mask, slope: None if mask is None else mask & jnp.any(slope != 0),
        masks.full(net, task),
        jax.grad(logits)(net),
        is_leaf=lambda leaf: leaf is None,
    )


def _like(setup: Setup) -> Mask:
    """Structure and shapes of the masks of a search."""
    return masks.full(net_shapes(setup), *setup.tasks)
