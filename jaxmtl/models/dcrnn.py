"""DCRNN: a recurrent cross network for each task over windows that overlap.

DCRNN (Zhou and Yu), Figure 1 and equation 7. Every position t of one sequence is
X_0 + A_t (Algorithm 2); task i reads the window of positions i·I … i·I + L - 1
(Algorithm 1), and a tower of its own turns what its recurrent net made of them into
a logit. How that net works, and quickly, is told in `jaxmtl.layers.crnn`.

The paper has no code and leaves open what overlapping windows share. Three readings:

- `per_step_weights`: the cell of a position (W_t, U_t, b_t; equation 5 writes the
  index) belongs to the position, so tasks share the cells where their windows
  overlap. The one reading under which I = 0 is hard sharing and I = L soft sharing,
  as the paper says.
- `task_rnn`: each task has a cell of its own ("modeling RNN layer separately for
  each task"), and only A_t is shared. Without adaptation I changes nothing.
- `one_rnn`: all tasks and positions share one cell. Without adaptation all tasks
  see the same output.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Sequence
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from flax.traverse_util import unflatten_dict

from jaxmtl.keys import named
from jaxmtl.layers import crnn
from jaxmtl.layers.mlp import FeatureLayer, Tower, refuse_own_views
from jaxmtl.types import Array, Features, Key, Model, Outputs, Params, Task

Sharing = Literal["per_step_weights", "task_rnn", "one_rnn"]
Readout = Literal["last", "mean", "concat"]
Steps = tuple[tuple[tuple[str, ...], int], ...]
"""Of each step of a run: where in the net its cell stands, and its position."""
READOUTS = {
    "last": lambda steps: steps[-1],
    "mean": lambda steps: sum(steps) / len(steps),
    "concat": lambda steps: jnp.concatenate(steps, axis=1),
}


@dataclasses.dataclass(frozen=True)
class Dcrnn:
    """Hyper-parameters.

    The defaults are the paper's BiLSTM with adaptation, at its L and I. It names
    neither `hidden`, `readout` nor `tower`: 64 is what an expert of the MMoE that it
    is compared with puts out, and the tower is `Mmoe`'s.

    Attributes:
      length: positions a task reads (L).
      interval: positions between the starts of two tasks' windows (I), 0 … L.
      cell: `lstm` or `gru`.
      bidirectional: whether a second run, with weights of its own, reads the window
        from its end.
      adaptation: whether positions differ by a learned A_t, or all are X_0.
      adaptation_scale: standard deviation of the initial A_t.
      sharing: what overlapping windows share (see the module).
      hidden: width of each direction's H_t.
      readout: what of each direction's run feeds the tower: the `last` step's
        output, the `mean` over the steps, or all of them (`concat`).
      tower: widths of each task's tower; may be empty: a head alone.
    """

    length: int = 5
    interval: int = 2
    cell: Literal["lstm", "gru"] = "lstm"
    bidirectional: bool = True
    adaptation: bool = True
    adaptation_scale: float = 0.0
    sharing: Sharing = "per_step_weights"
    hidden: int = 64
    readout: Readout = "last"
    tower: tuple[int, ...] = (32,)

    def __post_init__(self):
        choices = {
            "cell": tuple(crnn.CELLS),
            "sharing": get_args(Sharing),
            "readout": get_args(Readout),
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name} {getattr(self, name)!r} is none of {list(known)}"
                )
        if self.hidden < 1:
            raise ValueError(f"hidden is {self.hidden}; it must be at least 1")
        windows(1, self.length, self.interval)  # refuses what is no window

    @property
    def directions(self) -> tuple[str, ...]:
        """Of the runs of each task."""
        return ("forward", "backward") if self.bidirectional else ("forward",)

    @property
    def top(self) -> int:
        """Width of what feeds a tower."""
        steps = self.length if self.readout == "concat" else 1
        return steps * self.hidden * len(self.directions)


def windows(tasks: int, length: int, interval: int) -> tuple[tuple[int, ...], int]:
    """Where the tasks' windows start, and how many positions there are.

    DCRNN, Algorithm 1, whose "0 to n" means n windows: 7 positions for two tasks at
    L = 5 and I = 2, as the paper counts.

    Args:
      tasks: number of windows (n), at least 1.
      length: of a window (L), at least 1.
      interval: between two starts (I), 0 <= I <= L.

    Returns:
      The starts i·I, and the total (n - 1)·I + L.

    Raises:
      ValueError: a number is out of its range.
    """
    if tasks < 1 or length < 1:
        raise ValueError(
            f"{tasks} windows of length {length}: there must be at least one window,"
            " of at least one position"
        )
    if not 0 <= interval <= length:
        raise ValueError(
            f"interval {interval} is not within 0 … length = {length}; at 0 all tasks"
            f" read the same window, at {length} no two windows overlap"
        )
    return tuple(i * interval for i in range(tasks)), (tasks - 1) * interval + length


def dcrnn(options: Dcrnn, tasks: Sequence[Task], layer: FeatureLayer) -> Model:
    """The model. The order of `tasks` is that of their windows.

    Its net holds the crosses and `adaptation` [positions, D] as shared parts, a
    tower for each task, and the cells (`crnn.init_cell`) at

        shared/rnn/<direction>/position<t>   with `per_step_weights`,
        tasks/<task>/rnn/<direction>         with `task_rnn`,
        shared/rnn/<direction>               with `one_rnn`.

    With `per_step_weights` a position at which every window that holds it starts
    has a recurrent kernel that nothing reads, since H_0 = 0; it is kept, so that
    all positions are alike, and counts among the parameters.
    """
    tower, names = Tower(options.tower), [task.name for task in tasks]
    runs = _runs(names, options)
    paths = sorted({path for steps in runs.values() for path, _ in steps})
    _, positions = windows(len(names), options.length, options.interval)

    def init(key: Key, features: Features) -> Params:
        refuse_own_views("dcrnn", features)
        crosses = layer.init(named(key, "cross"), features)
        width = layer.apply(crosses, features).shape[1]
        net = {("shared", name): part for name, part in crosses.items()}
        if options.adaptation:
            draw = jax.nn.initializers.normal(options.adaptation_scale)
            keys = [named(key, "adaptation", str(t)) for t in range(positions)]
            adaptation = jnp.stack([draw(key, (width,)) for key in keys])
            net["shared", "adaptation"] = adaptation
        # All at once: an orthogonal draw is slow to compile, and there are dozens.
        cells = jax.vmap(
            lambda key: crnn.init_cell(key, options.cell, width, options.hidden)
        )(jnp.stack([named(key, *path) for path in paths]))
        for i, path in enumerate(paths):
            net[path] = jax.tree.map(operator.itemgetter(i), cells)
        top = jnp.zeros((1, options.top))
        for name in names:
            own = tower.init(named(key, name, "tower"), top)["params"]
            net |= {("tasks", name, part): value for part, value in own.items()}
        return {"shared": {}} | unflatten_dict(net)

    def apply(net: Params, features: Features, *, key: Key | None = None) -> Outputs:
        del key  # nothing here is random
        x = layer.apply(net["shared"], features)
        cells = {path: functools.reduce(operator.getitem, path, net) for path in paths}
        products = {path: x @ cell["input"]["kernel"] for path, cell in cells.items()}

        @functools.cache  # windows that coincide, as all do at I = 0, are run once
        def read(steps: Steps) -> Array:
            adaptation = None
            if options.adaptation:
                adaptation = [net["shared"]["adaptation"][t] for _, t in steps]
            used = [cells[path] for path, _ in steps]
            factors = [products[path] for path, _ in steps]
            return READOUTS[options.readout](
                crnn.run(options.cell, used, factors, adaptation)
            )

        logits = {}
        for name in names:
            sides = [read(runs[name, direction]) for direction in options.directions]
            top = jnp.concatenate(sides, axis=1)
            logits[name] = tower.apply({"params": net["tasks"][name]}, top)
        return Outputs(logits)

    return Model(init, apply)


def _runs(names: Sequence[str], options: Dcrnn) -> dict[tuple[str, str], Steps]:
    """(task, direction) -> its steps in the order of reading."""
    starts, _ = windows(len(names), options.length, options.interval)
    runs = {}
    for name, start in zip(names, starts, strict=True):
        window = tuple(range(start, start + options.length))
        for direction in options.directions:
            positions = window if direction == "forward" else window[::-1]
            runs[name, direction] = tuple(
                (_cell_path(options.sharing, name, direction, position), position)
                for position in positions
            )
    return runs


def _cell_path(
    sharing: Sharing, task: str, direction: str, position: int
) -> tuple[str, ...]:
    if sharing == "task_rnn":
        return ("tasks", task, "rnn", direction)
    if sharing == "one_rnn":
        return ("shared", "rnn", direction)
    return ("shared", "rnn", direction, f"position{position:02d}")
