"""Cross networks at equal size: a shared bottom over CRNN (eq. 6)."""

from experiments.dcrnn import cross_rows
from experiments.settings.ablation import Row
from experiments.settings.config import Config

ROW = Row("shared-bottom over crnn")
resize = cross_rows.resize


def configure(config: Config) -> Config:
    return cross_rows.over(config, "crnn")
