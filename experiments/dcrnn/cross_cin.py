"""Cross networks at equal size: a shared bottom over CIN (eq. 2)."""

from experiments.ablation import Row
from experiments.config import Config
from experiments.dcrnn import cross_rows

ROW = Row("shared-bottom over cin")
resize = cross_rows.resize


def configure(config: Config) -> Config:
    return cross_rows.over(config, "cin")
