"""Table 3: what every model costs at the same inputs. Paper: 5,786,388 and 1,424,452.

The paper's other columns, click and play rates of an online test, no log can give.
"""

from __future__ import annotations

from experiments.analysis.context import Context
from experiments.analysis.report import results
from experiments.dcrnn import (
    aitm,
    bigru_ada,
    bilstm_ada,
    bilstm_ada_one_rnn,
    bilstm_ada_task_rnn,
    cross_stitch,
    esmm,
    gru_ada,
    lstm_ada,
    mmoe,
    mmoe_matched,
    omoe,
    ple,
    shared_bottom,
)
from experiments.settings import sizes

ROWS = (
    mmoe,
    bilstm_ada,
    bilstm_ada_task_rnn,
    bilstm_ada_one_rnn,
    lstm_ada,
    bigru_ada,
    gru_ada,
    mmoe_matched,
    omoe,
    shared_bottom,
    ple,
    cross_stitch,
    esmm,
    aitm,
)
PAPER = {"mmoe": 5_786_388, "bilstm_ada": 1_424_452}


def run(context: Context) -> str:
    """Counts, and writes `table.json` and `table.md`; trains nothing."""
    schema = context.data.schema
    counted = [
        {
            "row": row.row.name,
            "module": row.module,
            "net": sizes.net_size(row.config, schema),
            "tables": sizes.table_size(row.config, schema),
            "multiply-adds": sizes.multiply_adds(row.config, schema),
            "paper": PAPER.get(row.module.rsplit(".", 1)[-1]),
        }
        for row in context.rows
    ]
    table = {
        "table": context.name,
        "data": schema.name,
        "inputs": sizes.input_width(context.rows[0].config, schema),
        "rows": counted,
        "command": context.command,
    }
    return results.keep(table, context.workdir, "table") + "\n"
