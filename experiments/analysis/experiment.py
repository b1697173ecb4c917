"""An experiment from its options to its table, figures and report."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType

from experiments.analysis import tables
from experiments.analysis.context import Context
from experiments.analysis.figures import own_style
from experiments.analysis.report import reporting
from experiments.running import crew, hosts, joint, stopping
from experiments.running.monitor import Monitor
from experiments.running.workdir import PLACES, claim
from experiments.settings import ablation, fingerprints, sizes, sources
from experiments.settings.ablation import Ablation, Preset
from experiments.settings.config import Config, as_json, paths_of
from experiments.settings.options import Options
from experiments.settings.setup import check_trainable
from experiments.tuning import tuned
from jaxmtl import console, places
from jaxmtl.data.store import Dataset
from jaxmtl.devices import compilations, compile_cache
from jaxmtl.types import Schema


@own_style()
def carry_out(name: str, options: Options, preset: Preset, argv: Sequence[str]) -> None:
    """Trains what is missing of an experiment, writes and prints what came of it.

    Args:
      name: `lt4rec.table2`.
      options: what the command line says.
      preset: that it started from.
      argv: the command line, for those who want to repeat it.

    Raises:
      ValueError: the settings do not fit together, or the log.
    """
    module = ablation.load(name)
    if options.seeds < 1:
        raise ValueError(f"--seeds is {options.seeds}; give 1 or more")

    options.config.check()
    data_config = options.config.data
    folder = f"{name}-{data_config.name}-{preset}" + "-tuned" * bool(options.tuned)
    workdir = options.workdir or Path("runs") / folder
    inputs = inputs_of(options.config) | {"--tuned": options.tuned}
    places.check_folder("--workdir", workdir, inputs)
    places.check_text("--data.cache", data_config.cache)
    hosts.start(options.config.mesh)
    hosts.check_jax()
    chosen = tuned.read(options.tuned) if options.tuned else tuned.NOTHING
    tuned.check_seeds(chosen, range(options.seeds))
    lent = getattr(module, "TUNED_AS", {})
    chosen = tuned.lend(chosen, {short_name(r): short_name(o) for r, o in lent.items()})
    before = compilations.total()
    if options.compile_cache:
        compile_cache.use(data_config.cache, _say)
    data = sources.load(data_config, say=_say)

    def configure(row: ModuleType) -> Ablation:
        settings = chosen.settings(short_name(row))
        return configure_row(module, row, options.config, data.schema, settings)

    ablations = [configure(row) for row in getattr(module, "ROWS", (module,))]
    tuned.check_rows(chosen, ablations)
    for line in tuned.describe(chosen, ablations):
        _say(line)
    for row in ablations:
        check_trainable(row.config, data)
        if row.config.training.init_from is not None:
            for seed in range(options.seeds):
                joint.find_checkpoint(row.config.training.init_from, seed)
    together = crew.choose(
        options.together,
        options.processes,
        trainings=len(ablations) * options.seeds,
        examples=options.seeds * sum(sizes.examples(r.config, data) for r in ablations),
        devices=options.config.mesh.devices,
    )
    described = _describe(name, options.config, ablations, data)
    claimed = hosts.claimed(
        workdir, lambda: claim(workdir, described, options.config.resume)
    )
    with claimed as workdir, stopping.on_signals():
        for row in ablations:
            _say(f"{row.module}: {sizes.describe(row.config, data)}")
        monitor = Monitor(workdir, range(options.seeds))
        hands = crew.Crew(workdir, monitor, *together)
        context = Context(
            name=name,
            rows=ablations,
            configure=configure,
            seeds=range(options.seeds),
            data=data,
            crew=hands,
            command=console.as_typed(["python", "-m", "experiments.run", *argv]),
            layout=ablation.layout(name).fitted(data.schema),
            tuned=tuned.record(chosen, ablations),
        )
        with contextlib.closing(monitor), contextlib.closing(hands):
            text = getattr(module, "run", tables.write)(context)
            if options.report:  # before anything can happen to what is printed
                reporting.write(context, text)
            print(text)
            if options.report:
                print(f"the report: {workdir / 'report.html'}")
        needed = compilations.total() - before + monitor.programs
        _say(needed.describe())


def short_name(module: ModuleType) -> str:
    """`lt4rec.s_weight`, as the command line and a table call a module."""
    return module.__name__.removeprefix("experiments.")


def inputs_of(config: Config) -> dict[str, Path | None]:
    """Option -> what a run reads from where the user keeps it."""
    return {
        "--data.path": config.data.path,
        "--data.schema": config.data.schema,
        "--init-from": config.training.init_from,
    }


def configure_row(
    module: ModuleType,
    row: ModuleType,
    config: Config,
    schema: Schema,
    settings: Mapping[str, tuned.Value],
) -> Ablation:
    """A row as it is trained.

    Args:
      module: the experiment it is trained in, itself or a study.
      row: the row's module.
      config: what the command line says.
      schema: of the log, which may decide sizes.
      settings: its tuned ones, by dotted name.

    Raises:
      ValueError: no run could use a value.
    """
    if row is not module:  # a row alone leaves the command line the last word
        config = row.configure(config)
    config = tuned.tuned_config(config, settings)
    if hasattr(row, "resize"):
        config = row.resize(config, schema)
    config.check()
    return Ablation(short_name(row), row.ROW, config)


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _describe(
    name: str, config: Config, ablations: Sequence[Ablation], data: Dataset
) -> dict:
    """What `config.json` holds; the rows differ in everything but their data.

    Also what computes, and where things lie, which is not compared; of rows that start
    from an earlier run what that was, since its path may come to hold another.
    """
    rows = {row.module: as_json(row.config) for row in ablations}
    for settings in rows.values():
        del settings["data"]
    source = as_json(config)["data"] | {"fingerprint": data.fingerprint}
    starts = {row.module: row.config.training.init_from for row in ablations}
    known = {m: joint.started_from(run) for m, run in starts.items() if run is not None}
    described = {
        "name": name,
        "data": source,
        "rows": rows,
        "software": fingerprints.software(
            config, *(row.config for row in ablations), judged=True
        ),
        PLACES: paths_of(config),
    }
    return described | ({"started_from": known} if known else {})
