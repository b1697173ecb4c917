"""From a configuration to the programs and batches of one training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from jax.sharding import Mesh

from experiments.settings import sections
from experiments.settings.config import Config
from jaxmtl import discovery, models, spaces
from jaxmtl.data.batches import Plan
from jaxmtl.data.batches.large_plan import LargePlan
from jaxmtl.data.reading.files import nearest
from jaxmtl.data.store import Dataset
from jaxmtl.devices import sharding
from jaxmtl.training import spec
from jaxmtl.training.spec import Conflict, Setup
from jaxmtl.training.train_state import init_shapes
from jaxmtl.types import IMPRESSION, Rows, Schema, Task

T = TypeVar("T")


def task_names(config: Config, schema: Schema) -> tuple[str, ...]:
    """The tasks trained: `--training.tasks` in the words of the log.

    Raises:
      ValueError: a task is given by a name that the log has not, or twice.
    """
    every, given = tuple(task.name for task in schema.tasks), config.training.tasks
    words = {
        "ctr": (schema.ctr,),
        "cvr": (schema.cvr,),
        "pair": tuple(roles(schema).values()),
        "all": every,
    }
    names = words[given] if isinstance(given, str) else tuple(given)
    if not names or len(set(names)) < len(names) or not set(names) <= set(every):
        unknown = [name for name in names if name not in every]
        near = nearest(unknown[0], every) if unknown else ""
        raise ValueError(
            f"--training.tasks {' '.join(names) or 'names none'}{near}: give pair, ctr,"
            f" cvr, all or some of {list(every)}, each once"
        )
    return names


def roles(schema: Schema) -> dict[str, str]:
    """`ctr` and `cvr` -> the task that plays the part.

    A label that plays both is the CTR, and there is no CVR.
    """
    parts = {"ctr": schema.ctr, "cvr": schema.cvr}
    return parts if schema.ctr != schema.cvr else {"ctr": schema.ctr}


def role(schema: Schema, task: str) -> str:
    """`ctr`, `cvr`, or the name of a task that plays neither part."""
    return {name: part for part, name in roles(schema).items()}.get(task, task)


def not_applicable(config: Config, schema: Schema) -> str | None:
    """Why a row has no meaning on a log, or None where it has one."""
    cvr = schema.task(schema.cvr)
    if schema.ctr == schema.cvr and _is_about_cvr(config):
        return (
            f"{schema.name} has one label, {schema.ctr!r}, which is trained as the CTR,"
            " and this row is about the CVR"
        )
    if config.training.conflict_factor != 1 and cvr.space == IMPRESSION:
        return (
            f"{schema.name} has neither durations nor a label space for"
            f" {cvr.name!r}: no click can go without its conversion"
        )
    architecture = config.model.options
    is_asked = config.training.tasks in ("pair", "all")  # for all that the log has
    if is_asked and learns_funnel(config):
        try:
            name = discovery.name_of(architecture)
            spaces.check_funnel(name, schema, task_names(config, schema))
        except ValueError as error:
            return str(error)
    return None


def _is_about_cvr(config: Config) -> bool:
    """Whether a row changes what is done for the CVR, or exchanges its ticket."""
    training = config.training
    return (
        training.tasks == "cvr"
        or training.conflict_factor != 1
        or training.cvr_passes != 1
        or "cvr" in dict(training.weights)
        or "cvr" in dict(config.model.own_dims)
        or config.pruning.masks in ("swapped", "ctr")
    )


def learns_funnel(config: Config) -> bool:
    """Whether a row learns a task through those that lead to it."""
    return (
        hasattr(config.model.options, "spaces") or config.training.spaces == "product"
    )


def make_setup(
    config: Config,
    data: Dataset,
    tasks: tuple[str, ...],
    net_tasks: tuple[str, ...] = (),
) -> Setup:
    """A training of some tasks, in a net built for `net_tasks`."""
    schema, training, model = data.schema, config.training, config.model
    optimiser, own = config.optimiser, own_dims(config, schema)
    conflict = None
    if training.conflict_factor != 1 and schema.cvr in tasks:
        # It weights ratios above 0 and below .2, which a yes or no never is.
        is_ratio = schema.task(schema.cvr).kind == "continuous"
        by_duration = "duration" in schema.extras and is_ratio
        threshold = None if by_duration else training.conflict_threshold
        conflict = Conflict(schema.cvr, training.conflict_factor, threshold)
    settings = {
        "schema": schema,
        "tasks": tasks,
        "architecture": model.options,
        "crossing": model.crossing,
        "dim": model.embedding_dim,
        "own_dims": _of(_readers(config, schema, tasks, net_tasks), own),
        "net_tasks": net_tasks if set(net_tasks) > set(tasks) else (),
        "masked": config.pruning.masks != "none",
        "mesh": _mesh(config.mesh.devices),
        "init_scale": model.init_scale,
        "spaces": config.spaces,
        "precision": training.precision,
        "task_losses": {name: config.losses[schema.task(name).kind] for name in tasks},
        "conflict": conflict,
        "task_weights": _of(
            tasks, _by_task(training.weights, schema, "training.weights")
        ),
        "learning_rate": optimiser.learning_rate,
        "table_learning_rate": optimiser.table_learning_rate,
        "weight_decay": optimiser.weight_decay,
        "optimiser": sections.chosen(optimiser),
        "schedule": sections.chosen(optimiser.schedule),
        "clip": optimiser.clip,
        "tables": optimiser.tables,
        "moving": optimiser.moving,
        "summed": training.schedule == "sum",
        "balancer": sections.chosen(config.balance),
    }
    learned = spec.make_setup(**settings).learned
    settings["positive_weights"] = _weights(config, data, learned)
    return spec.make_setup(**settings)


def own_dims(config: Config, schema: Schema) -> dict[str, int]:
    """Task, of those trained -> width of its own embeddings, where it has any.

    Raises:
      ValueError: a width is given to what is no task; suggests the nearest.
    """
    given = _by_task(config.model.own_dims, schema, "model.own-dims")
    given = _of(task_names(config, schema), given)
    return {name: width for name, width in given.items() if width}


def _readers(
    config: Config, schema: Schema, tasks: tuple[str, ...], net_tasks: tuple[str, ...]
) -> tuple[str, ...]:
    """The tasks whose own embeddings a training of `tasks` reads.

    Where a task reads those of others, the shapes of what they share depend on them:
    alone it is trained in the net that all of them have.
    """
    model = models.make(
        config.model.options,
        [schema.task(name) for name in net_tasks or tasks],
        config.model.crossing,
    )
    return net_tasks or tasks if model.reads_all_stacks else tasks


def _by_task(
    pairs: tuple[tuple[str, float], ...], schema: Schema, option: str
) -> dict[str, float]:
    """Task -> number, from pairs whose names may be roles."""
    parts, found = roles(schema), {}
    known = [task.name for task in schema.tasks]
    for name, value in pairs:
        task = parts.get(name, name)
        if task not in known:
            raise ValueError(
                f"--{option} names {name!r}, which is no task;"
                f" {discovery.nearest(name, [*known, *parts])}"
            )
        if task in found:
            raise ValueError(f"--{option} names {task!r} twice; give one number a task")
        found[task] = value
    return found


def _of(tasks: tuple[str, ...], values: Mapping[str, T]) -> dict[str, T]:
    return {name: value for name, value in values.items() if name in tasks}


def _mesh(devices: int) -> Mesh | None:
    try:
        return sharding.make_mesh(devices)
    except ValueError as error:
        raise ValueError(f"--mesh.devices {devices}: {error}") from error


def _weights(
    config: Config, data: Dataset, learned: Mapping[str, Task]
) -> dict[str, float]:
    """The positives' weight of every binary task."""
    given, found = config.training.positive_weight, {}
    for name, task in learned.items():
        if task.kind == "binary":
            weight = given
            if given == "rate":
                positives, rows = data.rates[task.name]
                # Four digits, which the published results were trained with.
                negatives = max(rows - positives, 1)
                weight = float(f"{negatives / max(positives, 1):.4g}")
            found[name] = weight
    return found


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
    if size > train.num_rows:
        raise ValueError(
            f"--training.batch-size is {size}, but {data.schema.name} has"
            f" {train.num_rows} training rows; use 1 … {train.num_rows}"
        )
    sharding.check_divides(size, setup.mesh, "--training.batch-size: a batch")
    options = {
        "summed": setup.spec.step.summed,
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
        if discovery.make(setup.spec.step.balancer).needs_shared:
            init_shapes(setup)  # or says that nothing is shared
        if setup.masked and setup.needs_funnel:
            name = discovery.name_of(setup.architecture)
            raise ValueError(
                f"--pruning.masks is {config.pruning.masks}, but a ticket is searched"
                f" with one task's loss alone, and {name} learns a task through"
                " those before it; set it to none, or use another architecture or"
                " --training.spaces"
            )
