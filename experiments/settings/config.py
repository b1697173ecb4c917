"""The configuration of an experiment: frozen dataclasses, one per concern.

What a run is called in its work directory depends on this and not on the seed.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints

import tyro

from experiments.settings import sections
from experiments.settings.views import View
from jaxmtl import discovery, models, places
from jaxmtl.data.sources.ali_ccp.protocol import AliCcpOptions
from jaxmtl.data.sources.video_feed import FeedConfig
from jaxmtl.layers.crossing import Crossing
from jaxmtl.losses import LossName
from jaxmtl.spaces import Spaces
from jaxmtl.sparsity import mask_controls
from jaxmtl.tables import row_optim
from jaxmtl.training.fit import CHUNK, OnNonFinite
from jaxmtl.training.spec import Precision

Resume = Literal["never", "auto", "must"]
How = Literal["auto", "in_turn", "processes", "program"]
"""In which way several trainings go on at once (`experiments.running.crew`)."""


SOURCES = "jaxmtl.data.sources"
PLAIN = ("shared_trunk", "hard_sharing")
"""Architectures of one MLP's shape, which a table's rows have in common."""


@sections.methods(SOURCES, some=True)
@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which log, and the simulated feed's parameters.

    Attributes:
      name: the log, a file of `jaxmtl/data/sources`. `video_feed` is simulated;
        `complete_journey` needs the extra of that name; `own_log` is any CSV, TSV,
        JSON-lines or Parquet file with a schema.
      path: file or folder of the log, where it does not come with a package.
      schema: of `own_log`, a TOML or JSON file.
      allow_leaks: features that the leakage check would refuse, and should not.
      cache: folder of prepared data sets.
      feed: the simulated feed.
      ali_ccp: how `ali_ccp` is read.
      view: how the log is looked at: split anew, with noise, with fewer inputs.
    """

    name: str = "video_feed"
    path: Path | None = None
    schema: Path | None = None
    allow_leaks: tuple[str, ...] = ()
    cache: Path = dataclasses.field(default_factory=places.default_cache)
    feed: FeedConfig = FeedConfig()
    ali_ccp: AliCcpOptions = AliCcpOptions()
    view: View = View()


@sections.methods("jaxmtl.models", "architecture", without=PLAIN)
@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The net.

    Attributes:
      architecture: which; its own settings are those of the section of its name.
        `shared_trunk` (one MLP, a head a task) and `hard_sharing` (embeddings
        shared, an MLP a task) are made of `hidden` alone.
      embedding_dim: width of the embeddings.
      hidden: widths of the MLP of `shared_trunk` and `hard_sharing`.
      crossing: what stands between embeddings and net, in every architecture.
      own_dims: pairs of a task (or `ctr`, `cvr`) and the width of its own embeddings
        beside the shared ones.
      init_scale: standard deviation of the initial embeddings.
    """

    architecture: str = "shared_trunk"
    embedding_dim: int = 32
    hidden: tuple[int, ...] = (512, 256, 128)
    crossing: Crossing = Crossing()
    own_dims: tuple[tuple[str, int], ...] = ()
    init_scale: float = 0.05

    @property
    def options(self) -> models.Architecture:
        """The settings of the architecture in use."""
        if self.architecture in PLAIN:
            return discovery.options(models.__name__, self.architecture)(self.hidden)
        return sections.chosen(self)


@sections.methods("jaxmtl.optim.schedules")
@dataclasses.dataclass(frozen=True)
class ScheduleConfig:
    """How the learning rate changes, counted in steps that move something.

    Attributes:
      name: of the schedule; its own settings are those of the section of its name.
    """

    name: str = "constant"


@sections.methods("jaxmtl.optim.optimisers")
@dataclasses.dataclass(frozen=True)
class OptimiserConfig:
    """What trains the net, and the tables' rows that a batch touches.

    Attributes:
      name: of the net's optimiser; its own settings are those of the section of its
        name.
      learning_rate: step size of net and tables.
      schedule: of the learning rate, for net and tables alike.
      clip: largest norm of the net's gradient, behind the gates; none by default.
      tables: `lazy_adam`, a row that a step skips keeps its moments; `adam`, it
        first catches up with dense Adam, at the batch's cost; `sgd`; `adagrad`;
        `rowwise_adagrad`, one sum of squares a row.
      table_learning_rate: step size of the tables, where it is another one.
      weight_decay: decoupled, on kernels.
      moving: what a task's step may move: `gated`, its own subnetwork;
        `per_task`, the same with moments per task; `leaky`, everything.
    """

    name: str = "adam"
    learning_rate: float = 1e-4
    schedule: ScheduleConfig = ScheduleConfig()
    clip: float | None = None
    tables: row_optim.Name = "lazy_adam"
    table_learning_rate: float | None = None
    weight_decay: float = 0.0
    moving: Literal["gated", "per_task", "leaky"] = "gated"


@sections.methods("jaxmtl.balancing.methods")
@dataclasses.dataclass(frozen=True)
class BalanceConfig:
    """How the tasks' losses or gradients become one step, for the schedule `sum`.

    Attributes:
      name: of the balancer; its own settings are those of the section of its name.
        All but `fixed` come on top of the weights given to tasks.
    """

    name: str = "fixed"


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """Joint and single-task training.

    Attributes:
      tasks: `pair` (CTR and CVR), one of them, `all` of the log, or tasks by name.
      batch_size: rows a batch of a task that every row is labelled for; other
        tasks' batches are smaller in proportion to their rows.
      epochs: at most.
      patience: epochs without improvement on validation before stopping.
      schedule: `alternate` the tasks' batches (Algorithm 1) or train on the
        weighted `sum` of losses (eq. 2).
      weights: pairs of a task (or `ctr`, `cvr`) and the weight of its loss, 1 by
        default: a and b of eq. 2. For the schedule `sum`: by turns Adam cancels the
        scale of a loss, save where tasks share its moments.
      cvr_passes: how often an epoch passes over the CVR's rows, when alternating.
      binary_loss: of binary labels; `focal` is the authors' code for CTR. What it
        learns is recalibrated; a `product` cannot be learned by it.
      continuous_loss: of labels in [0, 1]; `squared` or soft `log` loss. By default
        `log` where the net learns chances along a funnel (ESMM, AITM, and `spaces`
        `product`), as their papers do (Ma et al., eq. 3), and `squared` elsewhere.
      conflict_factor: weight of the CVR's loss on rows where the gradients
        conflict; 1 = off. By duration where the log has one and the label is a ratio,
        else by threshold.
      conflict_threshold: label under which a clicked row is one, by threshold.
        Predictions of a binary CVR are corrected for the shift of its odds.
      spaces: what a task inside another's space learns: `own`, its label on the rows
        of its space; `impression`, the joint event on all rows, as in DCRNN's study
        of Ali-CCP (its CVR is then a quotient, clipped); `product`, the joint event
        as a product of probabilities (ESMM).
      positive_weight: of the positives in the loss of binary labels; `rate`,
        negatives over positives in training, the DCRNN paper's; predictions are
        recalibrated.
      precision: of the net's products, forward and backward. Weights, moments, tables
        and losses are float32 under `bfloat16` too.
      init_from: work directory of an earlier run of the same net, or the folder of
        one of its rows: where joint training starts, seed by seed, instead of at
        random. Tickets are searched and rewound as ever.
    """

    tasks: Literal["pair", "ctr", "cvr", "all"] | tuple[str, ...] = "pair"
    batch_size: int = 4096
    epochs: int = 10
    patience: int = 2
    schedule: Literal["alternate", "sum"] = "alternate"
    weights: tuple[tuple[str, float], ...] = ()
    cvr_passes: float = 1.0
    binary_loss: Literal["log", "focal"] = "log"
    continuous_loss: Literal["squared", "log"] | None = None
    conflict_factor: float = 1.0
    conflict_threshold: float = 0.1
    spaces: Spaces = "own"
    positive_weight: float | Literal["rate"] = 1.0
    precision: Precision = "float32"
    init_from: Annotated[Path | None, tyro.conf.arg(aliases=["--init-from"])] = None


@sections.methods("jaxmtl.sparsity.finders")
@dataclasses.dataclass(frozen=True)
class FinderConfig:
    """What a weight is worth at the end of a round: the least fall.

    Attributes:
      name: of the finder; its own settings are those of the section of its name.
    """

    name: str = "magnitude"


@dataclasses.dataclass(frozen=True)
class PruningConfig:
    """Algorithm 1, lines 1-9.

    Attributes:
      masks: `none` (dense), each task's `ticket`, or a control made from the
        tickets: `reinitialised` (the tickets over a fresh draw of all weights),
        `random` masks (as dense in every layer), `random_global` (as dense in the
        net), `random_common` (one draw for all tasks), `shuffled` (each layer
        permuted, alike for all tasks), `swapped` (each task has another's ticket),
        `ctr` (all have the CTR's); see `jaxmtl/sparsity/mask_controls.py`.
      finder: which weights fall, `magnitude` by default.
      unit: prune single weights (`weight`) or whole neurons (`neuron`).
      scope: one threshold for the net (`global`) or one a layer (`layer`).
      final_density: fraction of weights kept after the last round, in (0, 1].
      rounds: of pruning.
      epochs: at most, in a round.
      patience: as in training, in a round.
      rewind: where a round and joint training start: the initial weights
        (`init`), those after `rewind_step` steps of dense joint training
        (`step`), or a fresh draw each time (`fresh`).
      rewind_step: for `step`.
      max_density: the densest mask that may be chosen; the paper takes a sparse
        CTR mask for its cost although the dense one is best. None = any.
    """

    masks: Literal["none"] | mask_controls.Kind = "none"
    finder: FinderConfig = FinderConfig()
    unit: Literal["weight", "neuron"] = "weight"
    scope: Literal["global", "layer"] = "global"
    final_density: float = 0.2
    rounds: int = 4
    epochs: int = 1
    patience: int = 1
    rewind: Literal["init", "step", "fresh"] = "init"
    rewind_step: int = 100
    max_density: float | None = 0.7


@sections.everything("jaxmtl.metrics.methods")
@dataclasses.dataclass(frozen=True)
class MetricsConfig:
    """What predictions of the test are judged by: every metric that applies to a task.

    A metric with options has a section of its name.
    """


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
    """How a training under way is kept, so that a run can be stopped anywhere.

    Attributes:
      every: seconds from one save to the next; 0 = after every chunk of steps.
      steps: the longest chunk. A run stops, saves and looks for losses that are not
        finite between two of them.
    """

    every: float = 60.0
    steps: int = CHUNK


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """The devices that batches and tables are split over.

    Attributes:
      devices: how many; 0 = all there are, on all hosts; 1 = no mesh. Results are the
        same but for the last bits.
      cluster: whether there are several processes, which a launcher's environment
        tells of: SLURM, Open MPI, Kubernetes, a TPU pod.
      coordinator: without such a launcher, `host:port` of process 0.
      processes: with it, how many processes there are.
      process: with it, the number of this one, from 0.
    """

    devices: int = 1
    cluster: bool = False
    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None

    @property
    def spans_processes(self) -> bool:
        """Whether there are other processes to join."""
        by_hand = (self.coordinator, self.processes, self.process)
        return self.cluster or any(x is not None for x in by_hand)


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything an experiment depends on except its seeds, and how it is run.

    Attributes:
      data: the log.
      model: the net.
      optimiser: what moves net and tables.
      balance: of the tasks' losses or gradients, for `--training.schedule sum`.
      training: joint and single-task training.
      pruning: the search for tickets.
      metrics: what predictions are judged by.
      checkpoint: how a training under way is kept.
      mesh: the devices it is split over.
      resume: whether the work directory may (`auto`), `must` or must `never` hold a
        run to go on with.
      on_nonfinite: whether a step whose loss or gradient is not finite ends the run
        (`stop`) or is passed over and counted (`skip`); it moves nothing either way.
    """

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    balance: BalanceConfig = BalanceConfig()
    training: TrainingConfig = TrainingConfig()
    pruning: PruningConfig = PruningConfig()
    metrics: MetricsConfig = MetricsConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    mesh: MeshConfig = MeshConfig()
    resume: Resume = "auto"
    on_nonfinite: OnNonFinite = "stop"

    @property
    def spaces(self) -> Spaces:
        """What nested tasks learn: an architecture may leave no choice."""
        return getattr(self.model.options, "spaces", self.training.spaces)

    @property
    def losses(self) -> dict[str, LossName]:
        """Kind of label -> its loss."""
        continuous = self.training.continuous_loss
        if continuous is None:
            is_funnel = hasattr(self.model.options, "spaces")
            is_funnel = is_funnel or self.training.spaces == "product"
            continuous = "log" if is_funnel else "squared"
        return {"binary": self.training.binary_loss, "continuous": continuous}

    @property
    def joint_start(self) -> Config:
        """By what joint training starts: as the rounds do, or from a fresh draw."""
        if self.pruning.masks != "reinitialised":
            return self
        pruning = dataclasses.replace(self.pruning, rewind="fresh")
        return dataclasses.replace(self, pruning=pruning)

    def check(self) -> None:
        """Raises ValueError for a value no run could use; names field and range."""
        sections.check(self.data, "data")
        sections.check(self.model, "model")
        sections.check(self.optimiser, "optimiser")
        sections.check(self.optimiser.schedule, "optimiser.schedule")
        sections.check(self.balance, "balance")
        sections.check(self.pruning.finder, "pruning.finder")
        positive = {
            "model.embedding-dim": self.model.embedding_dim,
            "optimiser.learning-rate": self.optimiser.learning_rate,
            "optimiser.table-learning-rate": (
                1.0
                if self.optimiser.table_learning_rate is None
                else self.optimiser.table_learning_rate
            ),
            "training.batch-size": self.training.batch_size,
            "training.epochs": self.training.epochs,
            "training.patience": self.training.patience,
            "training.cvr-passes": self.training.cvr_passes,
            "training.conflict-factor": self.training.conflict_factor,
            "training.conflict-threshold": self.training.conflict_threshold,
            "pruning.rounds": self.pruning.rounds,
            "pruning.epochs": self.pruning.epochs,
            "pruning.patience": self.pruning.patience,
            "pruning.rewind-step": self.pruning.rewind_step,
            "checkpoint.steps": self.checkpoint.steps,
            "model.init-scale": self.model.init_scale,
            "model.hidden": min(self.model.hidden, default=0),
            "model.crossing.depth": self.model.crossing.depth,
            "model.crossing.maps": self.model.crossing.maps,
            "model.crossing.hidden": self.model.crossing.hidden,
            "training.positive-weight": (
                1.0
                if self.training.positive_weight == "rate"
                else self.training.positive_weight
            ),
        } | {f"training.weights {name}": w for name, w in self.training.weights}
        for name, value in positive.items():
            if not 0 < value < math.inf:
                raise ValueError(f"--{name} is {value}; it must be above 0, and finite")
        for name, value in {
            "model.own-dims": min((dim for _, dim in self.model.own_dims), default=0),
            "optimiser.weight-decay": self.optimiser.weight_decay,
            "checkpoint.every": self.checkpoint.every,
        }.items():
            if not 0 <= value < math.inf:
                raise ValueError(
                    f"--{name} is {value}; it must be 0 or more, and finite"
                )
        for name, value in {
            "pruning.final-density": self.pruning.final_density,
            "pruning.max-density": self.pruning.max_density,
        }.items():
            if value is not None and not 0 < value <= 1:
                raise ValueError(f"--{name} is {value}; a density lies in (0, 1]")
        exchanged = self.pruning.masks in ("swapped", "ctr")
        if exchanged and self.training.tasks in ("ctr", "cvr"):
            raise ValueError(
                f"--pruning.masks {self.pruning.masks} exchanges tickets between tasks,"
                f" but --training.tasks is {self.training.tasks}; train the pair"
            )
        ceiling = self.pruning.max_density
        if ceiling is not None and self.pruning.final_density > ceiling:
            raise ValueError(
                f"--pruning.final-density is {self.pruning.final_density}, above"
                f" --pruning.max-density {ceiling}: no round could be chosen; lower"
                " the first or raise the second"
            )


def as_json(config: Config) -> dict:
    """The configuration as plain JSON values: all that numbers depend on.

    Places are left out: what lies there has a fingerprint.
    """
    result = _plain(config)
    for name in ("checkpoint", "mesh", "resume", "on_nonfinite"):
        del result[name]  # how a run goes, and not what is trained
    del result["data"]["allow_leaks"]  # it changes no number
    for name, log in {"feed": "video_feed", "ali_ccp": "ali_ccp"}.items():
        if config.data.name != log:
            del result["data"][name]  # of another log
    result["training"]["continuous_loss"] = config.losses["continuous"]
    return result


def paths_of(config: Config) -> dict[str, str]:
    """Dotted names of the settings that say where something lies -> where, absolute."""
    return {name: str(path.absolute()) for name, path in _paths(config, "")}


def _paths(section: Any, at: str) -> Iterator[tuple[str, Path]]:
    hints = get_type_hints(type(section))
    for field in dataclasses.fields(section):
        value = getattr(section, field.name)
        if dataclasses.is_dataclass(value):
            yield from _paths(value, f"{at}{field.name}.")
        elif _is_place(hints[field.name]) and value is not None:
            yield f"{at}{field.name}", Path(value)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        hints, unused = get_type_hints(type(value)), sections.unused(value)
        return {
            field.name: _plain(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if not _is_place(hints[field.name]) and field.name not in unused
        }
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value


def _is_place(hint: Any) -> bool:
    return Path in (hint, *get_args(hint))
