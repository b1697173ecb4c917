"""Every notebook runs from top to bottom."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
TINY = (
    "--seeds 1 --data.feed.users 60 --data.feed.videos 60 --data.feed.impressions 3000"
    " --data.feed.days 4 --model.hidden 16 8 --model.embedding-dim 4"
    " --training.batch-size 256 --training.epochs 1 --pruning.rounds 2"
    " --pruning.epochs 1"
)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_and_shows_its_figures(path, tmp_path, monkeypatch):
    monkeypatch.setenv("JAXMTL_QUICKSTART", TINY)
    monkeypatch.setenv("JAXMTL_WORKDIR", str(tmp_path / "run"))
    monkeypatch.setenv("JAXMTL_CACHE", str(tmp_path / "cache"))
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": tmp_path}}
    )
    client.execute()
    outputs = [o for cell in notebook.cells for o in cell.get("outputs", ())]
    assert not [o for o in outputs if o.output_type == "error"]
    assert sum("image/png" in o.get("data", {}) for o in outputs) >= 3
    assert not any(cell.get("outputs") for cell in nbformat.read(path, 4).cells)
