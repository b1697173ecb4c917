"""Cross networks at equal size: a shared bottom over CRNN (eq. 6)."""

from experiments.ablation import Row
from experiments.config import Config
from experiments.dcrnn import cross_rows

ROW = Row("shared-bottom over crnn")
resize = cross_rows.resize


def configure(config: Config) -> Config:
    return cross_rows.over(config, "crnn")
