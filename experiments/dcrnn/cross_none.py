"""Cross networks at equal size: a shared bottom over field embeddings alone."""

from experiments.ablation import Row
from experiments.config import Config
from experiments.dcrnn import cross_rows

ROW = Row("shared-bottom over none")
resize = cross_rows.resize


def configure(config: Config) -> Config:
    return cross_rows.over(config, "none")
