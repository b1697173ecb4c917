"""What the DCRNN paper leaves open: what windows share, readout, hidden size."""

from experiments.analysis import tables
from experiments.dcrnn import (
    bilstm_ada,
    bilstm_ada_concat,
    bilstm_ada_double,
    bilstm_ada_half,
    bilstm_ada_mean,
    bilstm_ada_one_rnn,
    bilstm_ada_task_rnn,
    mmoe,
    mmoe_matched,
)

CHOICES = (
    bilstm_ada_task_rnn,
    bilstm_ada_one_rnn,
    bilstm_ada_mean,
    bilstm_ada_concat,
    bilstm_ada_half,
    bilstm_ada_double,
)
"""Each DCRNN+BiLSTM+Ada with one thing changed, and so with its tuned settings."""
ROWS = (mmoe, bilstm_ada, *CHOICES, mmoe_matched)
TUNED_AS = dict.fromkeys(CHOICES, bilstm_ada)
run = tables.write
