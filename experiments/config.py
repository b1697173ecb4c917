"""The configuration of an experiment: frozen dataclasses, one per concern.

What a run is called in its work directory depends on this and not on the seed.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Literal

from jaxmtl.data.video_feed import FeedConfig


def default_cache() -> Path:
    """Where prepared data sets live: $JAXMTL_CACHE or ~/.cache/jaxmtl."""
    return Path(os.environ.get("JAXMTL_CACHE", Path.home() / ".cache" / "jaxmtl"))


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which log, and the simulated feed's parameters.

    Attributes:
      name: the log. `video_feed` is simulated; `complete_journey` needs the
        extra of that name; `lt4rec_sample` needs its path.
      path: file or folder of the log, where it does not come with a package.
      cache: folder of prepared data sets.
      feed: the simulated feed.
    """

    name: Literal["video_feed", "complete_journey", "lt4rec_sample"] = "video_feed"
    path: Path | None = None
    cache: Path = dataclasses.field(default_factory=default_cache)
    feed: FeedConfig = FeedConfig()


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The net.

    Attributes:
      architecture: `shared_trunk` (one MLP, a head a task) or `hard_sharing`
        (embeddings shared, an MLP a task).
      embedding_dim: width of the embeddings.
      hidden: widths of the MLP.
      cross: `elementwise` (the paper's text), `inner` (the authors' code), `none`.
      own_dim: width of the CVR's own embeddings beside the shared ones; 0 = none.
      init_scale: standard deviation of the initial embeddings.
    """

    architecture: Literal["shared_trunk", "hard_sharing"] = "shared_trunk"
    embedding_dim: int = 32
    hidden: tuple[int, ...] = (512, 256, 128)
    cross: Literal["elementwise", "inner", "none"] = "elementwise"
    own_dim: int = 0
    init_scale: float = 0.05


@dataclasses.dataclass(frozen=True)
class OptimiserConfig:
    """Adam.

    Attributes:
      learning_rate: step size of net and tables.
      weight_decay: decoupled, on kernels.
      moving: what a task's step may move: `gated`, its own subnetwork;
        `per_task`, the same with moments per task; `leaky`, everything.
    """

    learning_rate: float = 1e-4
    weight_decay: float = 0.0
    moving: Literal["gated", "per_task", "leaky"] = "gated"


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """Joint and single-task training.

    Attributes:
      tasks: `pair` (CTR and CVR), one of them, or `all` of the log.
      batch_size: rows a batch of a task that every row is labelled for; other
        tasks' batches are smaller in proportion to their rows.
      epochs: at most.
      patience: epochs without improvement on validation before stopping.
      schedule: `alternate` the tasks' batches (Algorithm 1) or train on the
        weighted `sum` of losses (eq. 2).
      ctr_weight: a of eq. 2; without effect when alternating, as Adam does not
        see the scale of a loss.
      cvr_weight: b of eq. 2.
      cvr_passes: how often an epoch passes over the CVR's rows, when alternating.
      binary_loss: of binary labels; `focal` is the authors' code for CTR.
      continuous_loss: of labels in [0, 1]; `squared` or soft `log` loss.
      conflict_factor: weight of the CVR's loss on rows where the gradients
        conflict; 1 = off. By duration where the log has one, else by threshold.
      conflict_threshold: label under which a clicked row is one, without duration.
        Predictions of a binary CVR are corrected for the shift of its odds.
    """

    tasks: Literal["pair", "ctr", "cvr", "all"] = "pair"
    batch_size: int = 4096
    epochs: int = 10
    patience: int = 2
    schedule: Literal["alternate", "sum"] = "alternate"
    ctr_weight: float = 1.0
    cvr_weight: float = 1.0
    cvr_passes: float = 1.0
    binary_loss: Literal["log", "focal"] = "log"
    continuous_loss: Literal["squared", "log"] = "squared"
    conflict_factor: float = 1.0
    conflict_threshold: float = 0.1


@dataclasses.dataclass(frozen=True)
class PruningConfig:
    """Algorithm 1, lines 1-9.

    Attributes:
      masks: `none` (dense), each task's `ticket`, or `random` masks with the
        tickets' density in every layer.
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

    masks: Literal["none", "ticket", "random"] = "none"
    unit: Literal["weight", "neuron"] = "weight"
    scope: Literal["global", "layer"] = "global"
    final_density: float = 0.2
    rounds: int = 4
    epochs: int = 1
    patience: int = 1
    rewind: Literal["init", "step", "fresh"] = "init"
    rewind_step: int = 100
    max_density: float | None = 0.7


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything an experiment depends on except its seeds."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    training: TrainingConfig = TrainingConfig()
    pruning: PruningConfig = PruningConfig()

    def check(self) -> None:
        """Raises ValueError for a value no run could use; names field and range."""
        positive = {
            "model.embedding-dim": self.model.embedding_dim,
            "optimiser.learning-rate": self.optimiser.learning_rate,
            "training.batch-size": self.training.batch_size,
            "training.epochs": self.training.epochs,
            "training.patience": self.training.patience,
            "training.ctr-weight": self.training.ctr_weight,
            "training.cvr-weight": self.training.cvr_weight,
            "training.cvr-passes": self.training.cvr_passes,
            "training.conflict-factor": self.training.conflict_factor,
            "pruning.rounds": self.pruning.rounds,
            "pruning.epochs": self.pruning.epochs,
            "pruning.patience": self.pruning.patience,
            "pruning.rewind-step": self.pruning.rewind_step,
            "model.init-scale": self.model.init_scale,
            "model.hidden": min(self.model.hidden, default=0),
        }
        for name, value in positive.items():
            if not value > 0:
                raise ValueError(f"--{name} is {value}; it must be above 0")
        for name, value in {
            "model.own-dim": self.model.own_dim,
            "optimiser.weight-decay": self.optimiser.weight_decay,
        }.items():
            if value < 0:
                raise ValueError(f"--{name} is {value}; it must be 0 or more")
        for name, value in {
            "pruning.final-density": self.pruning.final_density,
            "pruning.max-density": self.pruning.max_density,
        }.items():
            if value is not None and not 0 < value <= 1:
                raise ValueError(f"--{name} is {value}; a density lies in (0, 1]")
        ceiling = self.pruning.max_density
        if ceiling is not None and self.pruning.final_density > ceiling:
            raise ValueError(
                f"--pruning.final-density is {self.pruning.final_density}, above"
                f" --pruning.max-density {ceiling}: no round could be chosen; lower"
                " the first or raise the second"
            )


def as_json(config: Config) -> dict:
    """The configuration as plain JSON values."""

    def plain(value):
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, (tuple, list)):
            return [plain(item) for item in value]
        return str(value) if isinstance(value, Path) else value

    result = plain(dataclasses.asdict(config))
    del result["data"]["cache"]  # where a set is kept changes no number
    return result
