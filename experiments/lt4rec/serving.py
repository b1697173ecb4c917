"""What tickets save in serving: every form of every subnetwork, and the bundle of all.

Trains single tasks, hard sharing, s-weight and s-neuron, and measures what each takes
to serve. Four tasks on the feed, at the density the paper serves:

    python -m experiments.run lt4rec.serving --training.tasks all \\
        --pruning.max-density 0.21

The chain of a subnetwork is timed alone, from its input vector to its logit; what
stands before it, embeddings and crosses, is the same in every form. Bundles are timed
as the exported programs that they are, from ids to predictions.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.analysis import tables
from experiments.analysis.context import Context
from experiments.analysis.report.rendering import grid
from experiments.analysis.table import describe_environment
from experiments.benchmarks.latency import Latency, host_bytes, in_turns, program_bytes
from experiments.benchmarks.serving import bcsr, on_device, whole
from experiments.export import Trained, net_bytes, restore
from experiments.lt4rec import base_ctr, base_cvr, hard_sharing, s_neuron, s_weight
from experiments.running.workdir import write_json
from experiments.settings.setup import roles
from jaxmtl import metrics
from jaxmtl.serving import bundle, compact, export, sparse
from jaxmtl.serving.bundle import Bundle
from jaxmtl.serving.scoring import read_net
from jaxmtl.training import outputs

ROWS = (base_ctr, base_cvr, hard_sharing, s_weight, s_neuron)
BATCHES = (1, 32, 1024)
REPEATS = 100
CHUNK = 1024
Vectors = Callable[[slice], np.ndarray]
"""Rows of the test -> the vectors that enter a task's chain."""


def run(context: Context) -> str:
    """Trains what is missing; writes `serving.json` and `serving.md`."""
    schema = context.data.schema
    if len(roles(schema)) < 2:
        raise ValueError(
            f"{context.name} serves several tasks together, and {schema.name} has one"
            f" label for CTR and CVR, {schema.ctr!r}; name another as cvr"
        )
    tables.train(context)
    seed = context.seeds[0]
    rows = {
        row.row.name: restore(
            context.workdir / "rows" / row.module, seed, row.config, context.data
        )
        for row in context.rows
    }
    found = {
        "subnetworks": [
            line for name in rows for line in subnetworks(name, rows[name])
        ],
        "bundles": bundles(rows),
        "environment": describe_environment(),
        "command": context.command,
        "seed": seed,
    }
    write_json(context.workdir / "serving.json", found)
    text = to_markdown(found)
    (context.workdir / "serving.md").write_text(text, encoding="utf-8")
    return f"{text}\nwritten to {context.workdir}: serving.json, serving.md\n"


def held_by(trained: Trained, tasks: tuple[str, ...]) -> Bundle:
    """The bundle of some of a row's tasks."""
    snapshot = trained.snapshot
    net = {
        "shared": snapshot.net["shared"],
        "tasks": {task: snapshot.net["tasks"][task] for task in tasks},
    }

    def part(mask):
        own = {task: mask["tasks"][task] for task in tasks}
        return {"shared": mask["shared"], "tasks": own}

    masked = trained.setup.masked
    marks = {task: part(trained.masks[task]) if masked else None for task in tasks}
    return Bundle(net, marks, dict(snapshot.tables))


# A task at a time


def subnetworks(name: str, trained: Trained) -> list[dict[str, Any]]:
    """A line for each task and form; none for a net that is no single chain."""
    if trained.config.model.architecture != "shared_trunk":
        return []
    lines = []
    for task in trained.setup.tasks:
        layers = compact.layers_of(held_by(trained, (task,)).seen(task), task)
        forms = make_forms(whole(list(layers)), compact.compact(layers))
        if not trained.setup.masked:
            forms = {"dense": forms["dense"]}
        vectors = make_vectors(trained, task)
        times = {batch: time_forms(vectors, forms, batch) for batch in BATCHES}
        for form, made in forms.items():
            lines.append(
                {"row": name, "task": task, "form": form}
                | {"density": density(layers)}
                | made["about"]
                | {"latency": {b: t[form]._asdict() for b, t in times.items()}}
                | quality(trained, task, vectors, made["make"](CHUNK))
            )
    return lines


def density(layers) -> float:
    """The fraction of the trunk's weights that are not zero."""
    kernels = [layer.kernel for layer in layers[:-1]]
    return sum(map(np.count_nonzero, kernels)) / sum(k.size for k in kernels)


def make_forms(dense: compact.Chain, small: compact.Chain) -> dict[str, dict]:
    """Form -> what makes its run for a batch size, and what is known of it."""
    chosen = sparse.choose(small, CHUNK)
    like = jax.ShapeDtypeStruct((CHUNK, len(dense.inputs)), jnp.float32)
    vector = np.zeros(like.shape, np.float32)
    kept = sum(int(np.count_nonzero(layer.kernel)) for layer in small.layers)
    csr = ("csr",) * len(chosen)

    def on_xla(chain):
        return {
            "multiply_adds": compact.multiply_adds(chain),
            "bytes": sparse.stored_bytes(chain, ("dense",) * len(chosen)),
            "memory": program_bytes(compact.apply, chain, like),
        }

    def on_host(forms):
        made = sparse.make_host(small, forms)
        cost = [
            np.count_nonzero(layer.kernel) if form == "csr" else layer.kernel.size
            for layer, form in zip(small.layers, forms, strict=True)
        ]
        size = sparse.stored_bytes(small, forms)
        memory = size + vector.nbytes + host_bytes(lambda: made(vector))
        return {"multiply_adds": int(sum(cost)), "bytes": size, "memory": memory}

    def host(forms_of) -> Callable[[int], Callable]:
        return lambda batch: sparse.make_host(small, forms_of(batch))

    sparse_program = bcsr(small)
    return {
        "dense": {"make": lambda batch: on_device(dense), "about": on_xla(dense)},
        "small": {"make": lambda batch: on_device(small), "about": on_xla(small)},
        "host, chosen": {
            "make": host(lambda batch: sparse.choose(small, batch)),
            "about": on_host(chosen) | {"layers": list(chosen)},
        },
        "host, CSR": {"make": host(lambda batch: csr), "about": on_host(csr)},
        "XLA, BCSR": {
            "make": lambda batch: sparse_program,
            "about": {
                "multiply_adds": kept,
                "bytes": sparse.stored_bytes(small, csr),
                "memory": program_bytes(sparse_program, like),
            },
        },
    }


def make_vectors(trained: Trained, task: str) -> Vectors:
    """The vectors that enter a task's chain, made when they are asked for."""
    setup, rows = trained.setup, trained.data.splits["test"]
    every = np.ones(len(setup.schema.fields), bool)

    @jax.jit
    def vectors(tables_, shared, ids, numeric):
        features = export.look_up(setup, every, tables_, ids, numeric)
        return export.input_vector(setup, shared, features, task)

    snapshot = trained.snapshot

    def of(which: slice) -> np.ndarray:
        ids, numeric = np.asarray(rows.ids[which]), np.asarray(rows.numeric[which])
        shared = snapshot.net["shared"]
        return np.asarray(vectors(snapshot.tables, shared, ids, numeric))

    return of


def time_forms(vectors: Vectors, forms: dict, batch: int) -> dict[str, Latency]:
    """Form -> its latency on the first rows of the test."""
    vector = vectors(slice(0, batch))
    given = {True: vector, False: jnp.asarray(vector)}
    runs = {}
    for form, made in forms.items():
        made_run, x = made["make"](batch), given[form.startswith("host")]
        runs[form] = lambda made_run=made_run, x=x: made_run(x)
    return in_turns(runs, REPEATS)


def quality(
    trained: Trained, task: str, vectors: Vectors, run_form: Callable
) -> dict[str, Any]:
    """The form's metric on the test, and how far it is from the run's predictions."""
    rows, schema = trained.data.splits["test"], trained.setup.schema
    parts = [
        np.asarray(run_form(vectors(slice(at, at + CHUNK))))
        for at in range(0, rows.num_rows, CHUNK)
    ]
    logits = {task: jnp.asarray(np.concatenate(parts))}
    setup = trained.setup
    found = outputs.predictions(schema, setup.spec.output, setup.numbers, logits)
    (name, predicted), *_ = found.items()
    kind = schema.task(task)
    labels = {key: np.asarray(column) for key, column in rows.labels.items()}
    inside = kind.inside(labels)
    score = metrics.auc if kind.metric == "auc" else metrics.mse
    predicted = np.asarray(predicted)
    difference = np.abs(predicted - trained.predictions[name])
    return {
        "metric": kind.metric,
        "value": score(labels[task][inside], predicted[inside]).value,
        "difference": float(difference.max()),
    }


# All tasks together


def bundles(rows: dict[str, Trained]) -> list[dict[str, Any]]:
    """What k tasks take on disk and in time: single models, hard sharing, bundles."""
    single = rows["base ctr"]
    shared = {name: row for name, row in rows.items() if len(row.setup.tasks) > 1}
    tasks = ordered(next(iter(shared.values())))
    lines = []
    for count in range(2, len(tasks) + 1):
        chosen, programs, sizes = tasks[:count], {}, {}
        (task,) = single.setup.tasks
        one = on_disk(held_by(single, (task,)))
        sizes["single tasks, dense"] = {key: count * n for key, n in one.items()}
        calls = {b: make_call(single, (task,), b) for b in BATCHES}
        programs["single tasks, dense"] = {
            b: lambda call=call, count=count: [call() for _ in range(count)]
            for b, call in calls.items()
        }
        for name, row in shared.items():
            sizes[name] = on_disk(held_by(row, chosen))
            programs[name] = {b: make_call(row, chosen, b) for b in BATCHES}
        times = {
            b: in_turns({name: calls[b] for name, calls in programs.items()}, REPEATS)
            for b in BATCHES
        }
        for name, size in sizes.items():
            latency = {b: times[b][name]._asdict() for b in BATCHES}
            lines.append({"tasks": count, "form": name, **size, "latency": latency})
    return lines


def ordered(trained: Trained) -> tuple[str, ...]:
    """The row's tasks: the pair of the paper first."""
    schema = trained.setup.schema
    pair = [task for task in (schema.ctr, schema.cvr) if task in trained.setup.tasks]
    return (*pair, *(task for task in trained.setup.tasks if task not in pair))


def on_disk(held: Bundle) -> dict[str, int]:
    """Bytes of a bundle's net (values, masks, shapes) and of its tables."""
    with TemporaryDirectory() as folder:
        bundle.write(Path(folder), held)
        tables_ = (Path(folder) / bundle.TABLES).stat().st_size
        return {"nets": net_bytes(Path(folder)), "tables": tables_}


def make_call(trained: Trained, tasks: tuple[str, ...], batch: int) -> Callable:
    """A call of the program that is exported, on the first rows of the test."""
    setup, held = trained.setup, held_by(trained, trained.setup.tasks)
    kind, rows = export.kind_of(setup), trained.data.splits["test"]
    every = np.ones(len(setup.schema.fields), bool)
    program = jax.jit(export.make_program(setup, kind, tasks, every))
    given = (held.tables, read_net(held, kind, tasks))
    ids, numeric = jnp.asarray(rows.ids[:batch]), jnp.asarray(rows.numeric[:batch])
    given = jax.device_put(given)
    return lambda: program(*given, ids, numeric)


# As Markdown


def to_markdown(found: dict[str, Any]) -> str:
    """Both tables, their command and where they were made."""
    return "\n\n".join(
        [
            f"`{found['command']}`, seed {found['seed']}",
            ", ".join(f"{k} {v}" for k, v in found["environment"].items()),
            "A subnetwork's chain alone; median / 99th percentile of a call, ms",
            grid(_subnetwork_columns(found["subnetworks"]), markdown=True),
            "All tasks in one call, from ids to predictions; median, ms",
            grid(_bundle_columns(found["bundles"]), markdown=True),
        ]
    )


def _subnetwork_columns(lines: list[dict]) -> list[list[str]]:
    column = lambda title, show: [title, *map(show, lines)]
    latency = lambda batch: column(
        f"batch {batch}",
        lambda line: "{median:.3f} / {p99:.3f}".format(**line["latency"][batch]),
    )
    return [
        column("row", lambda line: line["row"]),
        column("task", lambda line: line["task"]),
        column("form", lambda line: _form(line)),
        column("density", lambda line: f"{line['density']:.2f}"),
        column("multiply-adds", lambda line: f"{line['multiply_adds']:,}"),
        column("KB on disk", lambda line: f"{line['bytes'] / 1e3:,.0f}"),
        column("peak KB", lambda line: f"{line['memory'] / 1e3:,.0f}"),
        *map(latency, BATCHES),
        column("test", lambda line: f"{line['metric'].upper()} {line['value']:.4f}"),
    ]


def _form(line: dict) -> str:
    return (
        f"{line['form']} ({' '.join(line['layers'])})"
        if "layers" in line
        else line["form"]
    )


def _bundle_columns(lines: list[dict]) -> list[list[str]]:
    singles = {n["tasks"]: n for n in lines if n["form"].startswith("single")}
    column = lambda title, show: [title, *map(show, lines)]

    def share(line, *keys):
        size = lambda of: sum(of[key] for key in keys)
        ratio = size(line) / size(singles[line["tasks"]])
        return f"{size(line) / 1e3:,.0f} ({ratio:.2f}×)"

    latency = lambda batch: column(
        f"batch {batch}", lambda line: f"{line['latency'][batch]['median']:.3f}"
    )
    return [
        column("tasks", lambda line: str(line["tasks"])),
        column("form", lambda line: line["form"]),
        column("nets, KB", lambda line: share(line, "nets")),
        column("tables, KB", lambda line: share(line, "tables")),
        column("together, KB", lambda line: share(line, "nets", "tables")),
        *map(latency, BATCHES),
    ]
