"""Figure: the size of the net; the paper's bigger one did not help sparse sharing.

The paper gives no size (`s_weight_biggernet`) and supposes that what a larger net
could gain is lost by pruning it. So the dense nets are varied too.
"""

from dataclasses import replace

from experiments.analysis import sweeps
from experiments.analysis.context import Context
from experiments.lt4rec import base_ctr, base_cvr, hard_sharing_trunk, s_weight
from experiments.settings.config import Config

ROWS = (s_weight, hard_sharing_trunk, base_ctr, base_cvr)
FACTORS = (0.25, 0.5, 1, 2, 4)


def change(config: Config, factor: float) -> Config:
    hidden = tuple(max(round(factor * width), 1) for width in config.model.hidden)
    return replace(config, model=replace(config.model, hidden=hidden))


def run(context: Context) -> str:
    """Trains every size; writes `net_size.json` and `net_size.png`."""
    series = {
        row.row.name: sweeps.vary(context, row, FACTORS, change) for row in context.rows
    }
    return sweeps.write(
        context,
        series,
        [],
        file="net_size",
        x="width of every layer, times the study's",
        is_log=True,
    )
