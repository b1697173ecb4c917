"""Figure: the interval I from 0 to L, in all three readings of what windows share."""

from __future__ import annotations

from typing import get_args

from experiments.analysis import sweeps
from experiments.analysis.context import Context
from experiments.dcrnn import bilstm_ada, mmoe, mmoe_matched
from experiments.settings import variants
from experiments.settings.config import Config
from jaxmtl.models.dcrnn import Sharing

ROWS = (bilstm_ada, mmoe, mmoe_matched)


def run(context: Context) -> str:
    """Trains every interval; writes `interval.json` and `interval.png`."""
    ours, *rivals = context.rows
    length = ours.config.model.dcrnn.length

    def curve(sharing: str) -> list[sweeps.Point]:
        def change(config: Config, interval: int) -> Config:
            return variants.dcrnn(config, sharing=sharing, interval=interval)

        return sweeps.vary(context, ours, range(length + 1), change, sharing)

    series = {sharing: curve(sharing) for sharing in get_args(Sharing)}
    return sweeps.write(
        context,
        series,
        rivals,
        file="interval",
        x=f"interval I (0: hard sharing, {length}: soft)",
        with_params=True,
    )
