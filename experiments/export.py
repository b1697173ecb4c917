"""Writes a trained row as a folder that scores raw rows.

    python -m experiments.export RUN --out DIR
    python -m jaxmtl.score DIR rows.csv --out scores.csv

RUN is the work directory of a run of one row, or the folder of a row in it
(`RUN/rows/lt4rec.s_weight`). Before DIR is left it scores the whole test split and is
compared with the predictions that the training kept: the folder serves the numbers of
the table.

Rows of your own log are raw: DIR/schema.json holds the vocabularies. No other source
keeps them, so there a row's values are the ids of the prepared log (an id that it has
not is unknown, the numbers are scaled already), and DIR/sample.csv shows some.
"""

from __future__ import annotations

import csv
import dataclasses
import shutil
import sys
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from experiments.running import joint, progress
from experiments.running.joint import find_checkpoint, setup_of
from experiments.running.workdir import CONFIG, PLACES, read_json
from experiments.settings import sources
from experiments.settings.config import Config, DataConfig
from jaxmtl import console, places
from jaxmtl.data.encoding import SEPARATOR, Encoding, prepared
from jaxmtl.data.sources.own_log.encoding import read_encoding
from jaxmtl.data.store import Dataset
from jaxmtl.devices import compile_cache, distributed
from jaxmtl.serving import bundle, scoring
from jaxmtl.serving.export import PLATFORMS, check_new, export
from jaxmtl.serving.to_onnx import find_converter, to_onnx
from jaxmtl.training.spec import Setup
from jaxmtl.training.train_state import Snapshot
from jaxmtl.types import PADDING, Mask

TOLERANCE = 1e-4
"""Of a prediction: what rounding in another order may change."""
SAMPLE_ROWS = 1000


@dataclasses.dataclass(frozen=True)
class Options:
    """What to export.

    Attributes:
      run: work directory of a run of one row, or a row's folder in it.
      out: the folder to write; new, or empty.
      seed: whose training.
      log: file or folder of the log, if it no longer lies where it was.
      schema: likewise, the file that describes it.
      cache: folder of prepared data sets.
      platforms: that the programs can be run on.
      onnx: whether to write model.onnx too, for servers that run no JAX.
      compile_cache: whether compiled programs are kept in --cache and found again.
    """

    run: tyro.conf.Positional[Path]
    out: Path
    seed: int = 0
    log: Path | None = None
    schema: Path | None = None
    cache: Path = dataclasses.field(default_factory=places.default_cache)
    platforms: tuple[str, ...] = PLATFORMS
    onnx: bool = False
    compile_cache: bool = True


class Trained(typing.NamedTuple):
    """A finished row, read from its work directory."""

    config: Config
    data: Dataset
    setup: Setup
    snapshot: Snapshot
    masks: dict[str, Mask]
    predictions: dict[str, np.ndarray]


def read(options: Options) -> Trained:
    """What a row of a run learned with one seed.

    Raises:
      ValueError: there is no such row or seed, the run is of another version of this
        code, its log has changed since, or its files are damaged.
    """
    row = find_checkpoint(options.run, options.seed, "RUN").parent.parent
    path = row.parent.parent / CONFIG
    held = read_json(path)
    try:
        config = config_from_json(held["data"], held["rows"][row.name], options.cache)
        fingerprint = held["data"]["fingerprint"]
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: does not say how {row.name} was trained ({error!r}); give the"
            " work directory of a run of that row"
        ) from error
    if PLACES not in held:
        raise ValueError(
            f"{path} is of an earlier version, which told logs apart in another way;"
            " export with the version that trained, or train again"
        )
    config = dataclasses.replace(config, data=_found(config.data, held, options))
    check_log(config.data, fingerprint)
    # Training judged the log, and its settings do not tell which leaks it allowed.
    data = sources.load(config.data, say=lambda text: None, check_leaks=False)
    return restore(row, options.seed, config, data)


def check_log(config: DataConfig, fingerprint: str) -> None:
    """Raises ValueError where a log is not, or no longer, that of a fingerprint."""
    if sources.fingerprint(config) != fingerprint:
        files = [str(p) for p in (config.path, config.schema) if p is not None]
        raise ValueError(
            f"the log is not the one that was trained on: {' or '.join(files)} holds"
            " something else than then. Put back what was there, give where it lies"
            " with --log and --schema, or train again"
        )


def _found(config: DataConfig, held: dict, options: Options) -> DataConfig:
    """The log where it was, or where it is said to be now."""
    was = held[PLACES]
    given = {"path": ("--log", options.log), "schema": ("--schema", options.schema)}
    found = {}
    for name, (option, place) in given.items():
        kept = was.get(f"data.{name}")
        if place is None and kept is not None and not Path(kept).exists():
            raise ValueError(
                f"{kept}, which was trained on, is no longer there; give where it lies"
                f" now with {option}"
            )
        found[name] = place if place is not None else kept and Path(kept)
    return dataclasses.replace(config, **found)


def restore(row: Path, seed: int, config: Config, data: Dataset) -> Trained:
    """What a row learned with one seed, from its folder in a work directory.

    Raises:
      ValueError: its files are missing or damaged.
    """
    folder = row / f"seed{seed}"
    setup = setup_of(config, data)
    snapshot, masks = joint.restore(folder, setup)
    predictions = joint.read_predictions(folder)
    return Trained(config, data, setup, snapshot, masks, predictions)


def config_from_json(data: dict, row: dict, cache: Path) -> Config:
    """The configuration of a row, from what `config.json` holds of it.

    Raises:
      ValueError: it holds a setting that this version has not; names it.
    """
    source = {key: value for key, value in data.items() if key != "fingerprint"}
    config = _build(Config, row)
    loaded = dataclasses.replace(_build(DataConfig, source), cache=cache)
    return dataclasses.replace(config, data=loaded)


def _build(kind: type, raw: dict[str, Any], at: str = "") -> Any:
    hints = typing.get_type_hints(kind)
    unknown = sorted(set(raw) - set(hints))
    if unknown:
        raise ValueError(
            f"config.json holds {at}{unknown[0]}, which this version of the code does"
            " not know: export with the version that trained, or train again"
        )

    def value(name: str, given: Any) -> Any:
        hint = hints[name]
        if dataclasses.is_dataclass(hint):
            return _build(hint, given, f"{at}{name}.")
        if isinstance(given, list):
            return tuple(given)
        is_path = Path in (hint, *typing.get_args(hint))
        return Path(given) if is_path and given is not None else given

    return kind(**{name: value(name, given) for name, given in raw.items()})


def encoding_of(trained: Trained) -> Encoding:
    """How raw rows of a row's log are encoded."""
    source, schema = trained.config.data, trained.setup.schema
    if source.name == "own_log":
        encoding = read_encoding(source.path, source.schema, schema)
        check_log(source, trained.data.fingerprint)  # still, after it was read
        return encoding
    return prepared(schema)


def check(found: dict[str, np.ndarray], trained: Trained) -> float:
    """The largest difference between exported scores of the test and the run's.

    Raises:
      ValueError: it is more than rounding explains.
    """
    differences = []
    for name, kept in trained.predictions.items():
        if name not in found or found[name].shape != kept.shape:
            raise ValueError(
                f"the run predicted {name!r} for {len(kept):,} rows of the test, and"
                " the exported folder does not: the log has changed since the training"
            )
        differences.append(np.max(np.abs(found[name] - kept), initial=0))
    worst = float(np.max(differences))  # NaN, if any is
    if not worst <= TOLERANCE:
        raise ValueError(
            f"the exported folder's predictions of the test differ from the run's by up"
            f" to {worst:.2g}: the log or the code has changed since the training;"
            " train again"
        )
    return worst


def test_of(trained: Trained) -> tuple[np.ndarray, np.ndarray]:
    """Ids and numbers of the test split."""
    rows = trained.data.splits["test"]
    return np.asarray(rows.ids), np.asarray(rows.numeric)


def write_onnx(path: Path, trained: Trained) -> float:
    """Writes a row as ONNX; the largest difference of its scores from the run's.

    Raises:
      ValueError: it cannot be converted or run, or its scores differ.
    """
    setup, masked = trained.setup, trained.setup.masked
    marks = {task: trained.masks[task] if masked else None for task in setup.tasks}
    snapshot = trained.snapshot
    held = bundle.Bundle(snapshot.net, marks, dict(snapshot.tables))
    path.write_bytes(to_onnx(setup, held, setup.tasks))
    try:
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        given = dict(zip(("ids", "numeric"), test_of(trained), strict=True))
        names = [node.name for node in session.get_outputs()]
        found = dict(zip(names, session.run(names, given), strict=True))
    except Exception as error:  # ONNX Runtime's errors share no class of their own
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"ONNX Runtime cannot run the converted net: {reason}"
        ) from error
    return check(found, trained)


def write_sample(path: Path, data: Dataset) -> None:
    """The first rows of the test as a CSV of prepared ids and numbers."""
    schema, rows = data.schema, data.splits["test"]
    rows = rows._replace(
        ids=rows.ids[:SAMPLE_ROWS].tolist(), numeric=rows.numeric[:SAMPLE_ROWS].tolist()
    )
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*(field.name for field in schema.fields), *schema.numeric])
        for ids, numeric in zip(rows.ids, rows.numeric, strict=True):
            cells, at = [], 0
            for field in schema.fields:
                slots = [i for i in ids[at : at + field.slots] if i != PADDING]
                cells.append(SEPARATOR.join(map(str, slots)))
                at += field.slots
            writer.writerow([*cells, *numeric])


def main(argv: Sequence[str] | None = None) -> int:
    """Exports what the command line says; returns the exit code."""
    options = tyro.cli(Options, prog="python -m experiments.export", args=argv)
    try:
        text = run(options)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(text)
    return 0


def run(options: Options) -> str:
    """Exports and checks; returns what there is to say."""
    if not options.platforms or not set(options.platforms) <= set(PLATFORMS):
        raise ValueError(
            f"--platforms {' '.join(options.platforms) or 'names none'}: give some of"
            f" {', '.join(PLATFORMS)}"
        )
    check_new(options.out)
    places.check_folder("--out", options.out, {})
    if options.onnx:
        find_converter()
    distributed.check_devices()
    if options.compile_cache:
        compile_cache.use(options.cache, progress.say)
    trained = read(options)
    encoding = encoding_of(trained)
    made = (trained.setup, trained.snapshot, trained.masks, encoding)
    export(options.out, *made, platforms=options.platforms)
    try:
        worst = check(scoring.load(options.out).predict(*test_of(trained)), trained)
        if options.onnx:
            worst = max(worst, write_onnx(options.out / "model.onnx", trained))
    except ValueError:
        shutil.rmtree(options.out)
        raise
    if encoding.texts is None:
        write_sample(options.out / "sample.csv", trained.data)
    bundle.seal(options.out)
    sizes = {path.name: path.stat().st_size for path in sorted(options.out.iterdir())}
    (program, *_) = scoring.read_programs(options.out)
    dead = [
        field.name
        for field in trained.setup.schema.fields
        if field.name not in program.fields
    ]
    rows = trained.data.splits["test"].num_rows
    return "\n".join(
        [
            f"{options.out}: tasks {', '.join(trained.setup.tasks)}",
            *(f"  {name:<14} {size:>12,} bytes" for name, size in sizes.items()),
            f"  of the net with its masks: {net_bytes(options.out):,} bytes",
            *([f"  fields that no task reads: {', '.join(dead)}"] if dead else []),
            f"the {rows:,} rows of the test score as in the run, to {worst:.1e}",
        ]
    )


def net_bytes(folder: Path) -> int:
    """Of an exported folder: its net's values and masks, without the tables."""
    names = (bundle.VALUES, bundle.MASKS, bundle.NET)
    return sum((folder / name).stat().st_size for name in names)


if __name__ == "__main__":
    sys.exit(console.run(main))
