"""Open choice of the DCRNN: an RNN for each task; windows share only the A_t."""

from experiments import variants
from experiments.ablation import Row
from experiments.config import Config
from experiments.dcrnn import bilstm_ada

ROW = Row("DCRNN+BiLSTM+Ada (an RNN a task)")


def configure(config: Config) -> Config:
    return variants.dcrnn(bilstm_ada.configure(config), sharing="task_rnn")
