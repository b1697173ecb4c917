"""From a configuration to the programs and batches of one training."""

from __future__ import annotations

import dataclasses

from experiments.config import Config
from jaxmtl import sharding, spaces
from jaxmtl.data.batches import Plan
from jaxmtl.data.batches.large_plan import LargePlan
from jaxmtl.data.store import Dataset
from jaxmtl.optim import Adam
from jaxmtl.setup import Conflict, Setup
from jaxmtl.types import IMPRESSION, Rows, Schema


def task_names(config: Config, schema: Schema) -> tuple[str, ...]:
    """The tasks trained: `--training.tasks` in the words of the log.

    Raises:
      ValueError: a task is given by a name that the log has not, or twice.
    """
    every, given = tuple(task.name for task in schema.tasks), config.training.tasks
    words = {
        "ctr": (schema.ctr,),
        "cvr": (schema.cvr,),
        "pair": (schema.ctr, schema.cvr),
        "all": every,
    }
    names = words[given] if isinstance(given, str) else tuple(given)
    if not names or len(set(names)) < len(names) or not set(names) <= set(every):
        raise ValueError(
            f"--training.tasks {' '.join(names)}: give pair, ctr, cvr, all or some of"
            f" {list(every)}, each once"
        )
    return names


def role(schema: Schema, task: str) -> str:
    """`ctr`, `cvr`, or the name of a task that plays neither part."""
    return {schema.ctr: "ctr", schema.cvr: "cvr"}.get(task, task)


def not_applicable(config: Config, schema: Schema) -> str | None:
    """Why a row has no meaning on a log, or None where it has one."""
    cvr = schema.task(schema.cvr)
    if config.training.conflict_factor != 1 and cvr.space == IMPRESSION:
        return (
            f"{schema.name} has neither durations nor a label space for"
            f" {cvr.name!r}: no click can go without its conversion"
        )
    return None


def make_setup(
    config: Config,
    data: Dataset,
    tasks: tuple[str, ...],
    net_tasks: tuple[str, ...] = (),
) -> Setup:
    """The static part of a training of some tasks, in a net built for `net_tasks`."""
    schema, training, model = data.schema, config.training, config.model
    kinds = config.losses
    roles = {schema.ctr: training.ctr_weight, schema.cvr: training.cvr_weight}
    has_cvr = schema.cvr in tasks
    conflict = None
    if training.conflict_factor != 1 and has_cvr:
        # It weights ratios above 0 and below .2, which a yes or no never is.
        is_ratio = schema.task(schema.cvr).kind == "continuous"
        by_duration = "duration" in schema.extras and is_ratio
        threshold = None if by_duration else training.conflict_threshold
        conflict = Conflict(schema.cvr, training.conflict_factor, threshold)
    setup = Setup(
        schema=schema,
        tasks=tasks,
        architecture=model.options,
        crossing=model.crossing,
        dim=model.embedding_dim,
        adam=Adam(
            config.optimiser.learning_rate,
            weight_decay=config.optimiser.weight_decay,
        ),
        task_losses=tuple((name, kinds[schema.task(name).kind]) for name in tasks),
        own_dims=((schema.cvr, model.own_dim),) if model.own_dim and has_cvr else (),
        init_scale=model.init_scale,
        task_weights=tuple((name, roles.get(name, 1.0)) for name in tasks),
        summed=training.schedule == "sum",
        moving=config.optimiser.moving,
        tables=config.optimiser.tables,
        table_learning_rate=config.optimiser.table_learning_rate,
        precision=training.precision,
        conflict=conflict,
        spaces=config.spaces,
        net_tasks=net_tasks if set(net_tasks) > set(tasks) else (),
        masked=config.pruning.masks != "none",
        mesh=sharding.make_mesh(config.mesh.devices),
    )
    return dataclasses.replace(setup, positive_weights=_weights(config, data, setup))


def _weights(
    config: Config, data: Dataset, setup: Setup
) -> tuple[tuple[str, float], ...]:
    """The positives' weight of every binary task."""
    given, found = config.training.positive_weight, []
    for name, task in setup.learned.items():
        if task.kind == "binary":
            weight = given
            if given == "rate":
                positives, rows = data.rates[task.name]
                # Four digits, which the published results were trained with.
                negatives = max(rows - positives, 1)
                weight = float(f"{negatives / max(positives, 1):.4g}")
            found.append((name, weight))
    return tuple(found)


def rows_of(data: Dataset, split: str, setup: Setup) -> Rows:
    """A split where its trainings read it: on the device; on the host for a mesh, and
    where it is large."""
    on_host = setup.mesh or data.is_large(split)
    return data.splits[split] if on_host else data.on_device(split)


def make_plan(config: Config, data: Dataset, setup: Setup) -> Plan | LargePlan:
    """The batches of a training.

    Raises:
      ValueError: their size does not fit the log, or the devices.
    """
    size, train = config.training.batch_size, data.splits["train"]
    sharding.check_divides(size, setup.mesh, "--training.batch-size: a batch")
    options = {
        "summed": setup.summed,
        "passes": {data.schema.cvr: config.training.cvr_passes},
        "devices": setup.mesh.size if setup.mesh else 1,
    }
    if data.is_large("train"):
        return LargePlan(data.schema, train, setup.learned, size, **options)
    labels = spaces.with_joint(data.schema, train.labels)
    return Plan(train._replace(labels=labels), setup.learned, size, **options)


def check_trainable(config: Config, data: Dataset) -> None:
    """Raises ValueError where a log or a model does not allow for a training."""
    if not_applicable(config, data.schema) is None:
        tasks = task_names(config, data.schema)
        setup = make_setup(config, data, tasks)
        make_plan(config, data, setup)
        if setup.masked and setup.needs_funnel:
            raise ValueError(
                f"--pruning.masks is {config.pruning.masks}, but a ticket is searched"
                f" with one task's loss alone, and {setup.architecture.name} learns a"
                " task through those before it; set it to none, or use another"
                " architecture or --training.spaces"
            )
