"""A trained row is exported by one command and measured by another."""

import contextlib
import csv
import io
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments import export, run
from experiments.benchmarks import command, latency
from experiments.benchmarks import serving as benchmark
from experiments.lt4rec import serving as study
from experiments.settings.config import Config
from jaxmtl import score, sealed
from jaxmtl.serving import bundle, sparse

pytestmark = pytest.mark.end_to_end

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_log"
FEED = "--data.feed.users 60 --data.feed.videos 60 --data.feed.impressions 3000"
ONCE = "--training.epochs 1 --pruning.rounds 1 --pruning.epochs 1"
NET = "--model.embedding-dim 2 --model.hidden 6 4 --training.batch-size 512"
TINY = (
    f"{FEED} --data.feed.days 4 --data.feed.history 3000 {ONCE} {NET} --seeds 1".split()
)


def quietly(command, *argv: str) -> str:
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        assert command([*map(str, argv)]) == 0
    return output.getvalue()


@pytest.fixture(scope="module")
def trained(tmp_path_factory, cache):
    """A work directory of the study, trained and measured."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study, "REPEATS", 5)
        patch.setattr(study, "BATCHES", (8,))
        patch.setattr(study, "CHUNK", 1024)  # more than the test has
        patch.setattr(study, "ROWS", (study.base_ctr, study.s_neuron))
        places = ("--workdir", folder, "--data.cache", cache)
        quietly(run.main, "lt4rec.serving", *TINY, *places)
    return folder


def test_every_form_of_every_subnetwork_is_measured_and_scores_alike(trained):
    found = json.loads((trained / "serving.json").read_text())
    lines = found["subnetworks"]
    forms = ["dense", "small", "host, chosen", "host, CSR", "XLA, BCSR"]
    seen = [(line["row"], line["task"], line["form"]) for line in lines]
    tickets = [
        ("s-neuron", task, form) for task in ("click", "watch") for form in forms
    ]
    assert seen == [("base ctr", "click", "dense"), *tickets]
    for line in lines:
        assert line["difference"] < 1e-5
        assert line["bytes"] > 0 and line["memory"] > line["bytes"]
        assert set(line["latency"]) == {"8"}
    dense = {(n["row"], n["task"]): n for n in lines if n["form"] == "dense"}
    for line in lines:
        assert line["value"] == pytest.approx(
            dense[line["row"], line["task"]]["value"], abs=1e-4
        )
        if line["form"] == "small":
            assert (
                line["multiply_adds"]
                <= dense[line["row"], line["task"]]["multiply_adds"]
            )


def test_the_bundle_is_smaller_than_the_models_it_replaces_nets_and_tables(trained):
    lines = json.loads((trained / "serving.json").read_text())["bundles"]
    sizes = {(line["tasks"], line["form"]): line for line in lines}
    single, shared = sizes[2, "single tasks, dense"], sizes[2, "s-neuron"]
    assert shared["tables"] == single["tables"] / 2
    assert shared["nets"] < single["nets"]
    text = (trained / "serving.md").read_text()
    assert "| s-neuron |" in text and "nets, KB" in text


def test_a_row_is_exported_checked_and_scored(trained, cache, tmp_path, capsys):
    row, out = trained / "rows" / "lt4rec.s_neuron", tmp_path / "out"
    said = quietly(export.main, row, "--out", out, "--cache", cache)
    assert "tasks click, watch" in said and "rows of the test score as in" in said
    scores = tmp_path / "scores.csv"
    quietly(score.main, out, out / "sample.csv", "--out", scores)
    with np.load(row / "seed0" / "predictions.npz") as kept:
        with scores.open() as file:
            lines = list(csv.DictReader(file))
        assert set(lines[0]) == set(kept.files)
        for name in kept.files:
            got = np.array([line[name] for line in lines], np.float32)
            np.testing.assert_allclose(got, kept[name][: len(got)], atol=1e-5)


def test_a_row_becomes_onnx_where_the_converter_is_installed(trained, cache, tmp_path):
    for name in ("jax2onnx", "onnxruntime"):
        pytest.importorskip(name, reason="the extra onnx is not installed")
    row, out = trained / "rows" / "lt4rec.s_neuron", tmp_path / "out"
    said = quietly(export.main, row, "--out", out, "--cache", cache, "--onnx")
    assert "model.onnx" in said  # and its scores of the test are the run's
    bundle.verify(out)


def test_without_the_converter_the_extra_is_named(
    trained, cache, tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    row, out = trained / "rows" / "lt4rec.s_neuron", tmp_path / "out"
    arguments = [str(row), "--out", str(out), "--cache", str(cache), "--onnx"]
    assert export.main(arguments) == 1
    assert "pip install 'jaxmtl[onnx]'" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("change", [0.01, np.nan])
def test_a_run_whose_predictions_differ_is_not_exported(
    trained, cache, tmp_path, capsys, change
):
    copy = tmp_path / "run"
    shutil.copytree(trained, copy)
    row = copy / "rows" / "lt4rec.s_neuron"
    path = row / "seed0" / "predictions.npz"
    with np.load(path) as kept:
        changed = {name: kept[name] + np.float32(change) for name in kept.files}
    np.savez(path, **changed)
    about = json.loads((row / "seed0" / "seed.json").read_text())
    about["sha256"][path.name] = sealed.digest(path)  # as if it had trained otherwise
    (row / "seed0" / "seed.json").write_text(json.dumps(about))
    out = tmp_path / "out"
    arguments = [str(row), "--out", str(out), "--cache", str(cache)]
    assert export.main(arguments) == 1
    assert "predictions of the test differ from the run's" in capsys.readouterr().err
    assert not out.exists()


def test_settings_of_another_version_are_refused_by_name(cache):
    held = {"model": {"dcrnn": {"lenght": 3}}}
    with pytest.raises(ValueError, match=r"holds model\.dcrnn\.lenght, which this"):
        export.config_from_json({"name": "video_feed"}, held, cache)


def test_a_configuration_comes_back_from_what_a_run_holds(trained, cache):
    held = json.loads((trained / "config.json").read_text())
    row = held["rows"]["lt4rec.s_neuron"]
    config = export.config_from_json(held["data"], row, cache)
    assert isinstance(config, Config)
    assert config.model.hidden == (6, 4) and config.pruning.unit == "neuron"
    assert config.data.feed.users == 60 and config.data.cache == cache


def test_a_log_of_ones_own_is_served_from_its_raw_file(cache, tmp_path):
    log = f"--data.name own_log --data.path {EXAMPLE / 'log.csv'}"
    log += f" --data.schema {EXAMPLE / 'schema.toml'} --data.cache {cache}"
    settings = f"{ONCE} {NET} --seeds 1 --training.batch-size 64 {log}".split()
    folder, out = tmp_path / "run", tmp_path / "out"
    quietly(run.main, "lt4rec.base_ctr", *settings, "--workdir", folder)
    quietly(export.main, folder, "--out", out, "--cache", cache)
    scores = tmp_path / "scores.csv"
    quietly(score.main, out, EXAMPLE / "log.csv", "--out", scores)
    with scores.open() as file:
        got = np.array([line["click"] for line in csv.DictReader(file)], np.float32)
    (predictions,) = folder.glob("rows/*/seed0/predictions.npz")
    with np.load(predictions) as kept:
        # Split by time: the test is the end of a file that is in order of time.
        np.testing.assert_allclose(got[-len(kept["click"]) :], kept["click"], atol=1e-6)


def test_a_run_with_an_allowed_leak_is_exported(cache, tmp_path):
    """Its training judged the log; what it allowed is no part of its settings."""
    lines = (EXAMPLE / "log.csv").read_text().splitlines()
    click = lines[0].split(",").index("click")
    # So few rows would prove nothing: each stands there several times.
    leaked = [f"{line},{line.split(',')[click]}" for line in 8 * lines[1:]]
    (tmp_path / "log.csv").write_text("\n".join([f"{lines[0]},clicks", *leaked]))
    schema = (EXAMPLE / "schema.toml").read_text()
    schema = schema.replace("hour = {}", "hour = {}\nclicks = {}")
    (tmp_path / "schema.toml").write_text(schema)
    log = f"--data.name own_log --data.path {tmp_path / 'log.csv'} --data.cache {cache}"
    log += f" --data.schema {tmp_path / 'schema.toml'} --data.allow-leaks clicks"
    settings = f"{ONCE} {NET} --seeds 1 --training.batch-size 64 {log}".split()
    folder, out = tmp_path / "run", tmp_path / "out"
    quietly(run.main, "lt4rec.base_ctr", *settings, "--workdir", folder)
    said = quietly(export.main, folder, "--out", out, "--cache", cache)
    assert "rows of the test score as in the run" in said


# The benchmark


def test_the_benchmark_times_every_form_and_each_agrees(monkeypatch, capsys):
    options = benchmark.Options(20, (8, 6), batches=(4,), repeats=5)
    for name in ("torch", "onnxruntime", "onnx"):
        monkeypatch.setitem(sys.modules, name, None)
    command.run("serving", benchmark.measure, options, "")
    said = capsys.readouterr().out
    assert said.count("weight ticket, all CSR") == 1
    assert "torch is not installed" in said and "target 2.5x" in said
    runs = benchmark.contenders(options, 4)
    tickets = [run for name, run in runs.items() if name.startswith("weight ticket")]
    first, *others = [np.asarray(run()) for run in tickets]
    for other in others:
        np.testing.assert_allclose(other, first, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["torch", "onnxruntime"])
def test_a_peer_runs_the_same_net(name):
    options = benchmark.Options(20, (8, 6))
    layers = benchmark.make_layers(options)
    vector = np.random.default_rng(0).normal(size=(5, 20)).astype(np.float32)
    try:
        peer = getattr(benchmark, f"by_{name}")(layers, vector)
    except ImportError as error:
        pytest.skip(f"{name} is not installed: {error}")
    chain = benchmark.whole(layers)
    want = sparse.make_host(chain, ["dense"] * 3)(vector)
    np.testing.assert_allclose(peer(), want, rtol=1e-4, atol=1e-5)


def test_a_neuron_ticket_keeps_its_share_of_the_weights():
    options = benchmark.Options(40, (32, 16))
    layers = benchmark.make_layers(options)
    ticket = benchmark.neuron_ticket(layers, 0.2)
    size = lambda layers: sum(np.count_nonzero(kernel) for kernel, _ in layers[:-1])
    assert 0.15 * size(layers) < size(ticket) <= 0.2 * size(layers)


def test_runs_take_turns_and_are_waited_for():
    seen = []
    runs = {name: (lambda name=name: seen.append(name)) for name in "ab"}
    times = latency.in_turns(runs, 5)
    assert seen == [*"ab", *("aabb" * 5)]
    for one in times.values():
        assert 0 <= one.best <= one.median <= one.p99
