"""Table 2: offline comparison, every row of the paper and the controls it lacks."""

from experiments import tables
from experiments.lt4rec import (
    base_ctr,
    base_cvr,
    hard_sharing,
    hard_sharing_trunk,
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
)


def run(context: tables.Context) -> str:
    """Trains the rows and writes the table, its figure, Figure 4 and mask maps."""
    return tables.write(context) + "\n" + tables.write_rounds(context, s_weight)
