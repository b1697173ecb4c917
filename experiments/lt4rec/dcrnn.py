"""Rival of Table 2: DCRNN with a bidirectional LSTM and adaptation."""

from experiments.settings import variants
from experiments.settings.ablation import Row
from experiments.settings.config import Config

ROW = Row("dcrnn")


def configure(config: Config) -> Config:
    return variants.dcrnn(config, cell="lstm", bidirectional=True, adaptation=True)
