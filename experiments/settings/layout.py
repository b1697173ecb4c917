"""What a paper's table shows: its columns, and what its rows are tested against."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from jaxmtl.types import Schema


class Layout(NamedTuple):
    """The shape of a paper's table.

    Attributes:
      main: metric -> title of its column; what is bootstrapped and drawn.
      baselines: name -> the last part of the module that plays it, with `{task}`
        for the metric's own. The first stands in the main table; there are tests
        against all of them.
      paper: what a reader must know of the paper's numbers.
      has_best: whether the best seed stands beside the mean.
    """

    main: Mapping[str, str]
    baselines: Mapping[str, str]
    paper: str
    has_best: bool = False

    def fitted(self, schema: Schema) -> Layout:
        """The columns that a log can fill.

        Where a role's label is continuous MSE takes the place of AUC; where one label
        plays both roles the CVR's columns go.
        """
        tasks = {"ctr": schema.ctr, "cvr": schema.cvr, "ctcvr": schema.cvr}
        main = {}
        for metric, title in self.main.items():
            part, _, name = metric.partition(".")
            if name == "auc" and schema.task(tasks[part]).kind == "continuous":
                metric, title = f"{part}.mse", title.replace("AUC", "MSE")
            if part == "ctr" or schema.ctr != schema.cvr:
                main[metric] = title
        return self._replace(main=main)

    def as_json(self) -> dict:
        """For `table.json`, from which tables are drawn again."""
        return {
            "main": dict(self.main),
            "baselines": dict(self.baselines),
            "paper": self.paper,
            "has_best": self.has_best,
        }


LT4REC = Layout(
    main={"cvr.mse": "CVR MSE", "ctr.auc": "CTR AUC"},
    baselines={"base": "base_{task}", "hard": "hard_sharing"},
    paper="Paper: the authors' private data, so compare changes, not levels.",
)
DCRNN = Layout(
    main={"ctr.auc": "CTR AUC", "cvr.auc": "CVR AUC", "ctcvr.auc": "CTCVR AUC"},
    baselines={"mmoe": "mmoe", "matched": "mmoe_matched"},
    paper="CVR: among the rows with a CTR label; CTCVR: both labels, among all rows,"
    " where the paper's second AUC belongs, judging by its 4584 : 1. matched: the"
    " MMoE with as many parameters as the DCRNN. Paper: private data (Tables 1-3) or"
    " the whole of Ali-CCP (Table 4), so compare changes, not levels.",
)
