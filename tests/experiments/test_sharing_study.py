"""The study of what tickets share: its numbers, its files, and its start."""

import contextlib
import json
import shutil
from unittest.mock import Mock

import jax
import numpy as np
import pytest
from conftest import assert_same_bits, run_quietly
from matplotlib.image import imread

from experiments import mask_overlap
from experiments.analysis.figures import sharing_figures
from experiments.lt4rec import (
    dense_matched,
    hard_sharing_trunk,
    s_weight,
    s_weight_reinitialised,
    sharing,
)
from experiments.running import joint
from experiments.settings import ablation, setup
from experiments.settings.config import Config, PruningConfig
from jaxmtl.data.store import prepare
from jaxmtl.sparsity import tickets
from jaxmtl.training.train_state import make_init

pytestmark = pytest.mark.end_to_end

FEED = "--data.feed.users 60 --data.feed.videos 60 --data.feed.impressions 3000"
NET = "--model.hidden 16 8 --model.embedding-dim 4 --model.init-scale 0.05"
TRAINING = "--training.batch-size 256 --training.epochs 2 --pruning.rounds 2"
TINY = f"{FEED} --data.feed.days 4 {NET} {TRAINING} --seeds 2 --no-report".split()
FIGURES = ("layers.png", "overlap.png", "fields.png", "cosine.png")


@pytest.fixture(scope="module")
def command(cache):
    def call(folder, *settings):
        paths = ("--data.cache", str(cache), "--workdir", str(folder))
        return run_quietly("lt4rec.sharing", *TINY, *paths, *settings)

    return call


@pytest.fixture(scope="module")
def finished(command, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sharing")
    code, text = command(folder)
    assert code == 0
    return folder, json.loads((folder / "sharing.json").read_text()), text


def test_the_study_leaves_its_numbers_and_figures(finished):
    folder, result, text = finished
    assert result["seeds"] == [0, 1] and result["data"] == "video_feed"
    for name in FIGURES:
        assert imread(folder / name).shape[0] > 200 and name in text
    markdown = (folder / "sharing.md").read_text()
    for title in (
        "How each layer's weights are used",
        "Cosine of the tasks' gradients",
    ):
        assert title in text and f"## {title}" in markdown
    assert "| s-weight, overlap " in markdown
    assert "Tuning: none" in text and "Tuning: none" in markdown


def test_parts_of_a_layer_sum_to_one_and_fit_the_overlap(finished):
    _, result, _ = finished
    assert list(result["parts"]) == ["shared/layer00/kernel", "shared/layer01/kernel"]
    for layer, seeds in result["parts"].items():
        ious = []
        for part in seeds:
            used = part["shared"] + sum(part["private"].values())
            assert used + part["dead"] == pytest.approx(1)
            ious.append(part["shared"] / used)
        assert result["overlap"]["layers"][layer]["values"] == pytest.approx(ious)


def test_dense_rounds_overlap_fully_and_later_ones_less(finished):
    _, result, _ = finished
    first, *later = result["overlap"]["tasks"]
    assert (first["density"], first["iou"], first["chance"]) == (1, 1, 1)
    chances = [round_["chance"] for round_ in later]
    assert chances == sorted(chances, reverse=True) and chances[0] < 1
    assert set(result["overlap"]["seeds"]) == {"ctr", "cvr"}
    # Between two seeds there is one pair.
    assert [len(p["values"]) for p in result["overlap"]["seeds"]["ctr"]] == [1, 1, 1]


def test_every_field_of_the_log_is_an_input(finished):
    _, result, _ = finished
    assert len(result["fields"]["ctr"]) == 20 + 2  # crosses, and the whole layer
    for by_input in result["fields"].values():
        for values in by_input.values():
            assert len(values) == 2 and all(0 <= value <= 1 for value in values)


def test_gradients_are_compared_from_the_start_on(finished):
    folder, result, _ = finished
    assert list(result["cosine"]) == ["s-weight", "hard sharing (trunk)"]
    for seeds in result["cosine"].values():
        for epochs in seeds:
            assert 2 <= len(epochs) <= 3  # the start, and each epoch
            for point in epochs:
                assert list(point) == ["overlap", "outside", "embeddings"]
                for region in point.values():
                    assert -1 <= region["mean"] <= 1 and 0 <= region["negative"] <= 1
    lines = [json.loads(x) for x in (folder / "metrics.jsonl").open()]
    assert {x["run"] for x in lines if x["phase"] == "joint"} == {
        "lt4rec.s_weight",
        "lt4rec.hard_sharing_trunk",
    }


def test_the_study_run_again_trains_nothing(finished, command, monkeypatch):
    folder, result, _ = finished

    def fail(*args, **kwargs):
        raise AssertionError("this should not train again")

    monkeypatch.setattr(joint, "train", fail)
    monkeypatch.setattr(tickets, "find", fail)
    before = (folder / "sharing.json").read_bytes()
    assert command(folder)[0] == 0
    assert (folder / "sharing.json").read_bytes() == before


def test_the_first_look_is_at_the_weights_that_training_starts_from(
    tmp_path, monkeypatch, schema
):
    """Those of an earlier run, where `--init-from` names one."""
    seen, config = [], Config()
    ready = joint.Ready("setup", {}, {})
    row = ablation.Ablation("m", ablation.Row("m"), config)
    data = Mock(schema=schema, splits={"train": None})
    start = Mock(return_value="started")
    measure = lambda snapshot, *_: seen.append(snapshot) or {"embeddings": [0.5]}
    monkeypatch.setattr(joint, "start", start)
    monkeypatch.setattr(joint, "prepare", lambda *_: ready)
    monkeypatch.setattr(joint, "train", lambda *_: None)
    monkeypatch.setattr(sharing.sharing, "regions", lambda masks: {})
    for name, fake in {
        "make_alignment": lambda *_: measure,
        "sample": lambda rows: None,
        "snapshot_of": lambda state: state,
    }.items():
        monkeypatch.setattr(sharing, name, fake)
    watch = Mock(training=lambda *_: contextlib.nullcontext())
    sharing.align((row, row), 3, data, tmp_path, watch)
    start.assert_called_once_with(config, data, "setup", 3)
    assert seen == ["started"]


def test_one_task_shares_with_nobody(command, tmp_path, capsys):
    code, _ = command(tmp_path, "--training.tasks", "ctr")
    assert code == 1
    assert "use pair or all" in capsys.readouterr().err


def test_tickets_of_runs_are_compared_layer_by_layer(finished, capsys):
    folder, result, _ = finished
    kept = mask_overlap.read(folder)
    assert set(kept) == {("0", "ctr"), ("0", "cvr"), ("1", "ctr"), ("1", "cvr")}
    runs = {"a": kept, "b": {key: kept[key] for key in [("1", "ctr")]}}
    found = mask_overlap.compare(runs)
    assert [one["layer"] for one in found] == list(result["parts"])
    assert all(one["iou"] == 1 and one["seeds"] == 1 for one in found)
    assert mask_overlap.main([str(folder), str(folder)]) == 1  # one run, not two
    assert "in common" in capsys.readouterr().err


def test_runs_whose_folders_share_a_name_are_two(finished, tmp_path, capsys):
    folders = [tmp_path / name / "run" for name in ("one", "other")]
    for folder in folders:
        folder.mkdir(parents=True)
        for name in ("masks.npz", "config.json"):
            shutil.copy(finished[0] / name, folder)
    assert mask_overlap.main([*map(str, folders)]) == 0
    said = capsys.readouterr().out
    assert all(str(folder) in said for folder in folders)


def test_a_folder_without_masks_is_refused_by_name(tmp_path, capsys):
    (tmp_path / "config.json").write_text('{"data": {"name": "x"}}')
    assert mask_overlap.main([str(tmp_path)]) == 1
    assert "holds no masks.npz; run lt4rec.sharing" in capsys.readouterr().err


def test_a_gradient_that_is_zero_leaves_a_gap_in_the_figure(tmp_path):
    nothing = {"mean": None, "negative": None}
    known = {"mean": 0.1, "negative": 0.25}
    rows = {
        "s-weight": [[{"overlap": known}, {"overlap": nothing}], [{"overlap": known}]],
        "hard sharing (trunk)": [[{"overlap": nothing}]],
    }
    sharing_figures.cosine_figure(rows, tmp_path / "cosine.png")
    assert imread(tmp_path / "cosine.png").std() > 0


def test_a_dense_net_of_the_tickets_size_is_narrower_by_one_factor(schema):
    config = ablation.set_up("lt4rec.dense_matched", "paper")
    narrow = dense_matched.resize(dense_matched.configure(config), schema).model.hidden
    ratios = np.divide(config.model.hidden, narrow)
    assert ratios.min() > 1 and ratios.max() / ratios.min() < 1.05


@pytest.mark.parametrize("masks", ["swapped", "ctr"])
def test_exchanging_tickets_takes_two_tasks(masks):
    config = Config(pruning=PruningConfig(masks=masks))
    config.check()
    training = ablation.set_up("lt4rec.base_ctr", "demo").training
    alone = ablation.load("lt4rec.base_ctr").configure(Config(training=training))
    alone = type(config)(training=alone.training, pruning=config.pruning)
    with pytest.raises(ValueError, match="exchanges tickets between tasks"):
        alone.check()


@pytest.fixture
def starts(log, cache):
    """row module -> the net that its joint training starts from."""
    data = prepare("tiny-start", {}, lambda: log, cache, say=lambda text: None)

    def start(module):
        config = module.configure(ablation.set_up("lt4rec.s_weight", "demo"))
        pair = setup.task_names(config, data.schema)
        prepared = setup.make_setup(config, data, pair)
        return prepared, joint.start(config, data, prepared, 7)

    return start


def test_a_reinitialised_ticket_starts_from_weights_it_was_not_found_with(starts):
    prepared, found = starts(s_weight)
    assert_same_bits(found.net, make_init(prepared)(jax.random.key(7)).net)
    assert_same_bits(found.net, starts(hard_sharing_trunk)[1].net)
    _, fresh = starts(s_weight_reinitialised)
    for name in ("layer00", "layer01"):
        ours, theirs = (s.net["shared"][name]["kernel"] for s in (found, fresh))
        assert not (np.asarray(ours) == np.asarray(theirs)).any()
    rows = [np.asarray(s.tables["shared"].rows) for s in (found, fresh)]
    assert (rows[0] != rows[1]).any()
