"""Open choice of the DCRNN: one RNN for all tasks and positions."""

from experiments import variants
from experiments.ablation import Row
from experiments.config import Config
from experiments.dcrnn import bilstm_ada

ROW = Row("DCRNN+BiLSTM+Ada (one RNN)")


def configure(config: Config) -> Config:
    return variants.dcrnn(bilstm_ada.configure(config), sharing="one_rnn")
