"""Open choice of the DCRNN: twice the hidden size."""

from experiments import variants
from experiments.ablation import Row
from experiments.config import Config
from experiments.dcrnn import bilstm_ada

ROW = Row("DCRNN+BiLSTM+Ada (double)")


def configure(config: Config) -> Config:
    hidden = config.model.dcrnn.hidden * 2
    return variants.dcrnn(bilstm_ada.configure(config), hidden=hidden)
