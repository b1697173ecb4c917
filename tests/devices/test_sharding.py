"""A training is the same however many devices and processes it is split over.

The trainings themselves run in processes of their own (`mesh_training.py`): the number
of devices is settled when a process first asks for one.
"""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import make_rows
from hypothesis import given, settings
from hypothesis import strategies as st
from mesh_training import TABLE_ROWS

from experiments import run
from experiments.benchmarks import scaling
from experiments.running import hosts
from experiments.settings.config import MeshConfig
from jaxmtl.data.batches import Plan
from jaxmtl.devices import distributed, sharding
from jaxmtl.types import Task

TOLERANCE = {"float64": 1e-9, "float32": 1e-4}
"""Over 100 steps, 20 in float32 and under balancers."""
HERE = Path(__file__).parent


def begin(devices: int, *arguments: object) -> subprocess.Popen:
    """A process of `mesh_training.py`, with so many devices."""
    ours = os.environ.get("XLA_FLAGS", "")
    environment = os.environ | {
        "XLA_FLAGS": f"{ours} --xla_force_host_platform_device_count={devices}",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join(map(str, HERE.parents[:2])),
    }
    command = [sys.executable, HERE / "mesh_training.py", *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, env=environment, stdout=pipe, stderr=pipe, text=True
    )


def end(*processes: subprocess.Popen) -> None:
    try:
        for process in processes:
            _, errors = process.communicate(timeout=600)
            assert process.returncode == 0, errors[-3000:]
    finally:
        for process in processes:
            process.kill()


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """name -> what a training came to; two hosts save what 1 and 8 devices go on with.

    `lt4rec-float64-8` is the training on 8 devices, and so on.
    """
    folder = tmp_path_factory.mktemp("trainings")
    (folder / "other").mkdir()
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    end(*(begin(2, "host", folder, port, number) for number in (0, 1)))
    end(begin(8, "devices", folder))
    return {path.stem: dict(np.load(path)) for path in folder.glob("*.npz")}


def assert_same(got, expected, tolerance):
    assert got.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(
            got[name], array, rtol=0, atol=tolerance, err_msg=name
        )


@pytest.mark.parametrize(
    ("model", "precision", "devices"),
    [
        ("lt4rec", "float64", 2),
        ("lt4rec", "float64", 8),
        ("lt4rec", "float32", 8),
        ("dcrnn", "float64", 2),
        ("dcrnn", "float64", 8),
        ("pcgrad", "float64", 8),
        ("gradnorm", "float64", 8),
    ],
)
def test_devices_split_a_training_without_a_trace(results, model, precision, devices):
    """Of all losses, parameters and moments, what a balancer keeps too."""
    one = results[f"{model}-{precision}-1"]
    rows = one["['state'].tables['shared'].rows"]
    assert rows.dtype == precision and rows.shape == (TABLE_ROWS, 4)
    many = results[f"{model}-{precision}-{devices}"]
    assert_same(many, one, TOLERANCE[precision])


def test_two_hosts_of_two_devices_train_like_one_device(results):
    assert_same(results["hosts"], results["lt4rec-float64-1"], TOLERANCE["float64"])


@pytest.mark.parametrize("devices", [1, 8])
def test_progress_saved_by_four_devices_goes_on_with_any_number(results, devices):
    resumed = results[f"resumed-{devices}"]
    assert_same(resumed, results["lt4rec-float64-1"], TOLERANCE["float64"])


@pytest.mark.parametrize("devices", [1, 8])
def test_checkpoint_of_four_devices_comes_back_on_any_number(results, devices):
    rows = results[f"restored-{devices}"]["shared"]
    np.testing.assert_array_equal(
        rows, results["hosts"]["['state'].tables['shared'].rows"]
    )


def test_a_checkpoint_of_tables_that_are_split_is_refused(results):
    assert "portable.of" in str(results["refused"]["says"])


def test_devices_predict_like_one(results):
    assert {"click", "watch"} <= set(results["predicted-1"])
    assert_same(results["predicted-8"], results["predicted-1"], TOLERANCE["float64"])


def test_a_training_starts_from_the_same_bits_on_any_number_of_devices(results):
    assert_same(results["start-8"], results["start-1"], 0)


def test_no_device_ever_holds_a_whole_table(results):
    """Of all arrays in the compiled epoch, forward, backward and update."""
    sizes = set(results["shapes"]["sizes"])
    part = -(-TABLE_ROWS // 8)
    assert part in sizes
    assert not sizes & {TABLE_ROWS, 8 * part}


def test_one_device_needs_no_mesh():
    assert sharding.make_mesh(1) is None
    assert jax.device_count() == 1 and sharding.make_mesh(0) is None
    tree = {"a": jnp.ones(3)}
    assert sharding.copy_to_all(None, tree) is tree


@pytest.mark.parametrize("devices", [-1, 2])
def test_more_devices_than_there_are_is_refused(devices):
    with pytest.raises(ValueError, match=rf"mesh of {devices} devices.*there are 1"):
        sharding.make_mesh(devices)


class FakeMesh:
    """What the arithmetic needs of a mesh of several devices."""

    def __init__(self, size):
        self.size = size


def test_batch_that_does_not_divide_names_the_next_that_does():
    sharding.check_divides(104, FakeMesh(8))
    sharding.check_divides(101, None)
    message = "a batch of 100 rows does not divide over 8 devices; use 104"
    with pytest.raises(ValueError, match=message):
        sharding.check_divides(100, FakeMesh(8))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 20), st.integers(5, 60))
def test_devices_change_nothing_of_a_batch_but_its_empty_slots(devices, batch_size):
    rows, tasks = make_rows(90, seed=0), {"click": Task("click")}
    one = Plan(rows, tasks, batch_size)
    many = Plan(rows, tasks, batch_size, devices=devices)
    assert many.steps == one.steps and many.sizes["click"] % devices == 0
    for a, b in zip(one.orders(0, 1)["click"], many.orders(0, 1)["click"], strict=True):
        np.testing.assert_array_equal(a[a >= 0], b[b >= 0])


@pytest.mark.parametrize(
    ("given_", "says"),
    [
        (("host:1", 2, None), "process None: give all three"),
        ((None, None, 1), "give all three"),
        (("host:1", 2, 2), "process 2 of 2.*from 0 to 1"),
    ],
)
def test_start_with_half_the_flags_is_refused(given_, says):
    with pytest.raises(ValueError, match=says):
        distributed.start(*given_)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (MeshConfig(processes=2), "--mesh.devices 0"),
        (MeshConfig(0, cluster=True, coordinator="host:1"), "one of them"),
    ],
)
def test_flags_of_a_run_that_contradict_each_other_are_refused(config, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        hosts.start(config)


def test_bytes_of_a_compiled_program_are_those_its_collectives_send():
    """Of 4 devices: 3/4 of what is routed or gathered, and 6/4 of what is summed."""
    program = """
      %gathered = s32[8]{0} all-gather(%reached), dimensions={0}
      %own = f32[4,2,5]{2,1,0} all-to-all(%rows), dimensions={0}
      %summed = (f32[10]{0}, f32[]) all-reduce(%kernel, %loss), to_apply=%add
      %routed = (s32[1,2]{1,0}, s32[1,2]{1,0}) all-to-all(%x, %y)
      %other = bf16[3]{0} collective-permute(%x)
      %used = f32[10]{0} add(f32[10]{0} %kernel, f32[10]{0} %all-gather)
    """
    assert scaling.sent(program, 4) == scaling.Sent(
        rows=3 / 4 * (8 * 4 + 4 * 2 * 5 * 4 + 2 * 2 * 4),
        net=6 / 4 * (40 + 4),
        other=6,
    )


def test_one_process_writes_and_decides_for_itself(tmp_path):
    assert distributed.is_first()
    assert distributed.any_of_all(True, False) == (True, False)


def test_command_line_refuses_a_mesh_that_is_not_there(capsys):
    assert run.main(["lt4rec.base_ctr", "--mesh.devices", "5"]) == 1
    assert "a mesh of 5 devices, but there are 1" in capsys.readouterr().err
