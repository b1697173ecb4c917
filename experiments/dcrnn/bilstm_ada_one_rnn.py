"""Open choice of the DCRNN: one RNN for all tasks and positions."""

from experiments.dcrnn import bilstm_ada
from experiments.settings import variants
from experiments.settings.ablation import Row
from experiments.settings.config import Config

ROW = Row("DCRNN+BiLSTM+Ada (one RNN)")


def configure(config: Config) -> Config:
    return variants.dcrnn(bilstm_ada.configure(config), sharing="one_rnn")
