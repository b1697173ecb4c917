"""Every notebook runs from top to bottom, in one kernel, on tiny settings."""

import json
from pathlib import Path

import nbformat
import pytest
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient

pytestmark = pytest.mark.end_to_end

FOLDER = Path(__file__).parents[1] / "notebooks"
FEED = (
    "--seeds 1 --data.feed.users 60 --data.feed.videos 60 --data.feed.impressions 3000"
    " --data.feed.days 4 --model.hidden 16 8 --model.embedding-dim 4"
    " --training.batch-size 256 --training.epochs 1 --pruning.rounds 1"
    " --pruning.epochs 1 --no-report"
)
LOG = (
    "--seeds 1 --model.embedding-dim 4 --model.dcrnn.hidden 4 --model.dcrnn.length 2"
    " --model.dcrnn.interval 1 --training.batch-size 128 --training.epochs 1"
    " --no-report"
)
SMALL_WORLD = "users = videos = 60\nimpressions = 3000\nbatch_size = 256\nepochs = 1"
TINY = {
    # First, as it sets the number of devices, which must come before any array.
    "scaling": "batch_size = 64\nimpressions = 1000\nwidth = 64",
    # Of the table two rows: the others train in test_experiments.py.
    "quickstart": f"""settings = {FEED.split()}
from experiments.lt4rec import base_cvr, s_weight, table2
table2.ROWS = (base_cvr, s_weight)""",
    "lottery_ticket": f"{SMALL_WORLD}\nhidden = (16, 8)\nrounds = 1",
    "dcrnn_interval": f"{SMALL_WORLD}\nlength = 2\nhidden = 4\nintervals = (0, 2)"
    "\nseeds = (0,)",
    "own_ablation": f"settings = {FEED.split()}",
    "own_log": f"rows = 1500\nsettings = {LOG.split()}",
}
"""What stands in for the values of each notebook's parameters cell."""
SAID = {
    "quickstart": ("s-weight", "oracle"),
    "lottery_ticket": (
        "rewound to the same bits: True",
        "weights of neither ticket never moved: True",
    ),
    "dcrnn_interval": ("I = 0 and I = L agree to the bit: True",),
    "own_ablation": ("lt4rec.two_passes |", "s-weight, two passes"),
    "own_log": ("feature 'stay'", "status 1"),
    "scaling": ("as on one device: True", "'all-reduce'"),
}
"""What each must show, beside its figures."""


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    """One kernel: importing JAX and the library costs more than most notebooks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXMTL_CACHE", str(tmp_path_factory.mktemp("cache")))
        manager = KernelManager(kernel_name="python3")
        manager.start_kernel()
    yield manager
    manager.shutdown_kernel(now=True)


def run(name: str, kernel: KernelManager, folder: Path) -> str:
    """Runs a notebook with the tiny values in a fresh namespace; what it shows."""
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    (at,) = [
        i
        for i, cell in enumerate(notebook.cells)
        if "parameters" in cell.metadata.get("tags", ())
    ]
    notebook.cells.insert(at + 1, nbformat.v4.new_code_cell(TINY[name]))
    fresh = f"%reset -f\n%cd -q {folder}\n%matplotlib inline"
    notebook.cells.insert(0, nbformat.v4.new_code_cell(fresh))
    NotebookClient(notebook, km=kernel, timeout=300).execute()
    outputs = [o for cell in notebook.cells for o in cell.get("outputs", ())]
    assert any("image/png" in o.get("data", {}) for o in outputs), "no figure"
    return "\n".join(
        o.get("text", "") + str(o.get("data", {}).get("text/markdown", ""))
        for o in outputs
    )


@pytest.mark.parametrize("name", TINY)
def test_notebook_runs_and_shows_its_figures(name, kernel, tmp_path):
    shown = run(name, kernel, tmp_path)
    for text in SAID[name]:
        assert text in shown, f"{name} no longer shows {text!r}"


def test_every_notebook_is_run():
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(TINY)


@pytest.mark.parametrize("name", TINY)
def test_notebook_is_small_carries_no_outputs_and_opens_on_colab(name):
    path = FOLDER / f"{name}.ipynb"
    content = json.loads(path.read_text(encoding="utf-8"))
    code = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)
    assert path.stat().st_size < 60_000
    title = "".join(content["cells"][0]["source"])
    assert "colab-badge.svg)](https://colab.research.google.com/github/" in title
    assert f"/blob/main/notebooks/{name}.ipynb)" in title
    assert "find_spec" in "".join(code[0]["source"])
