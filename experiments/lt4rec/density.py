"""Figure: the final density, and the rounds of pruning that lead to it.

The last round's mask is used, whatever validation says of the others, so that the
axis is the density trained.
"""

from dataclasses import replace

from experiments.analysis import sweeps
from experiments.analysis.context import Context
from experiments.lt4rec import (
    base_ctr,
    base_cvr,
    hard_sharing_trunk,
    random_masks,
    s_weight,
)
from experiments.settings.config import Config

ROWS = (s_weight, random_masks, hard_sharing_trunk, base_ctr, base_cvr)
DENSITIES = (0.8, 0.5, 0.2, 0.1, 0.05)
ROUNDS = (1, 2, 4)


def run(context: Context) -> str:
    """Trains every density; writes `density.json` and `density.png`."""
    ticket, random, *levels = context.rows

    def curve(row, rounds: int, name: str) -> list[sweeps.Point]:
        def change(config: Config, density: float) -> Config:
            pruning = replace(
                config.pruning,
                rounds=rounds,
                final_density=density,
                max_density=density,
            )
            return replace(config, pruning=pruning)

        return sweeps.vary(context, row, DENSITIES, change, name)

    counted = {n: f"{n} round{'s' * (n > 1)}" for n in ROUNDS}
    series = {name: curve(ticket, n, name) for n, name in counted.items()}
    series[random.row.name] = curve(random, ROUNDS[-1], random.row.name)
    return sweeps.write(
        context,
        series,
        levels,
        file="density",
        x="final density (fraction of weights kept)",
        is_log=True,
    )
