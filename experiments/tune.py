"""Fair tuning: the same small budget for every row, judged on validation alone.

python -m experiments.tune lt4rec.table2 --trials 8 --out tuned.json \\
    --anchors '--data.feed.conflict 0.25' '--data.feed.conflict 0.75'
python -m experiments.run lt4rec.table2 --tuned tuned.json

What is tried stands in `experiments.tuning.search_space`. A trial's objective is the
mean over anchors and tuning seeds of the regret on validation, itself a mean over the
row's tasks, of the one snapshot that would be served. The test split is never read, and
no tuning seed is ever reported. A study that judges more of its log than the test says
by a function `tuned_on` which part of the log may be seen. Finished trainings are kept
in the work directory, so that a repeated command goes on; Optuna's dashboard opens its
`optuna.journal`.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, get_args

import tyro

from experiments.analysis import experiment
from experiments.analysis.report.rendering import grid
from experiments.analysis.table import describe_environment
from experiments.running import crew, hosts, joint, stopping
from experiments.running.monitor import Monitor
from experiments.running.workdir import claim, write_json
from experiments.settings import ablation, fingerprints, sizes, sources
from experiments.settings.ablation import Ablation, Preset
from experiments.settings.config import Config, DataConfig, How, as_json
from experiments.settings.options import starting_config
from experiments.settings.setup import check_trainable, not_applicable
from experiments.tuning import search_space, training, trials
from experiments.tuning.search_space import SearchSpace
from experiments.tuning.trials import Job, Store, Trial
from experiments.tuning.tuned import Settings
from jaxmtl import console, places
from jaxmtl.data.store import Dataset
from jaxmtl.devices import compilations, compile_cache
from jaxmtl.training.resume import Stopped

FIRST_SEED = 1000
"""Of tuning; the reported ones count from 0."""


@dataclasses.dataclass(frozen=True)
class Options:
    """What all rows start from, as in `experiments.run`, and what is searched.

    Attributes:
      config: the experiment.
      search: the ranges.
      together: whether trainings go on `in_turn`, in several `processes`, or those
        that fit one program in one `program`, as trials of a row do; `auto` takes
        processes on a CPU and the program on an accelerator.
      processes: how many; 0 = one for each core, at most 8.
      compile_cache: whether compiled programs are kept in --data.cache and found
        again, by later commands too.
    """

    config: Annotated[Config, tyro.conf.arg(name="")]
    search: SearchSpace = SearchSpace()
    together: How = "auto"
    processes: int = 0
    compile_cache: bool = True


def main(argv: Sequence[str] | None = None) -> int:
    """Tunes what the command line says; returns the exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    known, rest = _parser().parse_known_args(argv)
    command = console.as_typed(["python", "-m", "experiments.tune", *argv])
    try:
        print(_tune(known, rest, command))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Stopped:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return stopping.EXIT_CODE
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.tune",
        usage="%(prog)s NAME [NAME …] [options] [settings]",
        description="Tunes rows on validation, all with the same budget.",
        epilog="Settings are those of experiments.run, and the ranges searched, such as"
        " --search.learning-rate 1e-3 1e-2 (also weight-decay, final-density).",
        allow_abbrev=False,
    )
    parser.add_argument("names", nargs="+", metavar="NAME", help="studies or rows")
    parser.add_argument("--preset", choices=get_args(Preset), default="demo")
    parser.add_argument("--trials", type=int, default=8, help="of each row")
    parser.add_argument(
        "--seeds", type=int, default=1, help=f"of a trial, from {FIRST_SEED} on"
    )
    parser.add_argument(
        "--anchors",
        nargs="+",
        default=[""],
        metavar="'SETTINGS'",
        help="further settings; each trial is trained with every one of them",
    )
    parser.add_argument("--workdir", type=Path, help="default runs/tune-NAME-PRESET")
    parser.add_argument("--out", type=Path, help="default tuned.json in the former")
    return parser


def _tune(known: argparse.Namespace, rest: Sequence[str], command: str) -> str:
    trials.check_installed()
    for name in ("trials", "seeds"):
        if getattr(known, name) < 1:
            raise ValueError(f"--{name} is {getattr(known, name)}; give 1 or more")
    seeds = range(FIRST_SEED, FIRST_SEED + known.seeds)
    folder = Path("runs") / "-".join(["tune", *known.names, known.preset])
    workdir = known.workdir or folder
    out = known.out or workdir / "tuned.json"
    options = _parse(known.names[0], known.preset, rest)
    inputs = experiment.inputs_of(options.config)
    places.check_folder("--workdir", workdir, inputs)
    places.check_text("--data.cache", options.config.data.cache)
    if known.out is not None:
        places.check_file("--out", out, (".json",), inputs)
    hosts.check_jax()
    before = compilations.total()
    if options.compile_cache:
        compile_cache.use(options.config.data.cache, _say)
    options, jobs = _make_jobs(known, rest)
    space, resume = options.search, options.config.resume
    if options.config.mesh.spans_processes:
        raise ValueError(
            "a tuning runs on one host; leave out --mesh.cluster and --mesh.coordinator"
        )
    repeats = known.trials * known.seeds
    worlds = [
        (job.rows[0][a].config, data) for job in jobs for a, data in job.data.items()
    ]
    together = crew.choose(
        options.together,
        options.processes,
        trainings=repeats * len(worlds),
        examples=repeats * sum(sizes.examples(*world) for world in worlds),
        devices=options.config.mesh.devices,
    )
    described = _describe(space, jobs, seeds, known.anchors, options.config)
    with claim(workdir, described, resume), stopping.on_signals():
        store, monitor = Store(workdir / "optuna.journal"), Monitor(workdir)
        hands = crew.Crew(workdir, monitor, *together)
        with contextlib.closing(monitor), contextlib.closing(hands):
            tried = training.run(jobs, seeds, store, hands)
    _say((compilations.total() - before + monitor.programs).describe())
    every = [trial for found in tried.values() for trial in found]
    rows, failed = {}, {}
    for job in jobs:
        try:
            rows[job.module] = _chosen(job, tried[job.module])
        except ValueError as error:
            failed[job.module] = str(error)
    result = {
        "objective": "mean regret on validation of the snapshot that would be served",
        "command": command,
        "environment": describe_environment() | {"optuna": version("optuna")},
        "budget": {
            "trials": known.trials,
            "seeds": list(seeds),
            "anchors": known.anchors,
            "seconds": round(trials.seconds(every), 1),
            "together": together[0],
        },
        "space": {name: d._asdict() for name, d in space.common.items()},
        "rows": rows,
    }
    write_json(out, result | {"failed": failed})
    if failed:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in failed.items())
        raise ValueError(f"{reasons}. The other rows' settings are in {out}")
    return f"{_text(result)}\n\nwritten to {out}"


def _make_jobs(
    known: argparse.Namespace, rest: Sequence[str]
) -> tuple[Options, list[Job]]:
    """The settings, and the rows that apply to every anchor's log, once each."""
    loaded: dict[DataConfig, Dataset] = {}
    jobs: dict[str, Job] = {}
    for name in known.names:
        module = ablation.load(name)
        options = _parse(name, known.preset, rest)
        worlds = {}
        for anchor in known.anchors:
            config = _at_anchor(options.config, anchor)
            if config.data not in loaded:
                loaded[config.data] = sources.load(config.data, say=_say)
            look = getattr(module, "tuned_on", lambda data: data)
            worlds[anchor] = (config, look(loaded[config.data]))
        start = ablation.set_up(name, known.preset)
        for row in getattr(module, "ROWS", (module,)):
            job = _make_job(module, row, start, options.search, worlds, known.trials)
            if job is not None and _differ(jobs.setdefault(job.module, job), job):
                raise ValueError(
                    f"{job.module} has other settings in {name}, or is tuned on another"
                    " part of the log, than in a name before it; tune one of them alone"
                )
    if not jobs:
        raise ValueError(f"{' '.join(known.names)}: no row there to tune")
    return options, list(jobs.values())


def _differ(one: Job, other: Job) -> bool:
    """Whether a row that two studies have in common would not be tuned alike."""
    logs = [[data.fingerprint for data in job.data.values()] for job in (one, other)]
    return one.rows != other.rows or logs[0] != logs[1]


def _parse(name: str, preset: Preset, rest: Sequence[str]) -> Options:
    options = tyro.cli(
        Options,
        prog=f"python -m experiments.tune {name}",
        args=rest,
        default=Options(starting_config(name, preset)),
    )
    options.search.check()
    return options


def _at_anchor(config: Config, anchor: str) -> Config:
    config = tyro.cli(
        Config, prog="--anchors", args=shlex.split(anchor), default=config
    )
    config.check()
    return config


def _make_job(
    module: ModuleType,
    row: ModuleType,
    start: Config,
    space: SearchSpace,
    worlds: Mapping[str, tuple[Config, Dataset]],
    count: int,
) -> Job | None:
    """A row's trials, checked before any is trained; None where it does not apply."""

    def rows(settings: Settings) -> dict[str, Ablation]:
        return {
            anchor: experiment.configure_row(module, row, config, data.schema, settings)
            for anchor, (config, data) in worlds.items()
        }

    name, own = experiment.short_name(row), rows({})
    for anchor, ablated in own.items():
        data = worlds[anchor][1]
        reason = not_applicable(ablated.config, data.schema)
        if reason is not None:
            _say(f"{name}: not applicable: {reason}")
            return None
        check_trainable(ablated.config, data)
    config = next(iter(own.values())).config
    found = search_space.dimensions(space, row, start, config)
    design = search_space.design(space, found, config, count)
    data = {anchor: data for anchor, (_, data) in worlds.items()}
    return Job(name, found, design, [rows(settings) for settings in design], data)


def _describe(
    space: SearchSpace,
    jobs: Sequence[Job],
    seeds: Sequence[int],
    anchors: Sequence[str],
    config: Config,
) -> dict:
    """What `config.json` holds: what trials depend on, save how many there are."""
    rows = {}
    for job in jobs:
        at = {}
        for anchor, row in job.rows[0].items():
            settings = as_json(row.config)
            settings["data"]["fingerprint"] = job.data[anchor].fingerprint
            start = row.config.training.init_from
            if start is not None:
                settings["started_from"] = joint.started_from(start)
            settings["software"] = fingerprints.software(row.config)
            at[anchor] = settings
        searched = {name: d._asdict() for name, d in job.dimensions.items()}
        rows[job.module] = {"searched": searched, "anchors": at}
    return {
        "space": dataclasses.asdict(space),
        "seeds": list(seeds),
        "anchors": list(anchors),  # in their order, which names what is kept
        "on_nonfinite": config.on_nonfinite,  # a skipped step is no diverged trial
        "rows": rows,
    }


def _chosen(job: Job, tried: Sequence[Trial]) -> dict[str, Any]:
    """What `tuned.json` says of a row: the settings, and all that was tried."""
    chosen = trials.best(tried)
    return {
        "settings": chosen.settings,
        "trial": chosen.number,
        "objective": chosen.objective,
        "last_day": _last_day(job.data.values()),
        "seconds": round(trials.seconds(tried), 1),
        "searched": {name: d._asdict() for name, d in job.dimensions.items()},
        "trials": [trial._asdict() | {"objective": trial.objective} for trial in tried],
    }


def _last_day(logs: Iterable[Dataset]) -> int | None:
    """The last day of any log that trials trained on or were validated on."""
    parts = [data.splits[name] for data in logs for name in ("train", "validation")]
    if not all("day" in rows.extras for rows in parts):
        return None
    return max(int(rows.extras["day"].max()) for rows in parts)


def _text(result: Mapping[str, Any]) -> str:
    """For each row what it was given, and what that changed on validation."""
    rows = result["rows"]
    columns = [["row", *rows]]
    for name in dict.fromkeys(n for row in rows.values() for n in row["settings"]):
        chosen = [row["settings"].get(name, "–") for row in rows.values()]
        columns.append([name.split(".")[-1].replace("_", " "), *map(str, chosen)])
    first = [row["trials"][0]["objective"] for row in rows.values()]
    columns.append(["regret before", *map(_number, first)])
    columns.append(["tuned", *(_number(row["objective"]) for row in rows.values())])
    columns.append(["trial", *(str(row["trial"]) for row in rows.values())])
    return grid(columns, markdown=False)


def _number(objective: float | None) -> str:
    return "diverged" if objective is None else f"{objective:.4f}"


def _say(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(console.run(main))
