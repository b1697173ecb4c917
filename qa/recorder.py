"""Records what twelve rows of both papers do, and compares the code of today with it.

    python -m qa.recorder record     # writes tests/recorded/
    python -m qa.recorder compare    # feeds today's code what was recorded

A redesign of the step may not change what is trained. Seeds alone cannot show that: a
key that is split in another way draws other weights and other batches. So a recording
holds the initial states and the row numbers of every batch, and the comparison starts
from those:

- losses of every step agree to `LOSS_TOLERANCE`, relatively;
- the masks of a ticket search agree, but for weights whose score lies within
  `SCORE_TOLERANCE` of the threshold, relatively;
- the test's metrics agree within what one ulp of one initial weight does to them: a
  recording holds how far three such changes moved them.

The log is recorded too, so that no change of a source or of the store matters here.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.running import joint, search_finder, ticket_cache
from experiments.settings import ablation, scores, sources
from experiments.settings.config import Config
from experiments.settings.setup import make_plan, rows_of
from jaxmtl import places
from jaxmtl.data.store import Dataset
from jaxmtl.sparsity import masks, pruning
from jaxmtl.training.inference import predict_all
from jaxmtl.training.spec import Setup
from jaxmtl.training.train import make_epoch
from jaxmtl.training.train_state import (
    Snapshot,
    TrainState,
    make_gates,
    make_init,
    restart,
    snapshot_of,
)
from jaxmtl.types import Mask, Rows, Schema

FOLDER = Path(__file__).resolve().parents[1] / "tests" / "recorded"
ROWS = (
    "lt4rec.base_ctr",
    "lt4rec.hard_sharing_trunk",
    "lt4rec.s_weight",
    "lt4rec.s_neuron",
    "lt4rec.s_weight_sum",
    "lt4rec.s_weight_gradientconflict",
    "lt4rec.s_weight_multiview",
    "lt4rec.s_weight_leaky",
    "lt4rec.esmm",
    "dcrnn.mmoe",
    "dcrnn.bilstm_ada",
    "dcrnn.bilstm_ada_tickets",
)
SEED = 0
EPOCHS = 3
ROUNDS = 2
LOSS_TOLERANCE = 1e-4
SCORE_TOLERANCE = 1e-5
ULPS = 3
"""Initial weights that are moved by one ulp, one after the other."""
FLOOR = 1e-6
"""A metric may always move by this: its own rounding."""

Arrays = dict[str, np.ndarray]


def tiny(name: str) -> Config:
    """A row with a net and a log so small that a step takes a millisecond."""
    config = ablation.set_up(name, "demo")
    feed = replace(
        config.data.feed, users=60, videos=60, impressions=3_000, days=4, history=2_000
    )
    if name.startswith("lt4rec"):
        feed = replace(feed, history=0)
    model = replace(
        config.model,
        embedding_dim=4,
        hidden=(16, 8),
        init_scale=0.05,
        dcrnn=replace(config.model.dcrnn, length=2, interval=1, hidden=4, tower=(4,)),
        mmoe=replace(config.model.mmoe, experts=2, expert_hidden=(8, 4), tower=(4,)),
        esmm=replace(config.model.esmm, hidden=(8, 4)),
    )
    config = replace(
        config,
        data=replace(config.data, feed=feed),
        model=model,
        # A decay, and a rate of the tables' own: what could be forgotten.
        optimiser=replace(
            config.optimiser,
            learning_rate=1e-2,
            table_learning_rate=2e-2,
            weight_decay=1e-2,
        ),
        # Losses by name: a default may change without this recording.
        training=replace(
            config.training,
            batch_size=64,
            epochs=EPOCHS,
            binary_loss="log",
            continuous_loss="squared",
        ),
        pruning=replace(config.pruning, rounds=ROUNDS, epochs=1, patience=1),
    )
    return ablation.load(name).configure(config)


# What is recorded


def record_log(name: str) -> None:
    """Writes the log that a folder's rows train on."""
    data = sources.load(replace(tiny(name).data, cache=places.default_cache()))
    arrays: Arrays = {}
    for split, rows in data.splits.items():
        arrays |= {f"{split}/{key}": x for key, x in _flat(rows._asdict()).items()}
    about = {"schema": json.loads(data.schema.to_json())}
    _save(_log_file(name), arrays | {"about": np.asarray(json.dumps(about))})


def read_log(name: str) -> Dataset:
    """The recorded log of a row's folder."""
    held = _load(_log_file(name))
    schema = Schema.from_json(json.dumps(json.loads(str(held["about"]))["schema"]))
    splits = {
        split: Rows(**{"extras": {}} | _nested(_below(held, split)))
        for split in ("train", "validation", "test")
    }
    return Dataset(schema, splits, {}, (), "recorded")


def record(name: str) -> None:
    """Writes a row's recording."""
    data, config = read_log(name), tiny(name)
    setup = joint.setup_of(config, data)
    key = jax.random.key(SEED)
    found, arrays = {}, {}
    if setup.masked:
        for task in setup.tasks:
            single = ticket_cache.single_setup(config, data, task)
            plan = make_plan(ticket_cache._alone(config), data, single)
            start = _start_of(make_init(single)(key))
            given = {"start": start, "orders": dict(plan.orders(SEED, 1))}
            result = search(config, data, task, given)
            found[task] = result["masks"][-1]
            arrays |= _flat({"search": {task: given | _numbered(result)}})
    plan = make_plan(config, data, setup)
    orders = [plan.orders(SEED, epoch) for epoch in range(1, EPOCHS + 1)]
    given = {
        "start": _start_of(make_init(setup)(key)),
        "orders": {k: np.concatenate([o[k] for o in orders]) for k in setup.kinds},
        "masks": found,
    }
    losses, metrics = train(config, data, given)
    moved = [train(config, data, _nudged(given, at))[1] for at in range(ULPS)]
    about = {
        "metrics": metrics,
        "moved": {
            metric: max(abs(other[metric] - value) for other in moved)
            for metric, value in metrics.items()
        },
    }
    arrays |= _flat(given | {"losses": losses})
    _save(FOLDER / f"{name}.npz", arrays | {"about": np.asarray(json.dumps(about))})


# What the code does


def train(config: Config, data: Dataset, given: Mapping[str, Any]) -> tuple:
    """Joint training from a recorded start: losses by task, metrics of the test.

    Args:
      config: of the row.
      data: the recorded log.
      given: `start`, `orders` of all steps and `masks`, task -> tree, empty where
        the row sees the whole net.
    """
    setup = joint.setup_of(config, data)
    state = _state(setup, given["start"])
    task_masks = {task: _mask(setup, state, given, task) for task in setup.tasks}
    orders = {kind: jnp.asarray(given["orders"][kind]) for kind in setup.kinds}
    state, losses = make_epoch(setup)(
        state,
        task_masks,
        make_gates(setup, state.net, task_masks),
        rows_of(data, "train", setup),
        orders,
    )
    test = rows_of(data, "test", setup)
    predictions = predict_all(setup, snapshot_of(state), task_masks, test)
    metrics = scores.score(data, "test", predictions)
    known = {n: m.value for n, m in metrics.items() if m.value is not None}
    return {task: np.asarray(x) for task, x in losses.items()}, known


def search(config: Config, data: Dataset, task: str, given: Mapping[str, Any]) -> dict:
    """A ticket search of one epoch a round from a recorded start.

    Returns:
      `losses`, `masks` and `scores`, one of each round: scores are the trained
      weights by whose size (or whose neurons' size) the next mask was chosen.
    """
    setup = ticket_cache.single_setup(config, data, task)
    mask = ticket_cache.read_by(setup, task)
    keeps = pruning.keep_counts(
        masks.count(mask), config.pruning.final_density, config.pruning.rounds
    )
    train, plan = rows_of(data, "train", setup), make_plan(config, data, setup)
    finder = search_finder.make(config, setup, mask, 0, plan, train)
    found: dict = {"losses": [], "masks": [], "scores": []}
    for number, keep in enumerate(keeps):
        state = _state(setup, given["start"])
        task_masks = {task: mask}
        state, losses = make_epoch(setup)(
            state,
            task_masks,
            make_gates(setup, state.net, task_masks),
            train,
            {kind: jnp.asarray(x) for kind, x in given["orders"].items()},
        )
        keep = min(keep, masks.count(mask))
        mask = finder.prune(snapshot_of(state), mask, keep, number)
        found["losses"].append(np.asarray(losses[task]))
        found["masks"].append(_flat(mask))
        trained = _flat(state.net)
        found["scores"].append({path: trained[path] for path in found["masks"][-1]})
    return found


# The comparison


def compare(name: str) -> list[str]:
    """What differs between a row's recording and the code of today; empty if nothing.

    Raises:
      ValueError: there is no recording of the row.
    """
    path = FOLDER / f"{name}.npz"
    if not path.exists():
        raise ValueError(f"no recording of {name!r}; there are {list(ROWS)}")
    held, data, config = _load(path), read_log(name), tiny(name)
    about, said = json.loads(str(held.pop("about"))), []
    for task, given in _nested(_below(held, "search")).items() if held else ():
        got = search(config, data, task, given)
        was = _below(_below(held, "search"), task)
        for at in range(ROUNDS):
            said += _compare_losses(
                f"search {task}, round {at}",
                got["losses"][at],
                was[f"round{at}/losses"],
            )
            said += _compare_masks(
                f"search {task}, round {at}",
                got["masks"][at],
                _below(was, f"round{at}/mask"),
                _below(was, f"round{at}/scores"),
                config.pruning.unit,
            )
    given = _nested({k: v for k, v in held.items() if not k.startswith("search/")})
    losses, metrics = train(config, data, given)
    for task, column in _below(held, "losses").items():
        said += _compare_losses(f"loss of {task}", losses[task], column)
    for metric, value in about["metrics"].items():
        moved = max(about["moved"][metric], FLOOR)
        if metric not in metrics or not abs(metrics[metric] - value) <= moved:
            said.append(
                f"{metric} is {metrics.get(metric)}, was {value}; an ulp moves it by"
                f" {about['moved'][metric]:.2g}"
            )
    return [f"{name}: {line}" for line in said]


def _compare_losses(what: str, got: np.ndarray, was: np.ndarray) -> list[str]:
    if got.shape != was.shape:
        return [f"{what}: {got.shape} losses, were {was.shape}"]
    apart = np.abs(got - was) / np.maximum(np.abs(was), 1e-3)
    at = int(np.argmax(apart))
    if apart[at] <= LOSS_TOLERANCE:
        return []
    return [f"{what}: step {at} has {got[at]}, had {was[at]}"]


def _compare_masks(what: str, got: Arrays, was: Arrays, scores: Arrays, unit: str):
    if set(got) != set(was):
        return [f"{what}: masks of {sorted(got)}, were of {sorted(was)}"]
    differ = {path: got[path] != was[path] for path in was}
    wrong = sum(int(d.sum()) for d in differ.values())
    if not wrong:
        return []
    if unit == "weight":
        kept = np.concatenate([np.abs(scores[p][was[p]]) for p in was])
        threshold = kept.min()
        near = {
            p: np.abs(np.abs(scores[p]) - threshold) <= SCORE_TOLERANCE * threshold
            for p in was
        }
        wrong = sum(int((differ[p] & ~near[p]).sum()) for p in was)
    return [f"{what}: {wrong} weights differ"] if wrong else []


# Trees and files


def _start_of(state: TrainState) -> dict:
    tables = {stack: np.asarray(table.rows) for stack, table in state.tables.items()}
    return {"net": _flat(jax.device_get(state.net)), "tables": tables}


def _state(setup: Setup, start: Mapping[str, Any]) -> TrainState:
    tables = {k: jnp.asarray(x) for k, x in _flat(start["tables"]).items()}
    net = jax.tree.map(jnp.asarray, _nested(_flat(start["net"])))
    return restart(setup, jax.random.key(SEED), Snapshot(tables, net))


def _mask(setup: Setup, state: TrainState, given: Mapping, task: str) -> Mask | None:
    if not setup.masked:
        return None
    held = _flat(given["masks"][task])
    # The net of the search has no view of another task's own.
    leaf = lambda path, full: jnp.asarray(held.get(masks.path_name(path), full))
    return jax.tree_util.tree_map_with_path(leaf, masks.full(state.net, task))


def _nudged(given: Mapping[str, Any], number: int) -> dict:
    """One initial weight of a kernel moved by one ulp: the middle one, another each."""
    net = {path: np.array(x) for path, x in _flat(given["start"]["net"]).items()}
    kernels = [path for path in net if path.endswith("kernel")]
    flat = net[kernels[number * (len(kernels) - 1) // (ULPS - 1)]].reshape(-1)
    flat[flat.size // 2] = np.nextafter(flat[flat.size // 2], np.float32(np.inf))
    return {**given, "start": given["start"] | {"net": net}}


def _numbered(result: dict) -> dict:
    return {
        f"round{at}": {"losses": losses, "mask": mask, "scores": scores}
        for at, (losses, mask, scores) in enumerate(
            zip(result["losses"], result["masks"], result["scores"], strict=True)
        )
    }


def _flat(tree: Any, prefix: str = "") -> Arrays:
    """Path with slashes -> array; None and empty parts leave nothing."""
    if isinstance(tree, Mapping):
        found: Arrays = {}
        for key, part in tree.items():
            found |= _flat(part, f"{prefix}{key}/")
        return found
    return {} if tree is None else {prefix[:-1]: np.asarray(tree)}


def _nested(arrays: Mapping[str, np.ndarray]) -> dict:
    tree: dict = {}
    for path, value in arrays.items():
        *folders, name = path.split("/")
        at = tree
        for folder in folders:
            at = at.setdefault(folder, {})
        at[name] = value
    return tree


def _below(arrays: Mapping[str, np.ndarray], prefix: str) -> Arrays:
    start = prefix + "/"
    return {k.removeprefix(start): v for k, v in arrays.items() if k.startswith(start)}


def _log_file(name: str) -> Path:
    return FOLDER / f"log-{name.split('.')[0]}.npz"


def _save(path: Path, arrays: Arrays) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)


def _load(path: Path) -> Arrays:
    with np.load(path) as held:
        return {name: held[name] for name in held.files}


def main(argv: list[str]) -> int:
    """`record` or `compare`, of all rows or of those named after it."""
    if not argv or argv[0] not in ("record", "compare"):
        print(__doc__.split("\n\n")[1], file=sys.stderr)
        return 2
    what, names = argv[0], argv[1:] or ROWS
    if what == "record":
        for first in {name.split(".")[0]: name for name in names}.values():
            record_log(first)
        for name in names:
            record(name)
        return 0
    said = [line for name in names for line in compare(name)]
    for line in said:
        print(line)
    print(f"{len(names)} rows compared, {len(said)} differences")
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
