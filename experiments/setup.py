"""From a configuration to the programs and batches of one training."""

from __future__ import annotations

from experiments.config import Config
from jaxmtl.data.batches import Plan
from jaxmtl.data.store import Dataset
from jaxmtl.optim import Adam
from jaxmtl.setup import Conflict, Setup
from jaxmtl.types import IMPRESSION, Schema


def task_names(config: Config, schema: Schema) -> tuple[str, ...]:
    """The tasks trained: `--training.tasks` in the words of the log."""
    return {
        "ctr": (schema.ctr,),
        "cvr": (schema.cvr,),
        "pair": (schema.ctr, schema.cvr),
        "all": tuple(task.name for task in schema.tasks),
    }[config.training.tasks]


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


def make_setup(config: Config, schema: Schema, tasks: tuple[str, ...]) -> Setup:
    """The static part of a training of some tasks."""
    training, model = config.training, config.model
    kinds = {"binary": training.binary_loss, "continuous": training.continuous_loss}
    roles = {schema.ctr: training.ctr_weight, schema.cvr: training.cvr_weight}
    has_cvr = schema.cvr in tasks
    conflict = None
    if training.conflict_factor != 1 and has_cvr:
        by_duration = "duration" in schema.extras
        threshold = None if by_duration else training.conflict_threshold
        conflict = Conflict(schema.cvr, training.conflict_factor, threshold)
    return Setup(
        schema=schema,
        tasks=tasks,
        architecture=model.architecture,
        hidden=model.hidden,
        cross=model.cross,
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
        conflict=conflict,
    )


def make_plan(config: Config, data: Dataset, setup: Setup) -> Plan:
    """The batches of a training."""
    return Plan(
        data.splits["train"],
        [data.schema.task(name) for name in setup.tasks],
        config.training.batch_size,
        summed=setup.summed,
        passes={data.schema.cvr: config.training.cvr_passes},
    )


def check_trainable(config: Config, data: Dataset) -> None:
    """Raises ValueError where a log has too few rows for a training's batches."""
    if not_applicable(config, data.schema) is None:
        tasks = task_names(config, data.schema)
        make_plan(config, data, make_setup(config, data.schema, tasks))
