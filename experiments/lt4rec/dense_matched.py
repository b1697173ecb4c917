"""Control of Table 2: a dense shared net with as many parameters as two tickets keep.

Every layer of `hard_sharing_trunk` narrowed by one factor. How much the tickets keep
together is known only once they are found, so the size is set beforehand: that of two
masks of the final density d that meet by chance, 1 − (1 − d)² of the dense net. The
table's parameters tell what s-weight came to.
"""

from dataclasses import replace

from experiments.lt4rec import hard_sharing_trunk
from experiments.settings import sizes
from experiments.settings.ablation import Row
from experiments.settings.config import Config
from jaxmtl.types import Schema

ROW = Row("dense (tickets' size)")


def configure(config: Config) -> Config:
    return hard_sharing_trunk.configure(config)


def resize(config: Config, schema: Schema) -> Config:
    kept = 1 - (1 - config.pruning.final_density) ** 2
    target, hidden = round(kept * sizes.net_size(config, schema)), config.model.hidden

    def widen(config: Config, width: int) -> Config:
        """The net whose first layer has this width."""
        narrowed = tuple(max(1, round(size * width / hidden[0])) for size in hidden)
        return replace(config, model=replace(config.model, hidden=narrowed))

    return sizes.match(config, schema, target, widen)
