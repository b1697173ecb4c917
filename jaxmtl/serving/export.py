"""A trained state as a folder that `serving` scores raw rows with.

Programs are compiled for nothing in particular: `jax.export` writes them as StableHLO
for CPU, CUDA and TPU, and for any number of rows. They hold no weights; those stand
once in the bundle, which all programs of the folder read. There is a program for all
tasks together and one for each alone.

Masked tasks of a `shared_trunk` are served as small dense chains (`compact`): the
fields that no kept weight depends on are not even looked up. Masked tasks of other
architectures are served as their masked nets, and nets without masks as they are.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from jaxmtl.data.encoding import Encoding
from jaxmtl.layers.crossing import feature_layer
from jaxmtl.models import SharedTrunk
from jaxmtl.serving import bundle, compact
from jaxmtl.serving.bundle import Bundle
from jaxmtl.serving.compact import Chain, Layer
from jaxmtl.serving.scoring import PROGRAMS, SCHEMA, Kind, Program, read_net
from jaxmtl.tables import embedding
from jaxmtl.training import outputs
from jaxmtl.training.spec import SHARED, Setup
from jaxmtl.training.train_state import Snapshot, features_like, features_of
from jaxmtl.types import Array, Features, Mask, Params, Rows

PLATFORMS = ("cpu", "cuda", "tpu")


def export(
    folder: str | Path,
    setup: Setup,
    snapshot: Snapshot,
    task_masks: Mapping[str, Mask | None],
    encoding: Encoding,
    *,
    platforms: Sequence[str] = PLATFORMS,
) -> None:
    """Writes a folder, whole or not at all.

    Args:
      folder: new, or empty.
      setup: of the training.
      snapshot: what it learned.
      task_masks: task -> its mask; ignored where the setup has none.
      encoding: of raw rows, for the setup's schema.
      platforms: that the programs can be run on.

    Raises:
      ValueError: the folder holds something, or the encoding is of another schema.
    """
    folder = Path(folder)
    check_new(folder)
    if encoding.schema != setup.schema:
        raise ValueError(
            f"the encoding is of schema {encoding.schema.name} and the training of"
            f" {setup.schema.name}, or they differ in what they hold; make the"
            " encoding of the schema that was trained on"
        )
    seen = {task: task_masks[task] if setup.masked else None for task in setup.tasks}
    held = Bundle(snapshot.net, seen, dict(snapshot.tables))
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".export") as temporary:
        # One level down: a temporary folder can be read by its owner alone.
        work = Path(temporary) / folder.name
        work.mkdir()
        bundle.write(work, held)
        (work / SCHEMA).write_text(encoding.to_json(), encoding="utf-8")
        listed = _write_programs(work, setup, held, platforms)
        text = json.dumps({"platforms": list(platforms), "programs": listed}, indent=1)
        (work / PROGRAMS).write_text(text, encoding="utf-8")
        bundle.seal(work)
        os.replace(work, folder)


def check_new(folder: Path) -> None:
    """Raises ValueError where a folder to write is there and holds something."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is there already; give another, or an empty one")


def kind_of(setup: Setup) -> Kind:
    """What the programs of a setup read of its bundle."""
    if not setup.masked:
        return "net"
    return "chains" if isinstance(setup.architecture, SharedTrunk) else "subnets"


def fields_read(setup: Setup, held: Bundle, task: str) -> np.ndarray:
    """bool [fields]: which shared embeddings a task's small chain depends on."""
    layer, shared = feature_layer(setup.crossing), held.net["shared"]
    depends = compact.dependence(
        lambda features: layer.apply(shared, features), features_like(setup.spec.net)
    )
    chain = compact.compact(compact.layers_of(held.seen(task), task))
    # Beyond the shared vector stands the task's own view, of other tables.
    return depends[:, chain.inputs[chain.inputs < depends.shape[1]]].any(axis=1)


def input_vector(setup: Setup, shared: Params, features: Features, task: str) -> Array:
    """What enters the chain of a task: the crossed features, then its own view."""
    layer = feature_layer(setup.crossing)
    vector = layer.apply(shared, features)
    if task not in features.own:
        return vector
    own = Features(features.own[task], {}, features.numeric[:, :0])
    return jnp.concatenate([vector, layer.apply({}, own)], axis=1)


def make_program(
    setup: Setup, kind: Kind, tasks: Sequence[str], read: np.ndarray
) -> Callable[..., dict[str, Array]]:
    """program(tables, net, ids, numeric) -> name -> predictions [n], to be jitted.

    Args:
      setup: of the training.
      kind: what `net` is (`serving.read_net`).
      tasks: to predict.
      read: bool [fields], which shared embeddings are looked up.
    """
    make = {"net": _net_logits, "subnets": _subnet_logits, "chains": _chain_logits}
    logits_of = outputs.in_precision(setup.spec.output, make[kind](setup, tasks))

    def one(tables, net, ids, numeric):
        features = look_up(setup, read, tables, ids[None], numeric[None])
        logits = logits_of(net, features)
        found = outputs.predictions(
            setup.schema, setup.spec.output, setup.numbers, logits
        )
        return {name: column[0] for name, column in found.items()}

    # A row at a time, mapped: layers ask for the length of their batch, and a batch
    # of any length has none. The compiled products are those of the whole batch.
    return jax.vmap(one, in_axes=(None, None, 0, 0))


def look_up(setup: Setup, read: np.ndarray, tables, ids, numeric) -> Features:
    """What a model sees of encoded rows; zeros for fields that are not read."""
    stacked = embedding.stacked_ids(setup.schema, ids)
    slots = np.repeat(read, [field.slots for field in setup.schema.fields])
    kept = np.flatnonzero(slots)

    def gather(stack: str) -> Array:
        rows = tables[stack]
        if stack != SHARED or slots.all():
            return embedding.gather(rows, stacked)
        none = jnp.zeros((*ids.shape, rows.shape[1]), rows.dtype)
        return none.at[:, kept].set(embedding.gather(rows, stacked[:, kept]))

    gathered = {stack: gather(stack) for stack in tables}
    return features_of(setup.spec.net, gathered, Rows(ids, numeric, {}, {}, {}))


def _net_logits(setup: Setup, tasks: Sequence[str]):
    def logits(net, features):
        found = setup.model.apply(net["net"], features).logits
        return {task: found[task] for task in tasks}

    return logits


def _subnet_logits(setup: Setup, tasks: Sequence[str]):
    def logits(nets, features):
        apply = setup.model.apply
        return {task: apply(nets[task], features).logits[task] for task in tasks}

    return logits


def _chain_logits(setup: Setup, tasks: Sequence[str]):
    def logits(net, features):
        found = {}
        for task in tasks:
            chain = net["chains"][task]
            layers = tuple(Layer(*part) for part in chain["layers"])
            vector = input_vector(setup, net["shared"], features, task)
            found[task] = compact.apply(Chain(chain["inputs"], layers), vector)
        return found

    return logits


def _write_programs(
    folder: Path, setup: Setup, held: Bundle, platforms: Sequence[str]
) -> list[dict]:
    """A program for all tasks, and for each where there are several."""
    kind, fields = kind_of(setup), [field.name for field in setup.schema.fields]
    every = np.ones(len(fields), bool)
    reads = dict.fromkeys(setup.tasks, every)
    if kind == "chains":
        reads = {task: fields_read(setup, held, task) for task in setup.tasks}
    alone = [(task,) for task in setup.tasks] if len(setup.tasks) > 1 else []
    listed = []
    for number, tasks in enumerate([setup.tasks, *alone]):
        read = np.logical_or.reduce([reads[task] for task in tasks])
        program = jax.jit(make_program(setup, kind, tasks, read))
        net = read_net(held, kind, tasks)
        file = f"program{number}.jax"
        (folder / file).write_bytes(_serialise(program, setup, held, net, platforms))
        used = tuple(
            name for name, is_read in zip(fields, read, strict=True) if is_read
        )
        listed.append(Program(file, tuple(tasks), kind, used)._asdict())
    return listed


def _serialise(program, setup: Setup, held: Bundle, net, platforms) -> bytearray:
    (rows,) = jax.export.symbolic_shape("rows")
    like = lambda tree: jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree
    )
    ids = jax.ShapeDtypeStruct((rows, setup.schema.slots), jnp.int32)
    numeric = jax.ShapeDtypeStruct((rows, len(setup.schema.numeric)), jnp.float32)
    exported = jax.export.export(program, platforms=tuple(platforms))(
        like(held.tables), like(net), ids, numeric
    )
    return exported.serialize()
