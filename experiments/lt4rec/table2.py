"""Table 2: offline comparison, the paper's rows, controls and rivals."""

from experiments.analysis import tables
from experiments.analysis.context import Context
from experiments.lt4rec import (
    base_ctr,
    base_cvr,
    dcrnn,
    esmm,
    hard_sharing,
    hard_sharing_trunk,
    mmoe,
    mmoe_matched,
    ple,
    questions,
    random_masks,
    s_neuron,
    s_weight,
    s_weight_biggernet,
    s_weight_gradientconflict,
    s_weight_leaky,
    s_weight_multiview,
    s_weight_sum,
    s_weight_taskbalance,
    s_weight_tuning,
    ticket_ctr,
    ticket_cvr,
)

ROWS = (
    base_ctr,
    base_cvr,
    hard_sharing,
    s_weight,
    s_neuron,
    s_weight_taskbalance,
    s_weight_gradientconflict,
    s_weight_multiview,
    s_weight_biggernet,
    s_weight_tuning,
    hard_sharing_trunk,
    ticket_ctr,
    ticket_cvr,
    random_masks,
    s_weight_sum,
    s_weight_leaky,
    esmm,
    mmoe,
    mmoe_matched,
    ple,
    dcrnn,
)


def run(context: Context) -> str:
    """Trains the rows; writes table, figure, Figure 4, mask maps and answers."""
    parts = [tables.write(context), tables.write_rounds(context, s_weight)]
    return "\n".join([*parts, questions.write(context)])
