"""What the program writes itself and reads again, perhaps from a stranger's hands.

Checksums find every accident. So most inputs here are sealed anew after the change:
what is tested is what stands behind the checksum.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path

import jax
import numpy as np
import pyarrow as pa

from experiments.running import workdir
from experiments.tuning import tuned
from jaxmtl import sealed
from jaxmtl.data import store
from jaxmtl.data.encoding import Encoding, Scale
from jaxmtl.data.sources import criteo_uplift
from jaxmtl.data.store.checks import check_rows
from jaxmtl.layers.crossing import Crossing
from jaxmtl.models.shared_trunk import SharedTrunk
from jaxmtl.serving import bundle, export, scoring
from jaxmtl.sparsity import masks
from jaxmtl.training import checkpoint, resume, spec
from jaxmtl.training.fit import EpochRecord, Progress
from jaxmtl.training.train_state import Snapshot, TrainState, make_init, snapshot_of
from jaxmtl.types import Field, Schema, Task, Vocabulary
from qa.fuzz.logs import write_criteo
from qa.fuzz.readers import Reader, WrongResult

SCHEMA = Schema(
    name="tiny",
    fields=(Field("user", "user"), Field("item", "item"), Field("tags", "tag", 2)),
    vocabularies=(Vocabulary("user", 4), Vocabulary("item", 4), Vocabulary("tag", 3)),
    tasks=(Task("click"), Task("order", space="click")),
    ctr="click",
    cvr="order",
    user="user",
    item="item",
    numeric=("hour",),
)
SETUP = spec.make_setup(
    schema=SCHEMA,
    tasks=("click", "order"),
    architecture=SharedTrunk((4, 3)),
    crossing=Crossing("none"),
    dim=2,
    learning_rate=0.01,
    task_losses={"click": "log", "order": "log"},
)
ENCODING = Encoding(
    SCHEMA,
    {
        name: pa.array(list("abc")[: n - 1])
        for name, n in (("user", 4), ("item", 4), ("tag", 3))
    },
    {"tags": "|"},
    {"hour": Scale(11.5, 6.9)},
)
ROWS = {"user": ["a", "x"], "item": ["b", ""], "tags": ["a|b", ""], "hour": ["7", "0"]}
CONFIG = {"name": "lt4rec.s_weight", "data": {"path": None, "days": 4}, "rows": {}}


@cache
def _state() -> TrainState:
    return make_init(SETUP)(jax.random.key(0))


def _masks(net) -> dict:
    rng = np.random.default_rng(0)
    draw = lambda mask: rng.random(mask.shape) < 0.7
    return {task: jax.tree.map(draw, masks.full(net, task)) for task in SETUP.tasks}


def _write_prepared(folder: Path) -> None:
    (folder / "source").mkdir()
    write_criteo(folder / "source")
    log = criteo_uplift.read(folder / "source")
    store.prepare("tiny", {}, lambda: log, folder, say=lambda text: None)
    for file in [*folder.glob("source/*"), *folder.glob("tiny-*/tfds/**/*")]:
        if file.is_file():
            file.unlink()
    (made,) = folder.glob("tiny-*")
    made.rename(folder / "set")


def _read_prepared(folder: Path) -> None:
    data = store.open_columns(folder / "set", "fingerprint")
    for split, rows in data.splits.items():
        # Values are not verified on opening, which costs nothing and reads nothing.
        if rows.ids.shape != (rows.num_rows, data.schema.slots):
            raise WrongResult(f"{split}: ids of shape {rows.ids.shape}")


def _write_source(folder: Path) -> None:
    write_criteo(folder)


def _prepare(folder: Path) -> None:
    """A preparation ends with a whole set or with nothing."""
    cache_folder = folder / "cache"
    read = lambda: criteo_uplift.read(folder)
    said: list[str] = []
    try:
        data = store.prepare("tiny", {}, read, cache_folder, say=said.append)
    except (ValueError, OSError):
        if left := list(cache_folder.glob("*")):
            raise WrongResult(f"refused, but {left} was left") from None
        raise
    for split, rows in data.splits.items():
        check_rows(data.schema, rows, split)
    kept = sum(rows.num_rows for rows in data.splits.values())
    if data.counts["kept"] != kept or not any(f"kept {kept}" in text for text in said):
        raise WrongResult(f"{kept} rows, counts {data.counts}, said {said}")


def _write_workdir(folder: Path) -> None:
    workdir.write_json(folder / "seed.json", {"metrics": {"auc": 0.7}, "seed": 0})
    arrays = {"a": np.arange(6.0, dtype=np.float32), "b": np.array([True, False])}
    workdir.write_arrays(folder / "predictions.npz", arrays)


def _read_workdir(folder: Path) -> None:
    workdir.read_json(folder / "seed.json")
    for name, array in workdir.read_arrays(folder / "predictions.npz").items():
        if array.dtype.hasobject:
            raise WrongResult(f"{name} holds objects")


def _write_config(folder: Path) -> None:
    workdir.write_json(folder / workdir.CONFIG, CONFIG)


def _read_config(folder: Path) -> None:
    """Only what says the same may be taken for the same configuration."""
    with workdir.claim(folder, CONFIG):
        held = json.loads((folder / workdir.CONFIG).read_text(encoding="utf-8"))
        if held != CONFIG:
            raise WrongResult(f"{held} was taken for {CONFIG}")


def _write_tuned(folder: Path) -> None:
    settings = {"optimiser.learning_rate": 0.003, "training.batch_size": 512}
    content = {
        "budget": {"trials": 4, "seeds": [100, 101], "anchors": ["", "--seeds 1"]},
        "space": {"optimiser.learning_rate": [0.001, 0.003]},
        "rows": {"lt4rec.s_weight": {"settings": settings}},
    }
    workdir.write_json(folder / "tuned.json", content)


def _read_tuned(folder: Path) -> None:
    chosen = tuned.read(folder / "tuned.json")
    tuned.check_seeds(chosen, range(3))
    tuned.note({"budget": dict(chosen.budget), "rows": chosen.rows})


def _write_sealed(folder: Path) -> None:
    state = _state()
    record = EpochRecord(1, {"click": 0.5}, {"click": 0.1}, {"click": 0.7})
    best = snapshot_of(state)
    losses = {"click": np.ones(2, np.float32)}
    kept = resume.Folder(folder / "progress", SETUP, every=0)
    kept.save(Progress(state, best, losses, (record,)))
    kept.wait()


def _read_progress(folder: Path) -> None:
    said: list[str] = []
    kept = resume.Folder(folder / "progress", SETUP, say=said.append)
    progress = kept.restore()
    if progress is None:
        # Refused as it says, and said so; a training then begins anew.
        raise ValueError(f"{folder}: {'; '.join(said)}")


def _seal_progress(folder: Path) -> None:
    for arrays in folder.rglob(sealed.ARRAYS):
        digest = hashlib.sha256(arrays.read_bytes()).hexdigest()
        (arrays.parent / sealed.SEAL).write_text(json.dumps({sealed.ARRAYS: digest}))


def _write_checkpoint(folder: Path) -> None:
    snapshot = snapshot_of(_state())
    checkpoint.save(folder / "checkpoint", snapshot, _masks(snapshot.net))


def _read_checkpoint(folder: Path) -> None:
    snapshot, _ = checkpoint.restore(folder / "checkpoint", SETUP)
    for a, b in zip(
        jax.tree.leaves(snapshot), jax.tree.leaves(snapshot_of(_state())), strict=True
    ):
        if not np.array_equal(a, b):
            raise WrongResult("restored arrays differ from those saved")


def _write_bundle(folder: Path) -> None:
    snapshot: Snapshot = snapshot_of(_state())
    tables = {name: np.asarray(rows) for name, rows in snapshot.tables.items()}
    net = jax.tree.map(np.asarray, snapshot.net)
    bundle.write(folder, bundle.Bundle(net, _masks(net), tables))
    bundle.seal(folder)


def _read_bundle(folder: Path) -> None:
    bundle.verify(folder)
    held = bundle.read(folder)
    for task in held.masks:
        held.seen(task)


def _seal_bundle(folder: Path) -> None:
    if (folder / bundle.MANIFEST).exists():
        bundle.seal(folder)


def _write_export(folder: Path) -> None:
    snapshot = snapshot_of(_state())
    export.export(folder / "out", SETUP, snapshot, _masks(snapshot.net), ENCODING)


def _read_export(folder: Path) -> None:
    scorer = scoring.load(folder / "out")
    rows = {name: pa.array(column) for name, column in ROWS.items()}
    columns = scorer.encoding.columns
    found = scorer.score({name: rows.get(name, rows["user"]) for name in columns})
    for name, predicted in found.items():
        if predicted.shape != (2,):
            raise WrongResult(f"{name} has shape {predicted.shape}")


def _write_encoding(folder: Path) -> None:
    (folder / "schema.json").write_text(ENCODING.to_json())


def _read_encoding(folder: Path) -> None:
    path = folder / "schema.json"
    encoding = scoring.read_encoding(path)
    rows = {name: pa.array(column) for name, column in ROWS.items()}
    if all(name in rows for name in encoding.columns):
        ids, numeric = _encoded(path, encoding, rows)
        sizes = {v.name: v.size for v in encoding.schema.vocabularies}
        widths = [f.slots for f in encoding.schema.fields]
        limits = [sizes[f.vocabulary] for f in encoding.schema.fields]
        if (ids < -1).any() or (ids >= np.repeat(limits, widths)).any():
            raise WrongResult(f"ids {ids} outside their vocabularies {limits}")
        if not np.isfinite(numeric).all():
            raise WrongResult(f"numbers {numeric}")


def _encoded(path: Path, encoding: Encoding, rows):
    try:
        return encoding.encode(rows)
    except ValueError as error:  # of the rows, which name no file
        raise ValueError(f"rows do not fit {path.name}: {error}") from error


READERS: dict[str, Reader] = {
    "prepared_columns": Reader(_write_prepared, _read_prepared),
    "prepare": Reader(_write_source, _prepare),
    "workdir": Reader(_write_workdir, _read_workdir),
    "config": Reader(_write_config, _read_config),
    "tuned": Reader(_write_tuned, _read_tuned),
    "schema": Reader(_write_encoding, _read_encoding),
    "progress": Reader(_write_sealed, _read_progress, _seal_progress),
    "checkpoint": Reader(_write_checkpoint, _read_checkpoint),
    "bundle": Reader(_write_bundle, _read_bundle, _seal_bundle),
    "export": Reader(
        _write_export, _read_export, lambda folder: _seal_bundle(folder / "out")
    ),
}
"""Name -> a reader of what the program wrote."""
