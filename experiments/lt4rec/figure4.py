"""Figure 4: each task's validation metric by pruning round, with the round chosen."""

from experiments.analysis import tables
from experiments.analysis.context import Context
from experiments.lt4rec import s_weight

ROWS = (s_weight,)


def run(context: Context) -> str:
    """Searches the tickets of `s_weight` and draws their rounds."""
    return tables.write_rounds(context, s_weight)
