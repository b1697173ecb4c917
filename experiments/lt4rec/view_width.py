"""Figure: the width of the CVR's own embeddings beside the shared ones, from 0.

The paper adds 8 dimensions (`s_weight_multiview`), sees no gain and supposes that "we
need more CVR exclusive embedding to be effective", which its storage did not allow.
"""

from dataclasses import replace

from experiments.analysis import sweeps
from experiments.analysis.context import Context
from experiments.lt4rec import base_ctr, base_cvr, s_weight
from experiments.settings.config import Config

ROWS = (s_weight, base_ctr, base_cvr)
WIDTHS = (0, 4, 8, 16, 32)


def change(config: Config, width: int) -> Config:
    return replace(config, model=replace(config.model, own_dims=(("cvr", width),)))


def run(context: Context) -> str:
    """Trains every width; writes `view_width.json` and `view_width.png`."""
    ours, *levels = context.rows
    series = {ours.row.name: sweeps.vary(context, ours, WIDTHS, change)}
    return sweeps.write(
        context, series, levels, file="view_width", x="width of the CVR's own view"
    )
