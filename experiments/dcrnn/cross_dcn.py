"""Cross networks at equal size: a shared bottom over DCN's cross layers (eq. 1)."""

from experiments.ablation import Row
from experiments.config import Config
from experiments.dcrnn import cross_rows

ROW = Row("shared-bottom over dcn")
resize = cross_rows.resize


def configure(config: Config) -> Config:
    return cross_rows.over(config, "dcn")
