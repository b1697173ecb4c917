"""CRNN against DCN and CIN at equal size, and how each grows with fields and depth."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from experiments.analysis import tables
from experiments.analysis.context import Context
from experiments.analysis.figures import sweep_figures
from experiments.analysis.report import results
from experiments.dcrnn import (
    bilstm_ada,
    cross_cin,
    cross_crnn,
    cross_dcn,
    cross_none,
    mmoe,
    mmoe_matched,
    shared_bottom,
)
from jaxmtl.layers.crossing import Crossing, feature_layer
from jaxmtl.types import Features

CROSSES = (cross_none, cross_dcn, cross_cin, cross_crnn)
ROWS = (mmoe, mmoe_matched, bilstm_ada, *CROSSES)
TUNED_AS = dict.fromkeys(CROSSES, shared_bottom)
"""Each is a shared bottom over another cross network."""
KINDS = ("dcn", "cin", "crnn")
FIELDS, DEPTHS = (5, 10, 20, 40, 80), (1, 2, 3, 4, 6, 8)


def run(context: Context) -> str:
    """Trains the rows; writes the table, `growth.json` and `growth.png`."""
    model = context.rows[-1].config.model
    dim, crossing = model.embedding_dim, model.crossing
    fields, depth = len(context.data.schema.fields), crossing.depth

    def size(kind: str, fields: int, depth: int) -> int:
        given = Crossing(kind, depth, crossing.maps, crossing.hidden)
        features = Features(jnp.zeros((1, fields, dim)), {}, jnp.zeros((1, 0)))
        shapes = jax.eval_shape(feature_layer(given).init, jax.random.key(0), features)
        return sum(leaf.size for leaf in jax.tree.leaves(shapes))

    growth = {
        "fields": {
            "x": FIELDS,
            "at": f"depth {depth}",
            "params": {kind: [size(kind, n, depth) for n in FIELDS] for kind in KINDS},
        },
        "depth": {
            "x": DEPTHS,
            "at": f"{fields} fields",
            "params": {kind: [size(kind, fields, d) for d in DEPTHS] for kind in KINDS},
        },
    }
    about = {"dim": dim, "maps": crossing.maps, "hidden": crossing.hidden}
    sizes = results.keep({**growth, **about}, context.workdir, "growth")
    sweep_figures.growth_figure(growth, context.workdir / "growth.png")
    return f"{tables.write(context)}\n{sizes}\n"
