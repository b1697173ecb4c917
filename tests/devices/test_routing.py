"""Lookups and updates of split tables are those of one device, however ids crowd."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mesh_tables import DEVICES, IDS, OPTIMISERS, OWNED, draws

HERE = Path(__file__).parent
DRAWS = list(draws())


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """`adam-8` -> what training on 8 devices came to, and so on; `rounds-8`."""
    folder = tmp_path_factory.mktemp("tables")
    ours = os.environ.get("XLA_FLAGS", "")
    environment = os.environ | {
        "XLA_FLAGS": f"{ours} --xla_force_host_platform_device_count=8",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join(map(str, HERE.parents[:2])),
    }
    command = [sys.executable, HERE / "mesh_tables.py", folder]
    ended = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=600
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    return {path.stem: dict(np.load(path)) for path in folder.glob("*.npz")}


@pytest.mark.parametrize(
    ("name", "devices"), [(name, 8) for name in OPTIMISERS] + [("lazy_adam", 2)]
)
@pytest.mark.parametrize("draw", DRAWS)
def test_devices_look_up_and_update_like_one(results, name, devices, draw):
    """All rows and slots, after two steps and a pass over the table."""
    one, many = results[f"{name}-1"], results[f"{name}-{devices}"]
    parts = [part for part in one if part.startswith(f"{draw}/")]
    assert len(parts) >= 4 and one.keys() == many.keys()
    for part in parts:
        np.testing.assert_allclose(
            many[part], one[part], rtol=1e-4, atol=2e-5, err_msg=part
        )


@pytest.mark.parametrize("draw", DRAWS)
def test_a_step_moves_what_it_touched(results, draw):
    """What the comparison with one device could not tell: that something happened."""
    found = results["sgd-8"]
    touched = np.unique(draws()[draw])
    moved = np.flatnonzero((found[f"{draw}/rows"] != found["empty/rows"]).any(axis=1))
    np.testing.assert_array_equal(moved, touched[touched < len(found["empty/rows"])])
    assert found[f"{draw}/updates"] == 7 + 2 * (draw != "empty")


@pytest.mark.parametrize("devices", DEVICES[1:])
def test_one_round_is_enough_unless_distinct_ids_crowd_at_one_owner(results, devices):
    """An owner takes 2n / D distinct ids of a device's n in a round."""
    found = {draw: tuple(x) for draw, x in results[f"rounds-{devices}"].items()}
    one = ("uniform", "equal", "zipf", "few")
    assert {draw: found[draw] for draw in one} == dict.fromkeys(one, (1, 1))
    assert found["empty"] == (0, 0)
    n = IDS // devices
    parts = draws()["one owner"].reshape(devices, n)
    most = max(len(np.unique(part)) for part in parts)
    assert most <= len(OWNED)
    lookups = -(-most // (2 * n // devices))
    assert found["one owner"][0] == lookups and (lookups > 1) == (devices == 8)
    # Gradients wait until all devices that hold some of an id's have come to it.
    assert lookups <= found["one owner"][1] <= 2 * lookups
