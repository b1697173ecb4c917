"""Sharing: what the tickets share, and whether gradients conflict less there.

LT4REC says of its masks that they relieve the conflict of the tasks' gradients, and
shows neither masks against chance nor a gradient. Here: how each layer's weights are
used; how far masks overlap, between tasks, rounds and seeds, against chance; the
inputs each ticket keeps; and the cosine of the tasks' gradients along joint training,
inside the tickets' overlap and outside, for s-weight and for hard sharing.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments import mask_overlap
from experiments.analysis import sharing_text
from experiments.analysis.context import Context
from experiments.analysis.figures import sharing_figures
from experiments.analysis.statistics import mean_interval
from experiments.lt4rec import hard_sharing_trunk, s_weight
from experiments.running import joint, ticket_searches
from experiments.running.crew import Job
from experiments.running.monitor import Monitor
from experiments.running.workdir import read_json, write_json
from experiments.settings.ablation import Ablation
from experiments.settings.setup import role, roles, task_names
from jaxmtl.data.store import Dataset
from jaxmtl.sparsity import sharing
from jaxmtl.sparsity.tickets import Ticket
from jaxmtl.training.alignment import EMBEDDINGS, make_alignment
from jaxmtl.training.train_state import snapshot_of
from jaxmtl.types import Mask, Rows

ROWS = (s_weight, hard_sharing_trunk)
BATCHES, SIZE = 16, 512
"""Of the training rows that gradients are compared on."""

Found = Sequence[Mapping[str, Ticket]]
"""For each seed, role or task -> its ticket."""


def run(context: Context) -> str:
    """Writes `sharing.json` and its figures; trains what is missing."""
    sparse, dense = context.rows
    data, workdir, monitor = context.data, context.workdir, context.monitor
    names = task_names(sparse.config, data.schema)
    if len(roles(data.schema)) < 2:
        raise ValueError(
            f"{context.name} compares the CTR with the CVR, and {data.schema.name} has"
            f" one label for both, {data.schema.ctr!r}; name another as cvr"
        )
    if not {data.schema.ctr, data.schema.cvr} <= set(names):
        raise ValueError(
            f"{context.name} compares the CTR with the CVR, but"
            f" --training.tasks {sparse.config.training.tasks} trains {list(names)};"
            " use pair or all"
        )
    left = [
        Job((row, sparse), seed)
        for row in context.rows
        for seed in context.seeds
        if not _cosine_file(workdir, row, seed).exists()
    ]
    monitor.expect(len(left))
    todo = [(sparse.config, seed) for seed in context.seeds]
    ticket_searches.make_missing(todo, data, context.crew)
    context.crew.do(align, left, data)
    found = [
        {
            role(data.schema, task): ticket
            for task, ticket in ticket_searches.find(
                sparse.config, seed, data, workdir, monitor
            ).items()
        }
        for seed in context.seeds
    ]
    result = {
        **context.about,
        "parts": parts(found),
        "overlap": {
            "tasks": between_tasks(found),
            "layers": between_tasks_by_layer(found),
            "seeds": between_seeds(found),
        },
        "fields": inputs(found, sparse, [f.name for f in data.schema.fields], context),
        "cosine": {
            row.row.name: [
                read_json(_cosine_file(workdir, row, seed)) for seed in context.seeds
            ]
            for row in (sparse, dense)
        },
    }
    write_json(workdir / "sharing.json", result)
    mask_overlap.write(workdir, context.seeds, [chosen(tickets) for tickets in found])
    files = sharing_figures.draw(result, workdir)
    markdown = sharing_text.to_markdown(result)
    (workdir / "sharing.md").write_text(markdown, encoding="utf-8")
    where = ", ".join(["sharing.json", "sharing.md", mask_overlap.FILE, *files])
    return f"{sharing_text.to_text(result)}\nwritten to {workdir}: {where}\n"


def parts(found: Found) -> dict[str, list[dict]]:
    """Layer -> for each seed how its weights are used."""
    by_seed = [sharing.layer_parts(chosen(tickets)) for tickets in found]
    return {layer: [seed[layer]._asdict() for seed in by_seed] for layer in by_seed[0]}


def between_tasks(found: Found) -> list[dict]:
    """The tickets' overlap round by round, averaged over the pairs of tasks.

    Rounds of one task need no figure: each mask lies inside the one before.
    """
    rounds = range(len(next(iter(found[0].values())).rounds))
    return [
        {
            "density": np.mean([t.rounds[n].density for t in found[0].values()]),
            **_over_seeds(
                [_overlaps(t.rounds[n].mask for t in seed.values()) for seed in found]
            ),
        }
        for n in rounds
    ]


def between_tasks_by_layer(found: Found) -> dict[str, dict]:
    """Layer -> the overlap of the chosen tickets."""
    by_seed = [
        [
            sharing.layer_overlaps(a, b)
            for a, b in itertools.combinations(chosen(tickets).values(), 2)
        ]
        for tickets in found
    ]
    return {
        layer: _over_seeds([[pair[layer] for pair in pairs] for pairs in by_seed])
        for layer in by_seed[0][0]
    }


def between_seeds(found: Found) -> dict[str, list[dict]]:
    """Role -> the overlap of its masks between seeds, round by round."""
    if len(found) < 2:
        return {}

    def point(name: str, number: int) -> dict:
        rounds = [tickets[name].rounds[number] for tickets in found]
        pairs = _overlaps(one.mask for one in rounds)
        return {"density": rounds[0].density} | _over_seeds([[pair] for pair in pairs])

    return {
        name: [point(name, number) for number in range(len(ticket.rounds))]
        for name, ticket in found[0].items()
    }


def inputs(
    found: Found, row: Ablation, fields: Sequence[str], context: Context
) -> dict[str, dict[str, list[float]]]:
    """Role -> input -> for each seed the fraction of its first-layer weights kept.

    `all` is the density of the layer. Empty where the net's first layer does not
    start from the plain crossed embeddings.
    """
    model = row.config.model
    is_plain = model.crossing.kind in ("elementwise", "inner", "none")
    if model.architecture != "shared_trunk" or not is_plain:
        return {}
    result: dict[str, dict[str, list[float]]] = {}
    for tickets in found:
        for name, ticket in tickets.items():
            kernel = np.asarray(ticket.mask["shared"]["layer00"]["kernel"])
            kept = sharing.input_density(
                kernel, fields, model.embedding_dim, len(context.data.schema.numeric)
            )
            for key, value in (kept | {"all": float(kernel.mean())}).items():
                result.setdefault(name, {}).setdefault(key, []).append(value)
    return result


def align(
    what: tuple[Ablation, Ablation],
    seed: int,
    data: Dataset,
    workdir: Path,
    monitor: Monitor,
) -> None:
    """Writes the cosine of CTR's and CVR's gradients after each epoch of a training.

    For each epoch, 0 being the start, region -> `mean` over batches and the fraction
    of them that is `negative`; both None where a gradient is zero.

    Args:
      what: what is trained jointly, and the row whose tickets set the regions.
      seed: to train.
      data: the log.
      workdir: of the run.
      monitor: watches.
    """
    row, sparse = what
    prepare = lambda config: joint.prepare(config, seed, data, workdir, monitor)
    ready, tickets = prepare(row.config), prepare(sparse.config)
    measure = make_alignment(ready.setup, (data.schema.ctr, data.schema.cvr))
    regions = sharing.regions(tickets.task_masks)
    names = (*regions, EMBEDDINGS)  # jit returns them sorted
    train, index = data.on_device("train"), sample(data.splits["train"])
    epochs: list[dict[str, Any]] = []

    def look(snapshot) -> None:
        cosines = measure(snapshot, ready.task_masks, regions, train, index)
        epochs.append({n: _summary(np.asarray(cosines[n])) for n in names})

    look(snapshot_of(joint.start(row.config, data, ready.setup, seed)))
    with monitor.training(row.module, seed, "joint") as on_epoch:

        def after_epoch(record, snapshot):
            on_epoch(record)
            look(snapshot)

        joint.train(row.config, ready, seed, data, after_epoch)
    write_json(_cosine_file(workdir, row, seed), epochs)


def _cosine_file(workdir: Path, row: Ablation, seed: int) -> Path:
    return workdir / "cosine" / row.module / f"seed{seed}.json"


def sample(rows: Rows) -> np.ndarray:
    """int32 [batches, size]: the same training rows in every epoch, row and seed."""
    size = min(SIZE, rows.num_rows)
    batches = min(BATCHES, rows.num_rows // size)
    drawn = np.random.default_rng(0).permutation(rows.num_rows)[: batches * size]
    return drawn.astype(np.int32).reshape(batches, size)


def chosen(tickets: Mapping[str, Ticket]) -> dict[str, Mask]:
    """Role or task -> the mask that joint training takes."""
    return {name: ticket.mask for name, ticket in tickets.items()}


def _overlaps(of: Iterable[Mask]) -> list[sharing.Overlap]:
    """Of every two of some masks."""
    return [sharing.overlap(a, b) for a, b in itertools.combinations(of, 2)]


def _over_seeds(by_seed: Sequence[Sequence[sharing.Overlap]]) -> dict[str, Any]:
    """Mean overlap and chance, with the values of each seed or pair of seeds."""
    values = [float(np.mean([pair.iou for pair in pairs])) for pairs in by_seed]
    chance = float(np.mean([pair.chance for pairs in by_seed for pair in pairs]))
    return {"iou": mean_interval(values).mean, "values": values, "chance": chance}


def _summary(cosines: np.ndarray) -> dict[str, float | None]:
    known = cosines[~np.isnan(cosines)]
    if not known.size:
        return {"mean": None, "negative": None}
    return {"mean": float(known.mean()), "negative": float((known < 0).mean())}
