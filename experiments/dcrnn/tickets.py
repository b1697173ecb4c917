"""DCRNN × LT4REC: tickets over a DCRNN and over MMoE's experts, beside the dense."""

from experiments.analysis import tables
from experiments.dcrnn import (
    bilstm_ada,
    bilstm_ada_tickets,
    mmoe,
    mmoe_matched,
    mmoe_tickets,
)

ROWS = (mmoe, mmoe_tickets, bilstm_ada, bilstm_ada_tickets, mmoe_matched)
TUNED_AS = {mmoe_tickets: mmoe, bilstm_ada_tickets: bilstm_ada}
run = tables.write
