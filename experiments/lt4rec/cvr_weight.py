"""Figure: the weight b of the CVR's loss in equation 2, with a = 1.

The paper: "the typical value of b will be much larger than a". Trained on the sum, as
by turns Adam cancels the scale of a loss, save where tasks share its moments.
"""

from dataclasses import replace

from experiments.analysis import sweeps
from experiments.analysis.context import Context
from experiments.lt4rec import base_ctr, base_cvr, hard_sharing_trunk, s_weight
from experiments.settings.config import Config

ROWS = (s_weight, hard_sharing_trunk, base_ctr, base_cvr)
WEIGHTS = (0.2, 1, 5, 25, 125)


def change(config: Config, weight: float) -> Config:
    training = replace(config.training, schedule="sum", weights=(("cvr", weight),))
    return replace(config, training=training)


def run(context: Context) -> str:
    """Trains every weight; writes `cvr_weight.json` and `cvr_weight.png`."""
    *joint, base_ctr_row, base_cvr_row = context.rows
    series = {row.row.name: sweeps.vary(context, row, WEIGHTS, change) for row in joint}
    return sweeps.write(
        context,
        series,
        [base_ctr_row, base_cvr_row],
        file="cvr_weight",
        x="weight of the CVR's loss",
        is_log=True,
    )
