"""Open choice of the DCRNN: the tower reads all steps' outputs."""

from experiments import variants
from experiments.ablation import Row
from experiments.config import Config
from experiments.dcrnn import bilstm_ada

ROW = Row("DCRNN+BiLSTM+Ada (concat)")


def configure(config: Config) -> Config:
    return variants.dcrnn(bilstm_ada.configure(config), readout="concat")
