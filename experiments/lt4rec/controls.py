"""Controls: what of s-weight's gain is ticket, sparsity, separation, optimiser?

Between `hard_sharing_trunk` and `s_weight` stand two rows, so that each step changes
one thing: `random_masks_common` is sparse, but both tasks train the same few weights;
`shuffled_masks` keeps them apart as far as the tickets do, but in other places.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.analysis import contrasts, tables
from experiments.analysis.context import Context
from experiments.analysis.contrasts import Contrast, Question
from experiments.analysis.figures import contrast_figures
from experiments.analysis.table import Table
from experiments.lt4rec import (
    base_ctr,
    base_cvr,
    ctr_ticket_for_both,
    dense_matched,
    hard_sharing,
    hard_sharing_trunk,
    random_masks,
    random_masks_common,
    random_masks_global,
    s_weight,
    s_weight_layer,
    s_weight_leaky,
    s_weight_per_task,
    s_weight_reinitialised,
    s_weight_rewind_step,
    shuffled_masks,
    swapped_tickets,
    ticket_ctr,
    ticket_cvr,
)
from experiments.running.workdir import read_json, write_json
from experiments.tuning import tuned

VARIANTS = (
    dense_matched,
    random_masks_common,
    random_masks,
    random_masks_global,
    shuffled_masks,
    swapped_tickets,
    ctr_ticket_for_both,
    s_weight_reinitialised,
    s_weight_rewind_step,
    s_weight_layer,
    s_weight_leaky,
    s_weight_per_task,
)
"""Rows that differ from s-weight in one thing."""
TUNED_AS = dict.fromkeys(VARIANTS, s_weight)
ROWS = (
    base_ctr,
    base_cvr,
    hard_sharing,
    hard_sharing_trunk,
    s_weight,
    ticket_ctr,
    ticket_cvr,
    *VARIANTS,
)
QUESTIONS = (
    Question(
        "sparsity",
        "Does sparsity alone help?",
        (
            Contrast("random_masks_common", "hard_sharing_trunk", "fewer weights"),
            Contrast("dense_matched", "hard_sharing_trunk", "narrower layers"),
            Contrast("ticket_{task}", "base_{task}", "a ticket, one task"),
        ),
    ),
    Question(
        "separation",
        "Does it help to keep the tasks' weights apart?",
        (
            Contrast("shuffled_masks", "random_masks_common", "less overlap"),
            Contrast("s_weight", "ctr_ticket_for_both", "a ticket a task"),
            Contrast("random_masks", "shuffled_masks", "overlap of chance"),
        ),
    ),
    Question(
        "ticket",
        "Does it matter which weights the tickets keep?",
        (
            Contrast("s_weight", "shuffled_masks", "which weights"),
            Contrast("s_weight", "swapped_tickets", "whose ticket"),
            Contrast("s_weight", "s_weight_reinitialised", "initial weights"),
            Contrast("s_weight_rewind_step", "s_weight", "rewinding later"),
            Contrast("s_weight_layer", "s_weight", "a quantile a layer"),
            Contrast("random_masks_global", "random_masks", "density by layer"),
        ),
    ),
    Question(
        "optimiser",
        "Does it help that a task's step moves nothing else?",
        (
            Contrast("s_weight", "s_weight_leaky", "gated updates"),
            Contrast("s_weight_per_task", "s_weight", "moments a task"),
        ),
    ),
)
TOTAL = Contrast("s_weight", "hard_sharing_trunk", "all of it")


def run(context: Context) -> str:
    """Trains the rows; writes their table, and `contrasts.json`, `.md` and `.png`."""
    text = tables.write(context)
    table = read_json(context.workdir / "table.json")
    found = contrasts.compare(table, QUESTIONS)
    write_json(
        context.workdir / "contrasts.json",
        {
            "contrasts": context.name,
            "data": context.data.schema.name,
            "seeds": list(context.seeds),
            "command": context.command,
            "tuning": tuned.note(context.tuned),
            "metrics": table["layout"]["main"],
            "found": found,
        },
    )
    answers = to_markdown(table, found)
    (context.workdir / "contrasts.md").write_text(answers, encoding="utf-8")
    if found:
        titles = table["layout"]["main"]
        picture = context.workdir / "contrasts.png"
        contrast_figures.contrast_figure(found, titles, picture)
    where = f"written to {context.workdir}: contrasts.json, contrasts.md, contrasts.png"
    return f"{text}\n{answers}\n{where}\n"


def to_markdown(table: Table, found: Sequence[Mapping[str, Any]]) -> str:
    """The contrasts of the rows' table, and how they add up."""
    answers = contrasts.as_text(table, QUESTIONS, found)
    steps = "\n".join(f"- {line}." for line in contrasts.chain(table, found, TOTAL))
    return f"{answers}\n\n{steps}\n" if steps else f"{answers}\n"
